"""The size of an image file from its header, for formats that write coordinates as fractions."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from posekit.adapters.fields import Place
from posekit.adapters.files import require_file

_ORIENTATION = 0x0112
_TURNED = {5, 6, 7, 8}


def image_size(file: Path) -> tuple[int, int]:
    """Return (height, width) as the image is shown, that is after its EXIF orientation.

    Reads the header only: about 0.1 ms a file.

    Raises:
        DatasetError: there is no such file, or it is no image.
    """
    require_file(file)
    try:
        with Image.open(file) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION) in _TURNED
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,  # a header that claims more pixels than anyone photographs
        OSError,
        SyntaxError,
        ValueError,
    ) as error:
        Place(file).fail(f"not a readable image ({type(error).__name__})", "replace or remove it")
    return (width, height) if turned else (height, width)
