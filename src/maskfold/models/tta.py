"""Test-time views: what is done to a batch [B, 3, H, W] before the model sees it. Their order is that of file names."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from maskfold.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch

# Of a photo's side: what five_crop and zoom_in keep, and how far a shift goes.
KEPT, SHIFT = 0.9, 0.04

View = Callable[["torch.Tensor"], "list[torch.Tensor]"]


def _window(images: "torch.Tensor", scale: float, x: float = 0.0, y: float = 0.0) -> "torch.Tensor":
    """The window of `scale` times the sides around (x, y), in sides from the middle, resized to the photo's own size.

    Float32 from 0 to 255, bilinear; beyond the border the photo is mirrored.
    """
    # Here: a blend of kept predictions knows the views' names without torch.
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    matrix = torch.tensor([[scale, 0, 2 * x], [0, scale, 2 * y]], device=images.device)
    grid = affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)


def _five_crop(images: "torch.Tensor") -> "list[torch.Tensor]":
    to = (1 - KEPT) / 2
    return [_window(images, KEPT, x, y) for x, y in ((0, 0), (-to, -to), (to, -to), (-to, to), (to, to))]


# A view is the mean of the batches it makes; all views of a list count alike.
VIEWS: dict[str, View] = {
    "none": lambda images: [images],
    "hflip": lambda images: [images.flip(-1)],
    "zoom_in": lambda images: [_window(images, KEPT)],
    "zoom_out": lambda images: [_window(images, 1 / KEPT)],
    "shift": lambda images: [_window(images, 1.0, x, y) for x, y in ((SHIFT, 0), (-SHIFT, 0), (0, SHIFT), (0, -SHIFT))],
    "five_crop": _five_crop,
}


def canonical_views(views: Sequence[str], key: str) -> tuple[str, ...]:
    """Each view once, in VIEWS' order, so that a set of views has one name.

    Raises UserError, naming the `key` they were given by, for an unknown one.
    """
    for view in views:
        if view not in VIEWS:
            raise UserError(f"{key} {view}: there are {', '.join(VIEWS)}{did_you_mean(view, VIEWS)}")
    return tuple(view for view in VIEWS if view in views)
