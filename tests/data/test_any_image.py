"""Files of every sort become upright RGB, or one sentence says why not."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from posekit.data.any_image import load_image
from posekit.errors import PosekitError, PredictionError

UPRIGHT = np.zeros((40, 64, 3), dtype=np.uint8)
UPRIGHT[:20, :32] = (255, 0, 0)
UPRIGHT[:20, 32:] = (0, 255, 0)
UPRIGHT[20:, :32] = (0, 0, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("as_file", [True, False])
def test_every_exif_orientation_is_turned_upright(tmp_path: Path, orientation: int, as_file: bool):
    """The camera's raster is made by undoing what a viewer does."""
    undo = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    image = Image.fromarray(np.ascontiguousarray(undo[orientation](UPRIGHT)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    image.save(data, "png", exif=exif)
    file = tmp_path / "turned.png"
    file.write_bytes(data.getvalue())
    loaded = load_image(file if as_file else Image.open(file))
    assert loaded.size == (40, 64)
    assert (loaded.pixels == UPRIGHT).all()


@pytest.mark.parametrize(
    ("array", "flags"),
    [
        (UPRIGHT[..., 0], "grey"),
        (UPRIGHT[..., 0].astype(np.uint16) * 257, "16-bit grey"),
        (np.dstack([UPRIGHT[..., ::-1], np.full((40, 64), 100, np.uint8)]), "alpha"),
    ],
)
def test_grey_16_bit_and_alpha_files_are_rgb(tmp_path: Path, array: np.ndarray, flags: str):
    file = tmp_path / "image.png"
    cv2.imwrite(str(file), array)
    pixels = load_image(file).pixels
    assert pixels.dtype == np.uint8
    expected = UPRIGHT if flags == "alpha" else np.repeat(UPRIGHT[..., :1], 3, axis=2)
    assert (pixels == expected).all()


def test_a_16_bit_pil_image_is_scaled_not_cut():
    grey = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(4, axis=0)
    pixels = load_image(Image.fromarray(grey)).pixels
    assert pixels[0, :, 0].tolist() == (grey[0] // 257).tolist()


def test_a_huge_file_is_refused_before_it_is_decoded(tmp_path: Path):
    file = tmp_path / "huge.png"
    Image.new("L", (3000, 2000)).save(file)
    with pytest.raises(PredictionError, match=r"huge.png: 3000 x 2000 pixels, more than the limit"):
        load_image(file, max_pixels=1_000_000)
    with pytest.raises(PredictionError, match="more than the limit"):
        load_image(np.zeros((2000, 3000), np.uint8), max_pixels=1_000_000)
    assert Image.MAX_IMAGE_PIXELS is not None


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 5, 2), np.uint8), r"shape \(4, 5, 2\), expected \(H, W, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
        (np.zeros((4, 5, 3), np.int64), "type int64, expected uint8"),
        (np.full((4, 5, 3), 2.5), "floats from 2.5 to 2.5, expected 0 to 1"),
        (np.full((4, 5, 3), np.nan), "floats from nan"),
        (torch.zeros(7, 4, 5), r"tensor of shape \(7, 4, 5\)"),
        (5, r"shape \(\)"),
    ],
)
def test_what_is_no_image_is_named(image, message: str):
    with pytest.raises(PredictionError, match=message):
        load_image(image)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff\xe0"])
def test_a_damaged_file_is_named(tmp_path: Path, data: bytes):
    file = tmp_path / "damaged.jpg"
    file.write_bytes(data)
    with pytest.raises(PosekitError, match=r"damaged\.jpg"):
        load_image(file)
