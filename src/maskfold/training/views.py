"""Test-time views: what is done to a batch [B, 3, H, W] before the model sees it. Their order is that of file names."""

from collections.abc import Sequence

from maskfold.errors import UserError, nearest

VIEWS = {
    "none": lambda images: images,
    "hflip": lambda images: images.flip(-1),
}


def canonical_views(views: Sequence[str], key: str) -> tuple[str, ...]:
    """Each view once, in VIEWS' order, so that a set of views has one name.

    Raises UserError, naming the `key` they were given by, for an unknown one.
    """
    for view in views:
        if view not in VIEWS:
            raise UserError(f"{key} {view}: there are {', '.join(VIEWS)}{nearest(view, VIEWS)}")
    return tuple(view for view in VIEWS if view in views)
