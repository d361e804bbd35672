"""Check that a model sees the whole photo. A border is lost if the patch size or stride does not divide a side."""

from collections.abc import Iterable
from itertools import product

import torch

from maskfold.config.experiment import Config, replaced
from maskfold.errors import UserError, first_line
from maskfold.models.classifier import Classifier, build_classifier

InputSize = tuple[int, int]
# The exceptions that models raise for input sizes that they do not support.
MODEL_ERRORS = (RuntimeError, ValueError, AssertionError)
# Larger sizes are tried up to this number of patches or strides beyond the size that the model sees.
MAX_STEPS = 4


def check_input_size(model: Classifier, config: Config) -> None:
    """Raise UserError if the model fails on photos of data.image_size or ignores a part of them."""
    size, name = config.data.image_size, config.model.backbone
    model = model.eval()
    try:
        seen = seen_size(model, size)
    except MODEL_ERRORS as error:
        sizes = nearest_sizes(model, config) or [tuple(model.backbone.pretrained_cfg["input_size"][1:])]
        raise UserError(
            f"data.image_size: {name} can't process photos of {size} ({first_line(error)}); {_suggestion(sizes)}"
        ) from error
    if seen == size:
        return
    lost = 1 - seen[0] * seen[1] / (size[0] * size[1])
    raise UserError(
        f"data.image_size: {name} sees {seen[0]}x{seen[1]} of {size[0]}x{size[1]} pixels, so {lost:.1%} of each photo "
        f"is ignored; {_suggestion(nearest_sizes(model, config, seen))}"
    )


def _suggestion(sizes: list[InputSize]) -> str:
    texts = [f"{height} {width}" for height, width in sizes]
    return f"use --data.image_size {', or '.join(texts)}" if texts else "choose another size"


@torch.inference_mode()
def seen_size(model: Classifier, size: InputSize) -> InputSize:
    """Return the height and width of the region that the model sees: NaN outside it does not make the output NaN.

    Unlike a gradient, NaN passes through dead units, zero weights and saturated activations. This takes one forward
    pass of two photos, and more passes only if a border is not seen.
    """
    photos = torch.zeros(2, 3, *size)
    photos[0, :, -1] = photos[1, :, :, -1] = torch.nan
    border_is_seen = model(photos).isnan().any(1).tolist()
    height, width = (size[axis] if border_is_seen[axis] else _seen_along(model, size, axis) for axis in (0, 1))
    return height, width


def _seen_along(model: Classifier, size: InputSize, axis: int) -> int:
    """Find by bisection how many rows (axis 0) or columns (axis 1) the model sees, counted from the top or left."""
    low, high = 0, size[axis] - 1
    while low < high:
        middle = (low + high) // 2
        photo = torch.zeros(1, 3, *size)
        photo.narrow(2 + axis, middle, size[axis] - middle).fill_(torch.nan)
        low, high = (middle + 1, high) if bool(model(photo).isnan().any()) else (low, middle)
    return low


def nearest_sizes(model: Classifier, config: Config, seen: InputSize | None = None) -> list[InputSize]:
    """Return up to four sizes near data.image_size at which the model sees the whole photo, the nearest first.

    seen: the result of seen_size, or None if the model fails at data.image_size. With None, multiples of the patch size
    (or stride) are tried first, and multiples of 32 next.
    """
    size, steps = config.data.image_size, _steps(model)
    if seen is None:
        grids = [steps, (32, 32)]
        smaller = [(size[0] // rows * rows, size[1] // columns * columns) for rows, columns in grids]
        larger = [(-(-size[0] // rows) * rows, -(-size[1] // columns) * columns) for rows, columns in grids]
    else:
        # A side that is seen completely keeps its length.
        is_short = [seen[axis] < size[axis] for axis in (0, 1)]
        smaller = [seen]
        larger = [
            (seen[0] + is_short[0] * count * steps[0], seen[1] + is_short[1] * count * steps[1])
            for count in range(1, MAX_STEPS + 1)
        ]
    sizes = [pair for pair in (_first_seen(model, config, smaller), _first_seen(model, config, larger)) if pair]
    # Any height can be combined with any width, since the two are independent.
    pairs = product({height for height, _ in sizes}, {width for _, width in sizes})
    return sorted(pairs, key=lambda pair: sum(abs(pair[axis] - size[axis]) / size[axis] for axis in (0, 1)))


def _first_seen(model: Classifier, config: Config, sizes: Iterable[InputSize]) -> InputSize | None:
    """Return the first size at which the model sees the whole photo, or None.

    A model with a fixed input size is built again for each size.
    """
    for size in sizes:
        if min(size) < 16 or size == config.data.image_size:
            continue
        candidate = replaced(config, model={"pretrained": False, "weights": None}, data={"image_size": size})
        try:
            is_fixed = model.backbone.pretrained_cfg.get("fixed_input_size")
            rebuilt = build_classifier(candidate, model.architecture).eval() if is_fixed else model
            if seen_size(rebuilt, size) == size:
                return size
        except (UserError, *MODEL_ERRORS):
            continue
    return None


def _steps(model: Classifier) -> InputSize:
    """Return the (height, width) of a ViT's patches, or the stride of another model's first convolution."""
    step = getattr(getattr(model.backbone, "patch_embed", None), "patch_size", None)
    if step is None:
        convs = (part for part in model.backbone.modules() if isinstance(part, torch.nn.Conv2d))
        step = next((conv.stride for conv in convs), 1)
    return (step, step) if isinstance(step, int) else tuple(step)
