"""A fold in timm, with timm's own transform, sees what maskfold sees."""

import numpy as np
import pytest
import torch
from PIL import Image

from maskfold.config.experiment import Config, replaced
from maskfold.export.timm_folder import write_timm_folder
from maskfold.loading.stored_photo import stored_pixels
from maskfold.loading.transforms import EvalTransform
from maskfold.models.classifier import build_classifier
from maskfold.models.timm_library import timm
from maskfold.synthetic.portrait import HEIGHT, WIDTH


def transform_of(folder, config: Config):
    """timm's transform for a model with random weights that is written into a folder."""
    torch.manual_seed(0)
    write_timm_folder(build_classifier(config).eval(), config, folder)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    settings = timm.data.resolve_data_config({}, model=model)
    # Without normalisation, so that pixels can be compared.
    return timm.data.create_transform(**settings | {"mean": (0, 0, 0), "std": (1, 1, 1)})


@pytest.mark.parametrize(
    ("crop", "crop_size", "image_size"),
    [
        ("none", (384, 288), (64, 48)),
        ("center", (384, 288), (64, 48)),
        ("center", (384, 288), (64, 64)),
        ("center", (256, 192), (96, 64)),
        ("center", (1000, 1000), (64, 48)),
    ],
)
def test_the_transform_keeps_the_part_of_the_photo(tmp_path, crop, crop_size, image_size):
    """Red grows from left to right and green from top to bottom, so a pixel's colour is its place in the photo."""
    changes = {"crop": crop, "crop_size": crop_size, "image_size": image_size}
    config = replaced(Config(), model={"backbone": "test_resnet"}, data=changes)
    photo = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    photo[..., 0], photo[..., 1] = np.linspace(0, 255, WIDTH), np.linspace(0, 255, HEIGHT)[:, None]
    ours = EvalTransform(config.data)(stored_pixels(photo, config.data)[0]).astype(float)
    theirs = 255 * transform_of(tmp_path, config)(Image.fromarray(photo)).permute(1, 2, 0).numpy()
    assert theirs.shape == ours.shape
    # timm rounds the size of the whole photo before it cuts out the centre.
    assert np.abs(theirs - ours).max() < 3
