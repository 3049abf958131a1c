"""Whatever a user calls an image, as an upright uint8 RGB array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from posekit.data.images import read_image
from posekit.errors import PredictionError

MAX_PIXELS = 200_000_000


@dataclass(frozen=True)
class LoadedImage:
    """An image ready to be cropped.

    Attributes:
        name: the file's path, or "image N".
        pixels: uint8 (H, W, 3) RGB, upright.
    """

    name: str
    pixels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.pixels.shape[0], self.pixels.shape[1]


def is_one_image(images: Any) -> bool:
    """Return whether this is a sequence of images; a 4-D array or tensor is a sequence."""
    if isinstance(images, str | Path | Image.Image):
        return True
    return hasattr(images, "ndim") and images.ndim < 4


def load_images(images: Sequence[Any] | Any, max_pixels: int = MAX_PIXELS) -> Iterator[LoadedImage]:
    """Load images one after the other; only one is in memory at a time."""
    for number, image in enumerate([images] if is_one_image(images) else images):
        yield load_image(image, f"image {number}", max_pixels)


def load_image(image: Any, name: str = "image", max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """Return one image as an upright uint8 RGB array.

    Args:
        image: a path; a numpy array (H, W, 3) RGB, (H, W, 4), (H, W, 1) or (H, W), uint8, uint16
            or float in 0..1; a PIL image; a torch tensor (3, H, W) or (1, H, W) of these types.
            Grey becomes three equal channels, alpha is dropped, 16 bits become 8. Files and PIL
            images that carry an EXIF orientation are turned upright, as viewers show them.
        name: what messages call it if it is not a file.
        max_pixels: larger images are refused before they are decoded.

    Raises:
        DatasetError: the file is missing, cut off, or no image.
        PredictionError: too large, or an array of another form or type.
    """
    if isinstance(image, str | Path):
        return LoadedImage(str(image), _from_file(Path(image).expanduser(), max_pixels))
    if isinstance(image, Image.Image):
        _check_size(name, (image.height, image.width), max_pixels)
        turned = ImageOps.exif_transpose(image)
        plain = turned if turned.mode.startswith("I;16") else turned.convert("RGB")
        return LoadedImage(name, _from_array(np.asarray(plain), name))
    if hasattr(image, "detach"):
        array = image.detach().cpu().numpy()
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            array = array.transpose(1, 2, 0)
        elif array.ndim != 2:
            raise PredictionError(
                f"{name}: found a tensor of shape {tuple(array.shape)}, expected (3, H, W)"
            )
    else:
        array = np.asarray(image)
    if array.ndim >= 2:
        _check_size(name, array.shape[:2], max_pixels)
    return LoadedImage(name, _from_array(array, name))


def _from_file(file: Path, max_pixels: int) -> np.ndarray:
    limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = None  # our own limit, with its own sentence
        with Image.open(file) as header:
            size = (header.height, header.width)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError):
        size = (0, 0)  # read_image below says what is wrong
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    _check_size(str(file), size, max_pixels)
    return read_image(file)


def _check_size(name: str, size: Sequence[int], max_pixels: int) -> None:
    height, width = size
    if height * width > max_pixels:
        raise PredictionError(
            f"{name}: {width} x {height} pixels, more than the limit of {max_pixels:,}; scale it "
            "down, or raise the limit with max_pixels"
        )


def _from_array(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in array.shape:
        raise PredictionError(
            f"{name}: found an array of shape {array.shape}, expected (H, W, 3) RGB, (H, W, 4) or "
            "(H, W)"
        )
    eight = _to_eight_bits(array, name)
    if array.ndim == 2:
        return cv2.cvtColor(eight, cv2.COLOR_GRAY2RGB)
    return np.ascontiguousarray(eight[:, :, :3])


def _to_eight_bits(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return (array // 257).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(np.min(array)), float(np.max(array))
        if not (low >= 0 and high <= 1.0 + 1e-6):
            raise PredictionError(
                f"{name}: found floats from {low:.3g} to {high:.3g}, expected 0 to 1 (or uint8); "
                "images must not be normalised beforehand"
            )
        return np.round(array * 255).clip(0, 255).astype(np.uint8)
    raise PredictionError(f"{name}: found numbers of type {array.dtype}, expected uint8 RGB")
