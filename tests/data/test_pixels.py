"""The pixels of training, evaluation and prediction are those of one function."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from posekit.data.images import read_image
from posekit.data.make_batch import ImageFiles
from posekit.warp import crop_matrices, cut_crop, reduced, reduction, warp_image

FORMATS = ["jpg", "png", "webp", "bmp", "tiff"]


def _bar(width: int, height: int, at: int) -> np.ndarray:
    """Return black with a white bar, 11 wide, whose middle is at x = `at`."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, at - 5 : at + 6] = 255
    return image


def _smooth(width: int, height: int) -> np.ndarray:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    wave = 127 + 60 * np.sin(x / 23) + 60 * np.cos(y / 31)
    return np.repeat(wave[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)


def _write(file: Path, image: np.ndarray) -> Path:
    options = {"jpg": [cv2.IMWRITE_JPEG_QUALITY, 98], "webp": [cv2.IMWRITE_WEBP_QUALITY, 101]}
    assert cv2.imwrite(str(file), image, options.get(file.suffix[1:], []))
    return file


@pytest.mark.parametrize("by", [2, 4, 8])
@pytest.mark.parametrize("size", [(1919, 1199), (1920, 1200), (1917, 600)])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_reduced_image_keeps_every_pixels_place(tmp_path, kind, size, by):
    width, height = size
    file = _write(tmp_path / f"a.{kind}", _bar(width, height, 1895))
    found = read_image(file, (height, width), reduce=by)
    assert found.shape == (-(-height // by), -(-width // by), 3)
    columns = found[..., 0].astype(float).sum(0)
    columns[columns < 0.05 * columns.max()] = 0
    middle = (columns * np.arange(len(columns))).sum() / columns.sum()
    assert middle == pytest.approx((1895 - (by - 1) / 2) / by, abs=0.03)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_reduced_image_has_the_means_of_its_blocks(tmp_path, kind):
    file = _write(tmp_path / f"a.{kind}", _smooth(333, 221))
    whole = read_image(file)
    for by in (2, 4, 8):
        apart = np.abs(read_image(file, reduce=by).astype(int) - reduced(whole, by))
        # a JPEG's decoder drops high frequencies instead of averaging
        assert apart.mean() < (0.6 if kind == "jpg" else 1e-9)


@pytest.mark.parametrize("scale", [1.0, 1.9, 2.1, 4.5, 9.0])
@pytest.mark.parametrize("turn", [0.0, 33.0])
def test_the_part_that_a_crop_shows_has_the_numbers_of_the_whole_image_reduced(scale, turn):
    rng = np.random.default_rng(3)
    image = rng.integers(0, 255, (421, 603, 3), np.uint8)
    center, size = np.array([[333.0, 170.0]]), np.array([[48 * scale, 64 * scale]])
    matrix = crop_matrices(center, size, turn, (64, 48), "udp")[0]
    by = reduction(matrix)
    assert by == {1.0: 1, 1.9: 1, 2.1: 2, 4.5: 4, 9.0: 8}[scale]
    small = reduced(image, by)
    shift = matrix[:, 2] + matrix[:, :2] @ np.full(2, (by - 1) / 2)
    whole = np.concatenate([matrix[:, :2] * by, shift[:, None]], axis=1)
    expected = warp_image(small, whole, (64, 48)).astype(int)
    found = cut_crop(image, matrix, (64, 48), "reduced").astype(int)
    assert np.abs(found - expected).max() <= 1
    assert np.array_equal(cut_crop(image, matrix, (64, 48)), warp_image(image, matrix, (64, 48)))


def test_a_crop_outside_the_image_is_black():
    matrix = crop_matrices(np.array([[-900.0, 50]]), np.array([[200.0, 200]]), 0.0, (64, 64), "udp")
    assert not cut_crop(np.full((99, 99, 3), 200, np.uint8), matrix[0], (64, 64), "reduced").any()


def _detail(crop: np.ndarray) -> float:
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())


@pytest.mark.parametrize("kind", FORMATS)
def test_training_and_evaluation_see_the_same_detail(tmp_path, kind):
    """Noise at the finest scale, a crop five times smaller: aliasing would double its detail."""
    noise = np.random.default_rng(0).integers(0, 255, (701, 899, 3), np.uint8)
    file = _write(tmp_path / f"a.{kind}", noise)
    columns = SimpleNamespace(image_index=np.zeros(1, int), image_size=np.array([[701, 899]]))
    index = SimpleNamespace(columns=columns, image_file_at=lambda image: file)
    matrix = crop_matrices(
        np.array([[430.0, 350]]), np.array([[480.0, 640]]), 0.0, (128, 96), "udp"
    )
    pixels, placement = ImageFiles(index).read(0, 5.0)
    linear = matrix[0][:, :2] / placement[:2]
    moved = np.concatenate([linear, (matrix[0][:, 2] - linear @ placement[2:])[:, None]], axis=1)
    training = warp_image(pixels, moved, (128, 96))
    evaluation = cut_crop(read_image(file), matrix[0], (128, 96), "reduced")
    assert _detail(training) == pytest.approx(_detail(evaluation), rel=0.1)
    aliased = warp_image(read_image(file), matrix[0], (128, 96))
    assert _detail(aliased) > 2 * _detail(evaluation)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(60, 40), (50, 50)])
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tiff"])
def test_a_picture_is_read_as_it_is_shown(tmp_path, kind, size, orientation):
    """A white square under (8, 5) of the upright picture, whatever way the phone was held."""
    width, height = size
    shown = Image.new("RGB", size, (30, 30, 30))
    shown.paste((255, 255, 255), (5, 2, 12, 9))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that undoes each turn
    raw = shown.transpose(Image.Transpose(back[orientation])) if orientation > 1 else shown
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw.save(tmp_path / f"a.{kind}", exif=exif)
    found = read_image(tmp_path / f"a.{kind}", (height, width))
    assert found.shape == (height, width, 3)
    assert found[5, 8].min() > 200
    assert found[5, -8].max() < 60
    assert found[-6, 8].max() < 60


def test_the_raw_raster_is_taken_where_the_annotation_declares_its_size(tmp_path):
    raw = Image.new("RGB", (60, 40), (30, 30, 30))
    raw.paste((255, 255, 255), (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    raw.save(tmp_path / "a.png", exif=exif)
    assert read_image(tmp_path / "a.png", (40, 60))[5, 5].min() > 200
