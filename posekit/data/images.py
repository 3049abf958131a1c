"""Image files to uint8 RGB arrays, in the pixel frame that annotations are in."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from posekit.errors import DatasetError

_RAW_FRAME = cv2.IMREAD_IGNORE_ORIENTATION
_COLOUR = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_START_OF_SCAN = 0xDA


def use_one_thread() -> None:
    """Keep OpenCV from starting threads of its own; for worker processes."""
    cv2.setNumThreads(0)


def read_image(
    file: Path, declared_size: tuple[int, int] = (0, 0), *, reduce: int = 1
) -> np.ndarray:
    """Read an image file as RGB.

    Grey images get three equal channels, an alpha channel is dropped, 16 bits become 8. The pixels
    are those of the file's own raster, which is the frame of COCO-style annotations: an EXIF
    orientation is ignored, unless the annotation declares the size that only the turned image has
    (then the annotation tool turned it, and so is it here).

    Args:
        file: the image file.
        declared_size: (height, width) that the annotation states, or (0, 0).
        reduce: 1, 2, 4 or 8; decode a JPEG at this fraction of its size, which is much faster. The
            result's sides are the full ones divided by `reduce`, rounded up.

    Returns:
        uint8 (h, w, 3).

    Raises:
        DatasetError: the file is missing, no image, cut off, or has another size than declared.
    """
    data = _read_bytes(file)
    if is_truncated_jpeg(data):
        raise DatasetError(
            file, "the JPEG data end early (the file was cut off)", fix="download the file again"
        )
    image = _decode(data, reduce, _RAW_FRAME)
    if image is None:
        raise DatasetError(file, "it cannot be decoded as an image", fix="replace the file")
    wanted = _divided(declared_size, reduce)
    if min(declared_size) > 0 and image.shape[:2] != wanted:
        turned = _decode(data, reduce, 0) if image.shape[1::-1] == wanted else None
        if turned is None or turned.shape[:2] != wanted:
            height, width = image.shape[:2]
            at = f" (read at 1/{reduce})" if reduce > 1 else ""
            raise DatasetError(
                file,
                f"found {width} x {height} pixels{at}, expected the annotation's "
                f"{declared_size[1]} x {declared_size[0]} (width x height)",
                fix="put the image there that was annotated",
            )
        image = turned
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


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


def _decode(data: bytes, reduce: int, orientation: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), _COLOUR[reduce] | orientation)
    except cv2.error:
        return None


def _divided(size: tuple[int, int], by: int) -> tuple[int, int]:
    return (-(-int(size[0]) // by), -(-int(size[1]) // by))


def is_truncated_jpeg(data: bytes) -> bool:
    """Return whether a JPEG's picture data lack the end marker; decoders paint the rest grey."""
    if not data.startswith(_JPEG_START):
        return False
    scan = _start_of_scan(data)
    return scan < 0 or data.rfind(_JPEG_END, scan) < 0


def _start_of_scan(data: bytes) -> int:
    """Walk over the segments before the picture data, so that a thumbnail's end does not count."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF or data[position + 1] == 0xFF:
            position += 1
        elif data[position + 1] == _START_OF_SCAN:
            return position
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return -1
