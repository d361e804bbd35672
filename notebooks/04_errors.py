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
# # Where is a run wrong, and is it the model, the data or the labels?
#
# Everything here is of out-of-fold answers: each person judged by a model that has not seen them.

# %%
# %matplotlib inline
from pathlib import Path

import numpy as np

from maskfold.audit.label_noise import find_suspects
from maskfold.inference.cache import out_of_fold, prepared_of
from maskfold.labels import decode
from maskfold.loading.store import open_store
from maskfold.loading.transforms import EvalTransform
from maskfold.metrics.bootstrap import class_intervals
from maskfold.metrics.calibration import before_and_after
from maskfold.metrics.confusion import confusions, worst_mistakes
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
from maskfold.report.group_scores import scores_by_group
from maskfold.runs.run_folder import RunFolder, find_run

# Another run: put its folder here.
run = RunFolder(find_run(Path("../runs/demo")))
prepared = prepared_of(run)
oof = out_of_fold(run, prepared)
store = open_store(prepared, prepared.images, run.config.data)

# %% [markdown]
# ## Did it train?

# %%
histories = {part: run.read_metrics(part) for part in run.finished_parts}
learning_curves(histories, {"train_loss": "training loss", "val_loss": "validation log loss", "macro_f1": "macro F1"})

# %% [markdown]
# ## What is taken for what

# %%
tables = {name: (classes, np.array([row[1:] for row in rows])) for name, classes, rows in confusions(oof)}
confusion_matrix(tables["age"][1], tables["age"][0])

# %%
confusion_matrix(tables["gender"][1], tables["gender"][0])

# %%
class_f1_bars(class_table(oof.label, oof.answers), class_intervals(oof.label, oof.answers, oof.person_id))

# %% [markdown]
# ## At which age?

# %%
ages = prepared.images.age.to_numpy()[prepared.rows_of(oof.image_id)]
accuracy_by_age(ages, oof.answers == oof.label, decode(oof.label)[2] == decode(oof.answers)[2])

# %% [markdown]
# ## The surest mistakes, and what they rest on
#
# Dark is what an answer does not rest on: wrong answers in the upper half, a right one of the same class under each.

# %%
see = EvalTransform(run.config.data)
rows = prepared.rows_of([name for _, name, *_ in worst_mistakes(oof, 8)])
image_figure(np.concatenate([see(store[row]) for row in rows], 1))

# %%
shown = gradcam_examples(run, oof, prepared, store)
wrong, right = ([each for each in shown if each.is_correct == kind] for kind in (False, True))
lines = [np.concatenate([part for each in line for part in (each.pixels, each.overlay)], 1) for line in (wrong, right)]
image_figure(np.concatenate(lines))

# %% [markdown]
# ## Does it know when it is wrong?

# %%
reliability_diagram(*before_and_after(oof))

# %% [markdown]
# ## Who is served worse, and are labels to blame?

# %%
suspected, fits = find_suspects(oof)
groups = scores_by_group(oof)
print("\n".join(group_findings(groups, oof, possible_causes(suspected, fits, prepared, store))))
group_intervals(groups)

# %%
print({axis: f"{fit.rate:.1%} wrong, evidence {fit.evidence:.1f}" for axis, fit in fits.items()})
suspected[suspected.axis == "gender"].head(8)

# %% [markdown]
# ## The decision
#
# - Age is the problem, and of it the oldest group: losses that weigh classes, a head of age bins, samplers and a
#   decision for macro F1 are there to be tried, one key each (`src/maskfold/config/schema.py`).
# - Labels that all of a person's photos contradict are put before the user, joined over the seven photos, and never
#   changed unasked: `scripts/audit.py`, `src/maskfold/audit/label_noise.py`.
# - Probabilities are too sure: they are tempered before members are blended (`src/maskfold/inference/cross_fit.py`).
