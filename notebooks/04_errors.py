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
# # Error analysis of a run
#
# Which errors does a run make, and is the model, the data or a label the cause? All predictions here are out-of-fold:
# the model of a prediction was not trained on that person.

# %%
# %matplotlib inline
from pathlib import Path

import numpy as np

from maskfold.audit.audit_page import axis_summary
from maskfold.audit.label_noise import find_suspects
from maskfold.inference.cached_predictions import load_oof
from maskfold.labels import decode_label
from maskfold.loading.store import open_store
from maskfold.loading.transforms import EvalTransform
from maskfold.metrics.bootstrap import class_intervals
from maskfold.metrics.calibration import assess_calibration
from maskfold.metrics.confusion import confusion_matrices, most_confident_errors
from maskfold.metrics.group_scores import scores_by_group
from maskfold.metrics.scores import class_table
from maskfold.pages.figures import (
    accuracy_by_age,
    class_f1_bars,
    confusion_matrix,
    group_intervals,
    image_figure,
    learning_curves,
    reliability_diagram,
)
from maskfold.report.gradcam_section import gradcam_examples
from maskfold.report.group_findings import group_findings, possible_causes
from maskfold.runs.run_data import prepared_of
from maskfold.runs.run_folder import RunFolder, find_run

# For another run, put its folder here.
run = RunFolder(find_run(Path("../runs/demo")))
prepared = prepared_of(run)
oof = load_oof(run, prepared)
store = open_store(prepared, prepared.images, run.config.data)

# %% [markdown]
# ## Learning curves

# %%
histories = {part: run.read_metrics(part) for part in run.finished_parts}
learning_curves(histories, {"train_loss": "training loss", "val_loss": "validation log loss", "macro_f1": "macro F1"})

# %% [markdown]
# ## Confusion matrices

# %%
tables = {name: (classes, np.array([row[1:] for row in rows])) for name, classes, rows in confusion_matrices(oof)}
confusion_matrix(tables["age"][1], tables["age"][0])

# %%
confusion_matrix(tables["gender"][1], tables["gender"][0])

# %%
class_f1_bars(class_table(oof.label, oof.pred_labels), class_intervals(oof.label, oof.pred_labels, oof.person_id))

# %% [markdown]
# ## Errors by age

# %%
ages = prepared.images.age.to_numpy()[prepared.row_indices(oof.image_id)]
accuracy_by_age(ages, oof.pred_labels == oof.label, decode_label(oof.label)[2] == decode_label(oof.pred_labels)[2])

# %% [markdown]
# ## Most confident errors
#
# First the photos of the errors, then their Grad-CAM maps: dark regions do not contribute to the prediction. The upper
# half shows errors, the lower half a correct prediction of the same class for each.

# %%
transform = EvalTransform(run.config.data)
rows = prepared.row_indices([name for _, name, *_ in most_confident_errors(oof, 8)])
image_figure(np.concatenate([transform(store[row]) for row in rows], 1))

# %%
maps = gradcam_examples(run, oof, prepared, store)
incorrect, correct = ([each for each in maps if each.is_correct == is_correct] for is_correct in (False, True))
lines = [
    np.concatenate([part for each in line for part in (each.pixels, each.overlay)], 1) for line in (incorrect, correct)
]
image_figure(np.concatenate(lines))

# %% [markdown]
# ## Calibration

# %%
reliability_diagram(*assess_calibration(oof))

# %% [markdown]
# ## Performance by group, and suspect labels

# %%
suspected, fits = find_suspects(oof)
groups = scores_by_group(oof)
print("\n".join(group_findings(groups, oof, possible_causes(suspected, fits, prepared, store))))
group_intervals(groups)

# %%
print("\n".join(axis_summary(axis, fits[axis], table) for axis, table in suspected.groupby("axis", sort=False)))
suspected[suspected.axis == "gender"].head(8)

# %% [markdown]
# ## The decision
#
# - Most errors are errors of age, above all in the oldest group. Class weights, a head with age bins, class-balanced
#   sampling and a decision for macro F1 address this, with one key each (`src/maskfold/config/schema.py`).
# - Labels that contradict all photos of a person are proposed to the user and never changed automatically:
#   `scripts/audit.py`, `src/maskfold/audit/label_noise.py`.
# - The model is overconfident, so probabilities are scaled by a temperature before runs are blended
#   (`src/maskfold/inference/cross_fit.py`).
