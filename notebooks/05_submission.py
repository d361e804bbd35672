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
# # Which submission should be made, and what will it score?
#
# Ten submissions a day are too few to choose by, and choosing by the public board overfits it. All is chosen
# out-of-fold, and scored on people that nothing was fitted on.

# %%
# %matplotlib inline
from pathlib import Path

import pandas as pd

from maskfold.evaluation.members import decision_sentence, print_blends
from maskfold.evaluation.score_tables import gain_sentence, interval
from maskfold.evaluation.tta_report import print_tta_report
from maskfold.inference.blend import blend_runs
from maskfold.inference.ensemble_gain import load_gain
from maskfold.labels import CLASS_NAMES
from maskfold.metrics.bootstrap import compare, intervals
from maskfold.metrics.confusion import confusion_matrices
from maskfold.metrics.scores import macro_f1
from maskfold.pages.figures import confusion_matrix
from maskfold.runs.run_folder import RunFolder, find_run
from maskfold.runs.summary import summarise

# Other runs, or several: put their folders here.
runs = [RunFolder(find_run(Path("../runs/demo")))]

# %% [markdown]
# ## What one fold's model scores, and what to expect of a new set
#
# board95: of a set as large as the eval side. A single score inside it says nothing against the local one.

# %%
summary = summarise(runs[0])
whole = summary["oof"]
print(f"out-of-fold {whole['macro_f1']:.4f} {interval(whole['macro_f1_ci95'])}")
print(f"board95 {interval(whole['board95'])}, half of it {interval(whole['board_half95'])}")
print(gain_sentence(load_gain([runs[0]]), len(summary["folds"])))

# %% [markdown]
# ## Is a second view worth it?

# %%
print_tta_report(runs, ["none", "hflip"])

# %% [markdown]
# ## How should members be joined?
#
# The mean, weights chosen for the log loss, or by greedy selection: each cross-fitted over people. Of a single run they
# differ by its temperature alone.

# %%
blend = blend_runs(runs, ("none", "hflip"))
labels, people = blend.oof.label, blend.oof.person_id
print_blends(blend.member_probs, labels, people, {"mean": blend.cross_fitted})

# %% [markdown]
# ## Is the most probable label the best answer?
#
# For an F1 it is not. Factors by axis are fitted on some people and scored on others, and taken only where they can't
# lose much.

# %%
decided = blend_runs(runs, ("none", "hflip"), decision="macro-f1")
print(decision_sentence(decided.decision_gain))
print("factors:", decided.params.factors)
less = compare(labels, decided.cross_fitted.pred_labels, blend.cross_fitted.pred_labels, people)
print(
    f"macro F1 {macro_f1(labels, decided.cross_fitted.pred_labels):.4f}, {less.difference:+.4f} {interval(less.ci95)}"
)

# %%
[(_, names, rows)] = [table for table in confusion_matrices(blend.oof) if table[0] == "age"]
confusion_matrix(pd.DataFrame(rows).iloc[:, 1:].to_numpy(), names)

# %% [markdown]
# ## What will be handed in
#
# Shares of the classes in the answers, beside those of the training data: a class that vanishes is a warning.

# %%
shares = pd.DataFrame(
    {
        "train": pd.Series(labels).value_counts(normalize=True),
        "answers": pd.Series(decided.answers).value_counts(normalize=True),
    }
)
shares.reindex(range(len(CLASS_NAMES))).fillna(0).set_axis(CLASS_NAMES).round(3)

# %%
people_there = blend.prepared.eval_people
expected = intervals(labels, decided.cross_fitted.pred_labels, people, people_there)
print(f"expected of {people_there} people: {interval(expected['board95'])}")

# %% [markdown]
# ## The decision
#
# - The mean of calibrated members, the most probable label and one view are the defaults: on drawn repeats weights and
#   decision gained nothing that can be told from 0 (EXPERIMENTS.md); five unlike members gained by the decision.
# - What is asked for beyond (`--blend`, `--decision macro-f1`, `--tta`) is cross-fitted over people and told with its
#   interval (`src/maskfold/inference/cross_fit.py`), and a decision that may lose is not taken
#   (`src/maskfold/inference/blend.py`).
# - The manifest beside the CSV holds all of it (`src/maskfold/inference/manifest.py`): `--from` makes the same file
#   again.
