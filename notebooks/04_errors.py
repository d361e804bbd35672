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

from maskfold.audit.label_noise import suspects
from maskfold.inference.cache import load_oof, prepared_of
from maskfold.labels import decode
from maskfold.loading.store import open_store
from maskfold.loading.transforms import EvalTransform
from maskfold.metrics.bootstrap import class_intervals
from maskfold.metrics.calibration import assess_calibration
from maskfold.metrics.confusion import confusion_matrices, most_confident_errors
from maskfold.metrics.scores import class_table
from maskfold.pages.figures import (
    by_age,
    class_bars,
    confusion_matrix,
    curves,
    group_intervals,
    reliability_diagram,
    sheet,
)
from maskfold.report.gradcam_section import explained
from maskfold.report.group_findings import circumstances, findings
from maskfold.report.group_scores import by_group
from maskfold.runs.run_folder import RunFolder, find_run

# Another run: put its folder here.
run = RunFolder(find_run(Path("../runs/demo")))
prepared = prepared_of(run)
oof = load_oof(run, prepared)
store = open_store(prepared, prepared.images, run.config.data)

# %% [markdown]
# ## Did it train?

# %%
histories = {part: run.read_metrics(part) for part in run.finished_parts}
curves(histories, {"train_loss": "training loss", "val_loss": "validation log loss", "macro_f1": "macro F1"})

# %% [markdown]
# ## What is taken for what

# %%
tables = {name: (classes, np.array([row[1:] for row in rows])) for name, classes, rows in confusion_matrices(oof)}
confusion_matrix(tables["age"][1], tables["age"][0])

# %%
confusion_matrix(tables["gender"][1], tables["gender"][0])

# %%
class_bars(class_table(oof.label, oof.answers), class_intervals(oof.label, oof.answers, oof.person_id))

# %% [markdown]
# ## At which age?

# %%
ages = prepared.images.age.to_numpy()[prepared.rows_of(oof.image_id)]
by_age(ages, oof.answers == oof.label, decode(oof.label)[2] == decode(oof.answers)[2])

# %% [markdown]
# ## The surest mistakes, and what they rest on
#
# Dark is what an answer does not rest on: wrong answers in the upper half, a right one of the same class under each.

# %%
see = EvalTransform(run.config.data)
rows = prepared.rows_of([name for _, name, *_ in most_confident_errors(oof, 8)])
sheet(np.concatenate([see(store[row]) for row in rows], 1))

# %%
shown = explained(run, oof, prepared, store)
wrong, right = ([each for each in shown if each.is_right == kind] for kind in (False, True))
lines = [np.concatenate([part for each in line for part in (each.seen, each.lit)], 1) for line in (wrong, right)]
sheet(np.concatenate(lines))

# %% [markdown]
# ## Does it know when it is wrong?

# %%
reliability_diagram(*assess_calibration(oof))

# %% [markdown]
# ## Who is served worse, and are labels to blame?

# %%
suspected, fits = suspects(oof)
groups = by_group(oof)
print("\n".join(findings(groups, oof, circumstances(suspected, fits, prepared, store))))
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
