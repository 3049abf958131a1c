"""Reading images: every kind becomes uint8 RGB in the annotation's frame, or a clear error."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from posekit.data.images import read_image
from posekit.errors import DatasetError


def smooth(height=40, width=60) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8)


def test_colour_png_is_read_as_rgb(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), smooth())


def test_grey_images_get_three_equal_channels(tmp_path):
    Image.fromarray(smooth()[:, :, 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.png"), np.repeat(smooth()[:, :, :1], 3, axis=2)
    )


def test_an_alpha_channel_is_dropped(tmp_path):
    rgba = np.dstack([smooth(), np.full((40, 60), 7, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), smooth())


def test_sixteen_bits_become_eight(tmp_path):
    wide = smooth().astype(np.uint16) * 256 + 3
    cv2.imwrite(str(tmp_path / "a.png"), wide[:, :, ::-1])
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, smooth())


def save_turned(file) -> None:
    """A JPEG whose EXIF says that it is to be shown turned by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth()).save(file, quality=95, exif=exif)


def test_the_raster_is_not_turned_where_the_annotation_declares_its_size(tmp_path):
    save_turned(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").shape == (60, 40, 3)
    raw = read_image(tmp_path / "a.jpg", (40, 60))
    assert np.abs(np.rot90(raw, -1).astype(int) - read_image(tmp_path / "a.jpg")).max() <= 8


def test_jpeg_at_half_size_is_the_area_mean(tmp_path):
    Image.fromarray(smooth(41, 61)).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    half = read_image(tmp_path / "a.jpg", (41, 61), reduce=2)
    assert half.shape == (21, 31, 3)
    full = read_image(tmp_path / "a.jpg").astype(float)[:40, :60]
    mean = full.reshape(20, 2, 30, 2, 3).mean(axis=(1, 3))
    assert np.abs(half[:20, :30] - mean).mean() < 2


def jpeg_bytes(tmp_path) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg", quality=90)
    return (tmp_path / "whole.jpg").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda data: data[: len(data) // 2], "the JPEG data end early"),
        (lambda data: data[:300], "cannot be decoded as an image|end early"),
        (lambda data: b"", "the image file is empty"),
        (lambda data: b"not an image at all", "cannot be decoded as an image"),
    ],
)
def test_broken_files_are_named(tmp_path, content, message):
    file = tmp_path / "broken.jpg"
    file.write_bytes(content(jpeg_bytes(tmp_path)))
    with pytest.raises(DatasetError, match=message) as caught:
        read_image(file)
    assert str(caught.value).startswith(str(file))


def test_a_cut_off_jpeg_is_found_although_its_thumbnail_is_whole(tmp_path):
    data = jpeg_bytes(tmp_path)
    thumbnail = b"\xff\xe2" + (len(b"x\xff\xd9y") + 2).to_bytes(2, "big") + b"x\xff\xd9y"
    file = tmp_path / "a.jpg"
    file.write_bytes(data[:2] + thumbnail + data[2:])
    assert read_image(file).shape == (200, 200, 3)
    file.write_bytes(data[:2] + thumbnail + data[2 : len(data) // 2])
    with pytest.raises(DatasetError, match="end early"):
        read_image(file)


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(tmp_path):
    file = tmp_path / "a.jpg"
    file.write_bytes(jpeg_bytes(tmp_path) + b"trailer")
    assert read_image(file).shape == (200, 200, 3)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"gone.jpg: there is no such image"):
        read_image(tmp_path / "gone.jpg")


def test_another_size_than_declared_is_an_error(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=r"found 60 x 40 pixels, expected .* 120 x 80"):
        read_image(tmp_path / "a.png", (80, 120))
