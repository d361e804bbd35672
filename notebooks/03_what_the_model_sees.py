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
# # What does the model see, and does it see the same everywhere?
#
# The largest jumps in this competition came from using at test time the very preprocessing of training. Here it is:
# crop, augmentation, mixing.

# %%
# %matplotlib inline
from pathlib import Path

import numpy as np

from maskfold.config.experiment import replaced
from maskfold.inference.cache import prepared_of
from maskfold.loading.store import open_store
from maskfold.loading.transforms import EvalTransform, train_transform
from maskfold.pages.figures import image_figure
from maskfold.report.eda import cropped_photos
from maskfold.report.photo_sections import augmentation_examples, mixing_examples
from maskfold.runs.run_folder import RunFolder, find_run

# Another run, and with it another data set: put its folder here.
run = RunFolder(find_run(Path("../runs/demo")))
prepared, config = prepared_of(run), run.config
store = open_store(prepared, prepared.images, config.data)

# %% [markdown]
# ## The crop
#
# Each row one way to cut the same photos: whole, the centre, around the face that YuNet finds.

# %%
paths = prepared.photo_paths(prepared.images.sample(8, random_state=0))
cuts = {"none": {}, "center": {}, "face": {}}
large = {"image_size": (160, 120)}
image_figure(
    np.concatenate([cropped_photos(paths, replaced(config, data=large | {"crop": crop}).data) for crop in cuts])
)

# %% [markdown]
# ## The augmentation
#
# Six photos as five epochs see them, by each preset.

# %%
image_figure(augmentation_examples(replaced(config, data={"augment": "light"}), store))

# %%
image_figure(augmentation_examples(replaced(config, data={"augment": "strong"}), store))

# %% [markdown]
# The same sample is the same picture in any process and after any restart; another epoch's is another one. And without
# augmentation training sees what validation, out-of-fold prediction and the eval side see.

# %%
see = train_transform(replaced(config, data={"augment": "strong"}).data)
same = [see(store[0], (1, 2)) for _ in range(2)]
assert np.array_equal(*same)
assert not np.array_equal(same[0], see(store[0], (1, 3)))
plain = train_transform(replaced(config, data={"augment": "none"}).data)
assert np.array_equal(plain(store[0], (1, 2)), EvalTransform(config.data)(store[0]))

# %% [markdown]
# ## The mixing
#
# A batch after MixUp, after CutMix, and after half-image CutMix with old partners: the target's share of each class is
# what of its photo is there.

# %%
image_figure(mixing_examples(replaced(config, mix={"name": "mixup", "alpha": 0.4}), prepared, store))

# %%
image_figure(mixing_examples(replaced(config, mix={"name": "cutmix"}), prepared, store))

# %%
image_figure(mixing_examples(replaced(config, mix={"name": "half_cutmix", "partner": "old"}), prepared, store))

# %% [markdown]
# ## The decision
#
# - Crop and resize exist once (`src/maskfold/loading/crops.py`), and every path goes through them; normalisation is the
#   model's first layer (`src/maskfold/models/classifier.py`), so none can leave it out.
# - An augmentation is seeded by (seed, epoch, photo, visit) (`src/maskfold/loading/transforms.py`): no number of
#   workers changes it.
# - Photos are mixed on the device, before a batch is split (`src/maskfold/loading/mixing.py`).
# - Defaults: centre crop and light augmentation, no mixing; EXPERIMENTS.md has what the others gained.
