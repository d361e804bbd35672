"""Image statistics: size, light, colour, detail at several scales, noise, JPEG blocks."""

from pathlib import Path

import cv2
import numpy as np

from maskfold.data.decode import read_photo

# A photo is shrunk by 8, 4 or 2 if its longer side then still has at least this many pixels.
MIN_SIDE = 1024
JPEG_BLOCK = 8
# Mean filter responses below this value are only rounding errors. They are replaced by this value, so that the
# logarithm is finite even for flat photos.
MIN_RESPONSE = 0.05
# The kernel of Immerkaer's noise estimate (1996), which hardly responds to edges and ramps.
NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
# Statistic -> (how photos with a higher value look, how photos with a lower value look).
MEANINGS = {
    "area": ("larger", "smaller"),
    "aspect": ("wider in shape", "narrower in shape"),
    "brightness": ("brighter", "darker"),
    "contrast": ("higher in contrast", "lower in contrast"),
    "red": ("redder", "less red"),
    "blue": ("bluer", "less blue"),
    "red_range": ("more colourful", "less colourful"),
    "blue_range": ("more colourful", "less colourful"),
    "detail_across": ("sharper", "blurrier"),
    "detail_down": ("sharper", "blurrier"),
    "detail_half": ("sharper", "blurrier"),
    "detail_quarter": ("richer in coarse detail", "poorer in coarse detail"),
    "detail_eighth": ("richer in coarse detail", "poorer in coarse detail"),
    "red_detail": ("richer in colour detail", "poorer in colour detail"),
    "blue_detail": ("richer in colour detail", "poorer in colour detail"),
    "noise": ("noisier", "smoother"),
    "jpeg_blocks": ("blockier", "less blocky"),
    "light_from_above": ("lighter at the top", "darker at the top"),
    "light_from_left": ("lighter on the left", "darker on the left"),
    "light_in_centre": ("lighter in the centre", "darker in the centre"),
}
STATISTICS = tuple(MEANINGS)


def photo_statistics(image: np.ndarray, reduced: int = 1, by_decoder: bool = False) -> np.ndarray:
    """Compute the STATISTICS of a photo, float [len(STATISTICS)].

    image: RGB uint8 [H, W, 3]. reduced: factor by which the photo was shrunk. by_decoder: whether it was shrunk while
    it was decoded, which is possible only for a JPEG. area, aspect, noise, jpeg_blocks and all statistics of detail are
    logarithms; the others are in grey levels.
    """
    luma, red, blue = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
    if by_decoder:
        red, blue = _interpolated(red, reduced), _interpolated(blue, reduced)
    height, width = luma.shape
    (brightness, contrast), (red_mean, red_range), (blue_mean, blue_range) = map(_mean_and_deviation, (luma, red, blue))
    half = _half(luma)
    quarter = _half(half)
    eighth = _half(quarter)
    coarse = cv2.resize(eighth, (3, 3), interpolation=cv2.INTER_AREA).astype(float)
    values = {
        "area": np.log(height * width * reduced**2),
        "aspect": np.log(width / height),
        "brightness": brightness,
        "contrast": contrast,
        "red": red_mean,
        "blue": blue_mean,
        "red_range": red_range,
        "blue_range": blue_range,
        "detail_across": _log_response(cv2.Sobel(luma, cv2.CV_16S, 1, 0, ksize=1)),
        "detail_down": _log_response(cv2.Sobel(luma, cv2.CV_16S, 0, 1, ksize=1)),
        "detail_half": _log_response(cv2.Laplacian(half, cv2.CV_16S)),
        "detail_quarter": _log_response(cv2.Laplacian(quarter, cv2.CV_16S)),
        "detail_eighth": _log_response(cv2.Laplacian(eighth, cv2.CV_16S)),
        # Computed at half the resolution, since most JPEGs store chroma at half the resolution (4:2:0 subsampling).
        "red_detail": _log_response(cv2.Laplacian(_half(red), cv2.CV_16S)),
        "blue_detail": _log_response(cv2.Laplacian(_half(blue), cv2.CV_16S)),
        "noise": _log_response(cv2.filter2D(luma, cv2.CV_16S, NOISE_KERNEL)),
        "jpeg_blocks": sum(_jpeg_blocks(plane, JPEG_BLOCK // reduced) for plane in (luma, cv2.transpose(luma))),
        "light_from_above": coarse[0].mean() - coarse[2].mean(),
        "light_from_left": coarse[:, 0].mean() - coarse[:, 2].mean(),
        "light_in_centre": coarse[1, 1] - coarse.mean(),
    }
    return np.array([values[name] for name in STATISTICS], float)


def statistics_of_file(path: Path) -> np.ndarray:
    """Compute photo_statistics of a file. Raises UserError if the file is missing or damaged."""
    photo = read_photo(path, _reduction)
    reduced = _reduction(photo.image.shape[:2])
    if photo.reduced > 1 or reduced == 1:
        return photo_statistics(photo.image, photo.reduced, by_decoder=photo.reduced > 1)
    # A PNG is decoded at full size. Shrink it like a JPEG of that size, so that detail is measured at the same scale.
    size = [-(-side // reduced) for side in photo.image.shape[1::-1]]
    return photo_statistics(cv2.resize(photo.image, size, interpolation=cv2.INTER_AREA), reduced)


def _reduction(size: tuple[int, int]) -> int:
    return next((factor for factor in (8, 4, 2) if max(size) >= factor * MIN_SIDE), 1)


def _mean_and_deviation(plane: np.ndarray) -> tuple[float, float]:
    mean, deviation = cv2.meanStdDev(plane)
    return mean.item(), deviation.item()


def _half(plane: np.ndarray) -> np.ndarray:
    size = [max(1, side // 2) for side in plane.shape[::-1]]
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA)


def _log_response(filtered: np.ndarray) -> float:
    """Logarithm of the mean absolute response to a filter; filtered: int16 [H, W]."""
    return float(np.log(max(cv2.norm(filtered, cv2.NORM_L1) / filtered.size, MIN_RESPONSE)))


def _interpolated(plane: np.ndarray, reduced: int) -> np.ndarray:
    """Blur a chroma plane that was shrunk while it was decoded, as if it had been shrunk after decoding.

    Most JPEGs store chroma at half the resolution. Decoding at full size interpolates the values with weights of 1/4
    and 3/4 (the "fancy upsampling" of libjpeg), which blurs the plane. Decoding at a smaller size does not.
    """
    side = 1 / (4 * reduced)
    kernel = np.array([side, 1 - 2 * side, side], np.float32)
    return cv2.sepFilter2D(plane, -1, kernel, kernel)


def _jpeg_blocks(plane: np.ndarray, block: int) -> float:
    """Log ratio of the mean step across JPEG block borders to the mean step inside blocks (Wang et al. 2002).

    A step is the absolute difference between two pixels that are horizontal neighbours. block: side of a block in
    pixels. Returns 0 if `block` is below 2, as in photos that were shrunk by 8, or if the plane is not wider than one
    block.
    """
    if block < 2 or plane.shape[1] <= block:
        return 0.0
    steps = cv2.reduce(cv2.absdiff(plane[:, 1:], plane[:, :-1]), 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F)[0]
    between = np.arange(1, len(steps) + 1) % block == 0
    return float(np.log(max(steps[between].mean(), MIN_RESPONSE) / max(steps[~between].mean(), MIN_RESPONSE)))
