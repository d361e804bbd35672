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
# # The raw data
#
# The data has a folder with seven photos for each person, a table of people, and an eval set without labels. Before
# training: is the data complete and readable, do all photos have one size, and does the eval set look like the training
# set?

# %%
# %matplotlib inline
from pathlib import Path

import numpy as np

from maskfold.data.catalog import read_catalog
from maskfold.data.images_table import describe
from maskfold.data.raw_layout import find_layout
from maskfold.labels import MASKS
from maskfold.loading.store import open_store
from maskfold.pages.figures import image_figure
from maskfold.report.eda import channel_figure, channel_means, cropped_photos, photo_sizes
from maskfold.runs.run_data import prepared_of
from maskfold.runs.run_folder import RunFolder, find_run

# For another run and its data set, put its folder here.
run = RunFolder(find_run(Path("../runs/demo")))
prepared, data = prepared_of(run), run.config.data

# %% [markdown]
# ## Layout, counts and faults
#
# The summary that `prepare` printed, and another check of the raw folder. `prepare` stops with one error that lists all
# faults; warnings do not stop it.

# %%
print("\n".join(describe(prepared)))
catalog = read_catalog(find_layout(prepared.root))
faults = catalog.train_faults + catalog.eval_faults
print(len(faults), "faults,", len(catalog.warnings), "warnings")
print("\n".join(faults + catalog.warnings))
catalog.images.groupby("kind").size().rename("photos").to_frame()

# %% [markdown]
# The seven photos of one person, without a crop:

# %%
first = prepared.images[prepared.images.person_id == prepared.images.person_id.iloc[0]]
whole = data.model_copy(update={"crop": "none", "image_size": (256, 192)})
image_figure(cropped_photos(prepared.photo_paths(first), whole))

# %% [markdown]
# ## Sizes and suffixes
#
# Photos are found by their stem, because the real archive has mixed suffixes.

# %%
photo_sizes(prepared.photo_paths(prepared.images))

# %% [markdown]
# ## Colours
#
# Mean colours by mask class and of the eval set, if there is one. Validation cannot show a shift between the two.

# %%
store = open_store(prepared, prepared.images, data)
means = {name: channel_means(store, np.flatnonzero(prepared.images["mask"] == mask)) for mask, name in enumerate(MASKS)}
if prepared.evaluation is not None:
    eval_store = open_store(prepared, prepared.evaluation, data)
    means["eval set"] = channel_means(eval_store, range(len(eval_store)))
channel_figure(means)

# %%
{name: values.mean(0).round(1).tolist() for name, values in means.items()}

# %%
everything = np.concatenate(list(means.values()))
print("darkest photo", everything.mean(1).min().round(), "brightest", everything.mean(1).max().round())

# %% [markdown]
# ## The decision
#
# - Photos are found by stem, files that start with a dot are ignored, and all faults are reported in one error
#   (`src/maskfold/data/catalog.py`). Each photo is read completely once, when the data is prepared.
# - Photos are cropped and resized once and stored decoded (`src/maskfold/loading/store.py`), so that no epoch decodes a
#   JPEG.
# - The data set needs no colour statistics of its own: pixels are normalised with the mean and standard deviation of
#   the backbone (`src/maskfold/models/classifier.py`), and brightness is augmented
#   (`src/maskfold/loading/augmentations.py`).
