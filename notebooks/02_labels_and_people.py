# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Labels and folds
#
# How frequent are the 18 classes, and why are folds over people instead of photos? The mask is easy to recognise, the
# gender fairly easy, and the age group hard. Seven photos of one person are not independent.

# %%
# %matplotlib inline
from pathlib import Path

import pandas as pd

from maskfold.data.folds import largest_share_difference
from maskfold.labels import AGE_BORDERS, AGE_GROUPS, CLASS_NAMES, age_group
from maskfold.loading.store import open_store
from maskfold.metrics.paired_comparison import compare
from maskfold.metrics.scores import scores
from maskfold.report.eda import age_figure, class_figure, nearest_neighbour_leakage
from maskfold.runs.run_data import prepared_of
from maskfold.runs.run_folder import RunFolder, find_run

# For another run and its data set, put its folder here.
run = RunFolder(find_run(Path("../runs/demo")))
prepared = prepared_of(run)
images, people = prepared.images, prepared.people

# %% [markdown]
# ## Class distribution
#
# Macro F1 is the unweighted mean of the F1 scores of the classes, so the rarest class counts as much as the most
# frequent one.

# %%
class_figure(images.label.to_numpy())

# %%
counts = images.label.value_counts().reindex(range(len(CLASS_NAMES)), fill_value=0)
print(f"the most frequent class has {counts.max() / max(counts.min(), 1):.0f} times the photos of the rarest")

# %% [markdown]
# ## Ages
#
# In the competition's table everybody in the oldest group is exactly 60 years old, so this group is only one year away
# from the next one.

# %%
age_figure(people)

# %%
groups = pd.crosstab(people.gender, pd.Series(age_group(people.age), index=people.index, name="group"))
groups = groups.rename(columns=dict(enumerate(AGE_GROUPS)))
near = sum((people.age - border).between(-1, 0).sum() for border in AGE_BORDERS)
print(f"{near} of {len(people)} people are within a year of a border")
groups

# %% [markdown]
# ## Leakage with folds over photos
#
# The same classifier, which predicts the label of the most similar training thumbnail, scored with two kinds of folds.
# With folds over photos the training set contains other photos of the same person, so the classifier only has to
# recognise people.

# %%
store = open_store(prepared, images, run.config.data)
pred_labels = nearest_neighbour_leakage(prepared, store)
kinds = [name for name in pred_labels if name != "label"]
pd.DataFrame({kind: scores(pred_labels.label, pred_labels[kind]) for kind in kinds}).round(4)

# %%
bias = compare(pred_labels.label, pred_labels[kinds[0]], pred_labels[kinds[1]], images.person_id)
low, high = bias.ci95
print(f"{kinds[0]}: macro F1 {bias.difference:.3f} too high, 95 % [{low:.3f}, {high:.3f}], {bias.num_people} people")
assert bias.difference > 0

# %% [markdown]
# ## Class shares of the folds

# %%
difference = largest_share_difference(images, people)
print(f"the share of a class differs between folds by at most {difference:.1%} of its largest share")
pd.crosstab(people.fold, [people.gender, age_group(people.age)])

# %% [markdown]
# ## The decision
#
# - Folds are over people, stratified by gender x age group, made once and kept (`src/maskfold/data/folds.py`). Every
#   use checks that no person is in training and validation.
# - The score is the organisers' macro F1 over whole arrays, with intervals from resampling people
#   (`src/maskfold/metrics/scores.py`, `src/maskfold/metrics/bootstrap.py`).
# - Ages close to a border of the age groups cannot be recognised in a photo. Two options address this: a head that
#   predicts a distribution over ages (`model.head: factored`, `src/maskfold/models/heads.py`) and class-balanced
#   sampling (`src/maskfold/loading/sampler.py`). EXPERIMENTS.md has their gains.
