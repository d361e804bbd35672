"""Test-time views: what is done to a batch [B, 3, H, W] before the model sees it. Their order is that of file names."""

VIEWS = {
    "none": lambda images: images,
    "hflip": lambda images: images.flip(-1),
}
