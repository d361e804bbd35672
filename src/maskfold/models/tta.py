"""TTA views: transformations of a batch [B, 3, H, W] at test time."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from maskfold.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch

# Fractions of a photo's sides: five_crop and zoom_in keep the part KEPT, and shift moves the photo by SHIFT.
KEPT, SHIFT = 0.9, 0.04

View = Callable[["torch.Tensor"], "list[torch.Tensor]"]


def _window(images: "torch.Tensor", scale: float, x: float = 0.0, y: float = 0.0) -> "torch.Tensor":
    """Crop a window and resize it bilinearly to the size of the photo; float32, 0 to 255.

    scale: the window's sides as fractions of the photo's sides. x, y: offset of the window's centre from the photo's
    centre, as fractions of the sides. Beyond its borders the photo is mirrored.
    """
    # Imported here because blending cached predictions needs the names of the views, but not torch.
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    matrix = torch.tensor([[scale, 0, 2 * x], [0, scale, 2 * y]], device=images.device)
    # In an exported graph, len(images) would be a constant.
    grid = affine_grid(matrix.expand(images.shape[0], 2, 3), list(images.shape), align_corners=False)
    return grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)


def _five_crop(images: "torch.Tensor") -> "list[torch.Tensor]":
    offset = (1 - KEPT) / 2
    centers = ((0, 0), (-offset, -offset), (offset, -offset), (-offset, offset), (offset, offset))
    return [_window(images, KEPT, x, y) for x, y in centers]


# A view returns one or more batches, whose outputs are averaged. Each view has the same weight in the final average.
# The names of cached predictions list the views in this order.
VIEWS: dict[str, View] = {
    "none": lambda images: [images],
    "hflip": lambda images: [images.flip(-1)],
    "zoom_in": lambda images: [_window(images, KEPT)],
    "zoom_out": lambda images: [_window(images, 1 / KEPT)],
    "shift": lambda images: [_window(images, 1.0, x, y) for x, y in ((SHIFT, 0), (-SHIFT, 0), (0, SHIFT), (0, -SHIFT))],
    "five_crop": _five_crop,
}


def canonical_views(views: Sequence[str], key: str) -> tuple[str, ...]:
    """Remove duplicates and sort in the order of VIEWS, so that the same views always have the same name.

    key: the flag or configuration key, for messages. Raises UserError for an unknown view.
    """
    for view in views:
        if view not in VIEWS:
            raise UserError(f"{key} {view}: use one of {', '.join(VIEWS)}{did_you_mean(view, VIEWS)}")
    return tuple(view for view in VIEWS if view in views)
