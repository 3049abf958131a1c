"""Image files to uint8 RGB arrays, in the pixel frame that annotations are in."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from posekit.data.jpeg import JPEG_START, is_truncated_jpeg
from posekit.errors import DatasetError
from posekit.warp import reduced

_ORIENTATION_TAG = 0x0112
_EXIF_MARKS = (b"Exif", b"EXIF", b"eXIf")  # of JPEG, WebP and PNG
_TIFF_STARTS = (b"II*\0", b"MM\0*")
_HEADER = 1 << 16
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: image.transpose(1, 0, 2)[:, ::-1],
    7: lambda image: image.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda image: image.transpose(1, 0, 2)[::-1],
}
"""EXIF orientation -> what turns the raster (h, w, 3) upright."""

_COLOUR = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def use_one_thread() -> None:
    """Keep OpenCV from starting threads of its own; for worker processes."""
    cv2.setNumThreads(0)


def read_image(
    file: Path, declared_size: tuple[int, int] = (0, 0), *, reduce: int = 1
) -> np.ndarray:
    """Read an image file as RGB.

    Grey images get three equal channels, an alpha channel is dropped, 16 bits become 8. An EXIF
    orientation is followed: annotation tools show pictures upright, and so do the decoders that
    other toolkits read with. Only where the annotation declares the size of the file's own raster,
    and the upright picture has another, is that raster taken.

    Args:
        file: the image file.
        declared_size: (height, width) that the annotation states, or (0, 0).
        reduce: 1, 2, 4 or 8; give the means of so many pixels each way (`posekit.warp.reduced`). A
            JPEG is decoded at this fraction, which is much faster and nearly the same.

    Returns:
        uint8 (h, w, 3); the sides are the full ones divided by `reduce`, rounded up.

    Raises:
        DatasetError: the file is missing, no image, cut off, or has another size than declared.
    """
    data = _read_bytes(file)
    if is_truncated_jpeg(data):
        raise DatasetError(
            file, "the JPEG data end early (the file was cut off)", fix="download the file again"
        )
    turn = TURNS.get(orientation_of(data))
    at_once = reduce if turn is None and data.startswith(JPEG_START) else 1
    image = _decode(data, at_once)
    if image is None:
        raise DatasetError(file, "it cannot be decoded as an image", fix="replace the file")
    raw = image.shape[:2]
    if turn is not None:
        shown = turn(image)
        is_raw = min(declared_size) > 0 and shown.shape[:2] != tuple(declared_size) == raw
        image = image if is_raw else np.ascontiguousarray(shown)
    if min(declared_size) > 0 and image.shape[:2] != _divided(declared_size, at_once):
        height, width = image.shape[:2]
        at = f" (read at 1/{reduce})" if at_once > 1 else ""
        raise DatasetError(
            file,
            f"found {width} x {height} pixels{at}, expected the annotation's "
            f"{declared_size[1]} x {declared_size[0]} (width x height)",
            fix="put the image there that was annotated",
        )
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return image if at_once == reduce else reduced(image, reduce)


def orientation_of(data: bytes) -> int:
    """Return the EXIF orientation of an image file's bytes, 1 to 8; 1 where it states none."""
    head = data[:_HEADER]
    if head[:4] in _TIFF_STARTS or not any(mark in head for mark in _EXIF_MARKS):
        return 1  # OpenCV turns a TIFF upright in any case
    try:
        with Image.open(BytesIO(data)) as header:
            return int(header.getexif().get(_ORIENTATION_TAG, 1))
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError):
        return 1  # the decoder says what is wrong


def _read_bytes(file: Path) -> bytes:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise DatasetError(file, "there is no such image", fix="check the image folder") from None
    except OSError as error:
        raise DatasetError(file, f"the image cannot be read ({error.strerror})") from None
    if not data:
        raise DatasetError(file, "the image file is empty", fix="download the file again")
    return data


def _decode(data: bytes, reduce: int) -> np.ndarray | None:
    """Decode the file's own raster as BGR; None if it is no image."""
    flags = _COLOUR[reduce] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def _divided(size: tuple[int, int], by: int) -> tuple[int, int]:
    return (-(-int(size[0]) // by), -(-int(size[1]) // by))
