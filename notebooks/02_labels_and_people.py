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
# # What are the 18 classes made of, and what may a fold be drawn over?
#
# mask x gender x age group: easy, fairly easy, hard. And seven photos of a person are not seven people.

# %%
# %matplotlib inline
from pathlib import Path

import pandas as pd

from maskfold.data.folds import largest_share_difference
from maskfold.inference.cache import prepared_of
from maskfold.labels import AGE_BORDERS, AGE_GROUPS, CLASS_NAMES, age_group
from maskfold.loading.store import open_store
from maskfold.metrics.bootstrap import compare
from maskfold.metrics.scores import scores
from maskfold.report.eda import age_figure, class_figure, nearest_neighbour_leakage
from maskfold.runs.run_folder import RunFolder, find_run

# Another run, and with it another data set: put its folder here.
run = RunFolder(find_run(Path("../runs/demo")))
prepared = prepared_of(run)
images, people = prepared.images, prepared.people

# %% [markdown]
# ## The 18 classes and their imbalance
#
# Macro F1 is the plain mean over them: the rarest class counts as much as the most frequent.

# %%
class_figure(images.label.to_numpy())

# %%
counts = images.label.value_counts().reindex(range(len(CLASS_NAMES)), fill_value=0)
print(f"the most frequent class has {counts.max() / max(counts.min(), 1):.0f} times the photos of the rarest")

# %% [markdown]
# ## Ages, and the border at 60
#
# Everybody of the oldest group has the same age in the competition's table: the class begins where the data ends, one
# year beside its neighbours.

# %%
age_figure(people)

# %%
groups = pd.crosstab(people.gender, pd.Series(age_group(people.age), index=people.index, name="group"))
groups = groups.rename(columns=dict(enumerate(AGE_GROUPS)))
near = sum((people.age - border).between(-1, 0).sum() for border in AGE_BORDERS)
print(f"{near} of {len(people)} people are within a year of a border")
groups

# %% [markdown]
# ## What folds over photos leak
#
# The same answer, the label of the most alike training thumbnail, scored by two ways to draw folds. Over photos, a
# person's other photos are there to be found: nothing was learned but who somebody is.

# %%
store = open_store(prepared, images, run.config.data)
answers = nearest_neighbour_leakage(prepared, store)
ways = [name for name in answers if name != "label"]
pd.DataFrame({way: scores(answers.label, answers[way]) for way in ways}).round(4)

# %%
found = compare(answers.label, answers[ways[0]], answers[ways[1]], images.person_id)
low, high = found.ci95
print(f"{ways[0]} flatter by {found.difference:.3f} macro F1, 95 % [{low:.3f}, {high:.3f}], {found.people} people")
assert found.difference > 0

# %% [markdown]
# ## Are the folds alike?

# %%
print(f"a class' share differs between folds by at most {largest_share_difference(images, people):.1%}")
pd.crosstab(people.fold, [people.gender, age_group(people.age)])

# %% [markdown]
# ## The decision
#
# - Folds are over people, stratified by gender x age group, drawn once and kept (`src/maskfold/data/folds.py`); that no
#   person is on both sides is checked at every use.
# - The score is the organisers' macro F1 over whole arrays, with intervals from resampling people
#   (`src/maskfold/metrics/scores.py`, `src/maskfold/metrics/bootstrap.py`).
# - The ages at the borders can't be told from a photo: a head that spreads an age over its neighbours is there to be
#   tried (`model.head: factored`, `src/maskfold/models/heads.py`), and so is a sampler that shows each class alike
#   often (`src/maskfold/loading/sampler.py`); EXPERIMENTS.md says what they gain.
