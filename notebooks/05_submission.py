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
# # The submission and its expected score
#
# Which submission should be made, and what will it score? Ten submissions a day are too few to choose options by, and
# choosing by the public leaderboard overfits it. So all options are chosen out-of-fold and scored on people that they
# were not fitted on.

# %%
# %matplotlib inline
from pathlib import Path

import pandas as pd

from maskfold.evaluation.members import decision_sentence, print_blends
from maskfold.evaluation.score_tables import submission_sentence
from maskfold.evaluation.tta_report import print_tta_report
from maskfold.inference.blend import blend_runs
from maskfold.inference.ensemble_gain import load_gain
from maskfold.inference.expected_score import expect_blend
from maskfold.labels import CLASS_NAMES
from maskfold.metrics.confusion import confusion_matrices
from maskfold.metrics.paired_comparison import compare
from maskfold.metrics.score_text import ci_text
from maskfold.metrics.scores import macro_f1
from maskfold.pages.figures import confusion_matrix
from maskfold.runs.run_folder import RunFolder, find_run
from maskfold.runs.summary import summarise

# For other runs, or several, put their folders here.
runs = [RunFolder(find_run(Path("../runs/demo")))]

# %% [markdown]
# ## Out-of-fold score and expected leaderboard score
#
# board95 is the interval of one fold model's score on a new set as large as the eval set. The score of a submission,
# which is the mean of all fold models, is estimated at the end.

# %%
whole = summarise(runs[0])["oof"]
print(f"out-of-fold {whole['macro_f1']:.4f} {ci_text(whole['macro_f1_ci95'])}")
print(f"board95 {ci_text(whole['board95'])}, on half of the eval set {ci_text(whole['board_half95'])}")

# %% [markdown]
# ## Gain of a second TTA view

# %%
print_tta_report(runs, ["none", "hflip"])

# %% [markdown]
# ## Ensemble weights
#
# Equal weights, weights fitted to the log loss, and weights from greedy selection, each cross-fitted over people. For a
# single run they differ only in its temperature.

# %%
blend = blend_runs(runs, ("none", "hflip"))
labels, people = blend.oof.label, blend.oof.person_id
print_blends(blend.member_probs, labels, people, {"mean": blend.cross_fitted})

# %% [markdown]
# ## Decision
#
# The most probable label does not maximise macro F1. A factor for each value of an axis is fitted on some people and
# scored on others, and used only if it cannot lose much.

# %%
decided = blend_runs(runs, ("none", "hflip"), decision="macro-f1")
print(decision_sentence(decided.decision_gain))
print("factors:", decided.params.factors)
gain = compare(labels, decided.cross_fitted.pred_labels, blend.cross_fitted.pred_labels, people)
print(f"macro F1 {macro_f1(labels, decided.cross_fitted.pred_labels):.4f}, {gain.difference:+.4f} {ci_text(gain.ci95)}")

# %%
[(_, names, rows)] = [table for table in confusion_matrices(blend.oof) if table[0] == "age"]
confusion_matrix(pd.DataFrame(rows).iloc[:, 1:].to_numpy(), names)

# %% [markdown]
# ## Predicted labels of the eval set
#
# Shares of the classes in the submission and in the training data. If a class disappears, something is wrong.

# %%
shares = pd.DataFrame(
    {
        "train": pd.Series(labels).value_counts(normalize=True),
        "submission": pd.Series(decided.pred_labels).value_counts(normalize=True),
    }
)
shares.reindex(range(len(CLASS_NAMES))).fillna(0).set_axis(CLASS_NAMES).round(3)

# %% [markdown]
# ## Expected leaderboard score
#
# The out-of-fold score plus the gain of averaging the fold models, which is estimated from how much they disagree on
# the eval photos. It assumes that these show people of the same population.

# %%
print(submission_sentence(expect_blend(decided, load_gain(runs))))

# %% [markdown]
# ## The decision
#
# - The defaults are the mean of the calibrated runs, the most probable label and one TTA view. In repeats on sampled
#   people, fitted weights and the decision gained nothing that differs from 0; with five different runs the decision
#   gained (EXPERIMENTS.md).
# - The other options (`--blend`, `--decision macro-f1`, `--tta`) are cross-fitted over people and reported with an
#   interval (`src/maskfold/inference/cross_fit.py`). A decision that may lose is not used
#   (`src/maskfold/inference/blend.py`).
# - The manifest beside the CSV records all choices (`src/maskfold/inference/manifest.py`), so that `--from` rebuilds
#   the same file.
