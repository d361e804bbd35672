"""Whether a model sees the whole photo: a patch or stride that does not divide the input leaves out its border."""

from collections.abc import Iterable
from itertools import product

import torch

from maskfold.config.experiment import Config, replaced
from maskfold.errors import UserError, first_line
from maskfold.models.classifier import Classifier, build_classifier

Size = tuple[int, int]
FAULTS = (RuntimeError, ValueError, AssertionError)
# How many patches or strides beyond the border are tried for a larger size.
MAX_STEPS = 4


def check_input_size(model: Classifier, config: Config) -> None:
    """Raise UserError where the model can't look at photos of data.image_size, or never sees a part of them."""
    size, name = config.data.image_size, config.model.backbone
    model = model.eval()
    try:
        seen = seen_size(model, size)
    except FAULTS as fault:
        near = nearest_sizes(model, config) or [tuple(model.backbone.pretrained_cfg["input_size"][1:])]
        raise UserError(
            f"data.image_size: {name} can't see photos of {size} ({first_line(fault)}); {_fix(near)}"
        ) from fault
    if seen == size:
        return
    lost = 1 - seen[0] * seen[1] / (size[0] * size[1])
    raise UserError(
        f"data.image_size: {name} sees {seen[0]}x{seen[1]} of {size[0]}x{size[1]}, {lost:.1%} of every photo is never "
        f"seen; {_fix(nearest_sizes(model, config, seen))}"
    )


def _fix(sizes: list[Size]) -> str:
    near = [f"{height} {width}" for height, width in sizes]
    return f"use --data.image_size {', or '.join(near)}" if near else "choose another"


@torch.inference_mode()
def seen_size(model: Classifier, size: Size) -> Size:
    """The [height, width] of a photo beyond which nothing reaches the output: NaN there does not make it NaN.

    Unlike a gradient, NaN passes dead units, zero weights and saturated activations. Takes two photos through the
    model, and more only where a border is not seen.
    """
    photos = torch.zeros(2, 3, *size)
    photos[0, :, -1] = photos[1, :, :, -1] = torch.nan
    whole = model(photos).isnan().any(1).tolist()
    height, width = (size[axis] if whole[axis] else _seen_along(model, size, axis) for axis in (0, 1))
    return height, width


def _seen_along(model: Classifier, size: Size, axis: int) -> int:
    """Rows or columns up to the last one that reaches the output, by bisection."""
    low, high = 0, size[axis] - 1
    while low < high:
        middle = (low + high) // 2
        photo = torch.zeros(1, 3, *size)
        photo.narrow(2 + axis, middle, size[axis] - middle).fill_(torch.nan)
        low, high = (middle + 1, high) if bool(model(photo).isnan().any()) else (low, middle)
    return low


def nearest_sizes(model: Classifier, config: Config, seen: Size | None = None) -> list[Size]:
    """Up to four sizes around data.image_size that the model sees all of, the nearest first.

    Without `seen`, what the model sees of data.image_size, multiples of its patch or stride, and of 32, are tried.
    """
    size, steps = config.data.image_size, _steps(model)
    if seen is None:
        grids = [steps, (32, 32)]
        smaller = [(size[0] // rows * rows, size[1] // columns * columns) for rows, columns in grids]
        larger = [(-(-size[0] // rows) * rows, -(-size[1] // columns) * columns) for rows, columns in grids]
    else:
        # A side that is seen to its end stays.
        short = [seen[axis] < size[axis] for axis in (0, 1)]
        smaller = [seen]
        larger = [
            (seen[0] + short[0] * count * steps[0], seen[1] + short[1] * count * steps[1])
            for count in range(1, MAX_STEPS + 1)
        ]
    found = [one for one in (_first_whole(model, config, smaller), _first_whole(model, config, larger)) if one]
    # Height and width are independent of each other.
    pairs = product({height for height, _ in found}, {width for _, width in found})
    return sorted(pairs, key=lambda pair: sum(abs(pair[axis] - size[axis]) / size[axis] for axis in (0, 1)))


def _first_whole(model: Classifier, config: Config, sizes: Iterable[Size]) -> Size | None:
    """The first of some sizes that the model sees all of, built anew where it is built for one size."""
    for size in sizes:
        if min(size) < 16 or size == config.data.image_size:
            continue
        wanted = replaced(config, model={"pretrained": False, "weights": None}, data={"image_size": size})
        try:
            fixed = model.backbone.pretrained_cfg.get("fixed_input_size")
            other = build_classifier(wanted, model.architecture).eval() if fixed else model
            if seen_size(other, size) == size:
                return size
        except (UserError, *FAULTS):
            continue
    return None


def _steps(model: Classifier) -> Size:
    """The patch of a ViT, else the stride of the first convolution."""
    step = getattr(getattr(model.backbone, "patch_embed", None), "patch_size", None)
    if step is None:
        convs = (part for part in model.backbone.modules() if isinstance(part, torch.nn.Conv2d))
        step = next((conv.stride for conv in convs), 1)
    return (step, step) if isinstance(step, int) else tuple(step)
