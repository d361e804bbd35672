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
# # Preprocessing and augmentation
#
# What does the model see, and is it the same in training, validation and test? In this competition the largest gains
# came from using the same preprocessing in training and test. This notebook shows crop, augmentation and mixing.

# %%
# %matplotlib inline
from pathlib import Path

import numpy as np

from maskfold.config.experiment import replaced
from maskfold.loading.store import open_store
from maskfold.loading.transforms import EvalTransform, make_train_transform
from maskfold.pages.figures import image_figure
from maskfold.report.eda import cropped_photos
from maskfold.report.photo_sections import augmentation_examples, mixing_examples
from maskfold.runs.run_data import prepared_of
from maskfold.runs.run_folder import RunFolder, find_run

# For another run and its data set, put its folder here.
run = RunFolder(find_run(Path("../runs/demo")))
prepared, config = prepared_of(run), run.config
store = open_store(prepared, prepared.images, config.data)

# %% [markdown]
# ## Crop
#
# Each row shows the same photos with another `data.crop`: none, the centre, around the face that YuNet detects.

# %%
paths = prepared.photo_paths(prepared.images.sample(8, random_state=0))
crops = ("none", "center", "face")
large = {"image_size": (160, 120)}
image_figure(
    np.concatenate([cropped_photos(paths, replaced(config, data=large | {"crop": crop}).data) for crop in crops])
)

# %% [markdown]
# ## Augmentation
#
# Six photos in five epochs, for two presets: light, then strong.

# %%
image_figure(augmentation_examples(replaced(config, data={"augment": "light"}), store))

# %%
image_figure(augmentation_examples(replaced(config, data={"augment": "strong"}), store))

# %% [markdown]
# The same sample of the same epoch is identical in every process and after every restart; in another epoch it differs.
# Without augmentation, training photos are identical to those of validation, out-of-fold prediction and the eval set.

# %%
transform = make_train_transform(replaced(config, data={"augment": "strong"}).data)
repeats = [transform(store[0], (1, 2)) for _ in range(2)]
assert np.array_equal(*repeats)
assert not np.array_equal(repeats[0], transform(store[0], (1, 3)))
plain = make_train_transform(replaced(config, data={"augment": "none"}).data)
assert np.array_equal(plain(store[0], (1, 2)), EvalTransform(config.data)(store[0]))

# %% [markdown]
# ## Mixing
#
# A batch after MixUp, after CutMix, and after half-image CutMix with partners of 60 or more. The share of a class in
# the target is the share of its photo in the mixed photo.

# %%
image_figure(mixing_examples(replaced(config, mix={"name": "mixup", "alpha": 0.4}), prepared, store))

# %%
image_figure(mixing_examples(replaced(config, mix={"name": "cutmix"}), prepared, store))

# %%
image_figure(mixing_examples(replaced(config, mix={"name": "half_cutmix", "partner": "old"}), prepared, store))

# %% [markdown]
# ## The decision
#
# - Crop and resize are implemented once (`src/maskfold/loading/crops.py`) and used everywhere. Normalisation is the
#   first layer of the model (`src/maskfold/models/classifier.py`), so that no caller can forget it.
# - Augmentation is seeded by (seed, epoch, photo, visit) (`src/maskfold/loading/transforms.py`), so it does not depend
#   on the number of workers.
# - Photos are mixed on the device, before a batch is split (`src/maskfold/loading/mixing.py`).
# - The defaults are centre crop, light augmentation and no mixing. EXPERIMENTS.md has the gains of the other options.
