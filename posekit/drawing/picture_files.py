"""Pictures as files."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np

from posekit.errors import ConfigError
from posekit.output import write_bytes

JPEG_ENDINGS = {".jpg", ".jpeg"}


def encode_picture(picture: np.ndarray, ending: str = ".jpg", quality: int = 95) -> bytes:
    """Return the content of a picture file, of uint8 (H, W, 3) RGB; `quality` is JPEG's."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality] if ending.lower() in JPEG_ENDINGS else []
    _, data = cv2.imencode(ending, bgr, settings)
    return data.tobytes()


def jpeg_uri(picture: np.ndarray, quality: int = 86) -> str:
    """Return a picture, uint8 (H, W, 3) RGB, as a data URI (JPEG, to keep a page small)."""
    data = base64.b64encode(encode_picture(picture, quality=quality)).decode("ascii")
    return f"data:image/jpeg;base64,{data}"


def write_picture(file: str | Path, picture: np.ndarray, quality: int = 95) -> Path:
    """Write a picture, uint8 (H, W, 3) RGB, in the form that the file's ending says.

    Raises:
        ConfigError: OpenCV writes no pictures of that ending.
        OutputError: the file cannot be written.
    """
    file = Path(file).expanduser()
    if not cv2.haveImageWriter(file.name):
        raise ConfigError(f"{file}: expected a picture's name, ending in .png or .jpg")
    return write_bytes(file, encode_picture(picture, file.suffix, quality))
