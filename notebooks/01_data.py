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
# # What lies on disk, and can it be trusted as it is?
#
# Seven photos a person in a folder, a table of people, and an eval side without answers. Before a model sees any of it:
# is everything there, is it readable, is it of one size, and do the two sides look alike?

# %%
# %matplotlib inline
from pathlib import Path

import numpy as np

from maskfold.data.catalog import read_catalog
from maskfold.data.prepare import describe
from maskfold.data.raw_layout import find_layout
from maskfold.inference.cache import prepared_of
from maskfold.labels import MASKS
from maskfold.loading.store import open_store
from maskfold.pages.figures import image_figure
from maskfold.report.eda import channel_figure, channel_means, cropped_photos, photo_sizes
from maskfold.runs.run_folder import RunFolder, find_run

# Another run, and with it another data set: put its folder here.
run = RunFolder(find_run(Path("../runs/demo")))
prepared, data = prepared_of(run), run.config.data

# %% [markdown]
# ## Layout, counts and faults
#
# What `prepare` told, and what a look at the raw folder tells again: faults end it, all at once; warnings do not.

# %%
print("\n".join(describe(prepared)))
catalog = read_catalog(find_layout(Path(prepared.meta["root"])))
print(len(catalog.faults), "faults,", len(catalog.warnings), "warnings")
print("\n".join(catalog.faults + catalog.warnings))
catalog.images.groupby("kind").size().rename("photos").to_frame()

# %% [markdown]
# One person's seven photos, whole:

# %%
first = prepared.images[prepared.images.person_id == prepared.images.person_id.iloc[0]]
whole = data.model_copy(update={"crop": "none", "image_size": (256, 192)})
image_figure(cropped_photos(prepared.photo_paths(first), whole))

# %% [markdown]
# ## Sizes and endings
#
# A photo is found by its stem: endings are mixed in the real archive.

# %%
photo_sizes(prepared.photo_paths(prepared.images))

# %% [markdown]
# ## Colours
#
# By mask, and of the eval side, if it is there: a shift here is one that validation can't show.

# %%
store = open_store(prepared, prepared.images, data)
means = {name: channel_means(store, np.flatnonzero(prepared.images["mask"] == at)) for at, name in enumerate(MASKS)}
if prepared.evaluation is not None:
    eval_store = open_store(prepared, prepared.evaluation, data)
    means["eval side"] = channel_means(eval_store, range(len(eval_store)))
channel_figure(means)

# %%
{name: values.mean(0).round(1).tolist() for name, values in means.items()}

# %%
everything = np.concatenate(list(means.values()))
print("darkest photo", everything.mean(1).min().round(), "brightest", everything.mean(1).max().round())

# %% [markdown]
# ## The decision
#
# - Photos are found by stem, junk that starts with a dot is passed over, and every fault is told at once
#   (`src/maskfold/data/catalog.py`). Each photo is read whole once, when the data is prepared.
# - One size and one framing: photos are cropped, shrunk and kept decoded (`src/maskfold/loading/store.py`), so that no
#   epoch decodes a JPEG.
# - Colours need no statistics of their own: pixels are normalised by the backbone's
#   (`src/maskfold/models/classifier.py`) and brightness is augmented (`src/maskfold/loading/augmentations.py`).
