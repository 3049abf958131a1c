"""Crops: one warp does cropping, turning and mirroring; keypoints follow the pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from toy_data import make_instance

from posekit.config.augmentation import AugmentationConfig
from posekit.data.augment import Geometry, KeyedDraws, PixelChange
from posekit.data.crops import (
    CropSource,
    Sample,
    change_pixels,
    draw_samples,
    image_to_crop,
    points_in_crops,
)
from posekit.data.images import read_image
from posekit.warp import crop_matrices, crop_size_for, warp_image

SIZE = (64, 48)


def random_geometry(random, flipped):
    return Geometry(
        random.uniform(20, 60, 2), random.uniform(30, 80, 2), random.uniform(-180, 180), flipped
    )


@pytest.mark.parametrize("warp", ["plain", "udp"])
def test_a_mirrored_crop_is_the_crop_of_the_mirrored_image(warp):
    random = np.random.default_rng(0)
    image = np.repeat(np.repeat(random.integers(0, 255, (16, 24, 3), np.uint8), 5, 0), 5, 1)
    width = image.shape[1]
    for _ in range(5):
        geometry = random_geometry(random, True)
        [matrix] = image_to_crop([geometry], SIZE, warp)
        center = np.array([width - 1 - geometry.center[0], geometry.center[1]])
        expected_matrix = crop_matrices(center, geometry.size, geometry.rotation_deg, SIZE, warp)[0]
        expected = warp_image(np.ascontiguousarray(image[:, ::-1]), expected_matrix, SIZE)
        difference = np.abs(warp_image(image, matrix, SIZE).astype(int) - expected)
        assert difference.mean() < 1.0


@pytest.mark.parametrize("warp", ["plain", "udp"])
def test_keypoints_lie_on_their_dots_in_augmented_crops(make_index, warp):
    index = make_index(6)
    config = AugmentationConfig(half_body=0, scale=0.2, shift_once=False)
    head = CropSource(index, (96, 72), warp, config)
    rows = np.repeat(np.arange(6), 8)
    samples = draw_samples(head, rows, np.tile(np.arange(8), 6), KeyedDraws(0, "toy"))
    matrices = image_to_crop([sample.geometry for sample in samples], head.input_size, warp)
    points, visibility = points_in_crops(index, samples, matrices)
    checked, flips = 0, 0
    for i, row in enumerate(rows):
        image = read_image(index.image_file(row))
        crop = warp_image(image, matrices[i], head.input_size).astype(int)
        flips += samples[i].geometry.flipped
        for (x, y), seen in zip(points[i], visibility[i], strict=True):
            column, line = round(float(x)), round(float(y))
            if 2 < column < 69 and 2 < line < 93:
                channel = 0 if seen == 2 else 1
                assert crop[line, column, channel] > 150
                assert crop[line, column, channel] > 1.5 * crop[line, column, 1 - channel]
                checked += 1
    assert checked > 150
    assert 10 < flips < 38


def test_mirroring_trades_left_and_right(make_index):
    index = make_index(1)
    plain = Sample(0, Geometry(np.array([30.0, 30.0]), np.array([48.0, 64.0])), PixelChange())
    mirrored = Sample(
        0, Geometry(plain.geometry.center, plain.geometry.size, 0.0, True), PixelChange()
    )
    matrices = image_to_crop([plain.geometry, mirrored.geometry], SIZE, "udp")
    points, visibility = points_in_crops(index, [plain, mirrored], matrices)
    swapped = points[0][[0, 2, 1, 4, 3]]
    np.testing.assert_allclose(points[1][:, 0], 47 - swapped[:, 0], atol=1e-4)
    np.testing.assert_allclose(points[1][:, 1], swapped[:, 1], atol=1e-4)
    assert visibility.tolist() == [[2, 2, 1, 2, 2], [2, 1, 2, 2, 2]]


@pytest.mark.parametrize("warp", ["plain", "udp"])
def test_mirroring_twice_is_the_identity(warp):
    random = np.random.default_rng(1)
    geometry = random_geometry(random, True)
    straight = Geometry(geometry.center, geometry.size, geometry.rotation_deg)
    mirrored, direct = image_to_crop([geometry, straight], SIZE, warp)
    points = random.uniform(0, 80, (10, 2))
    once = points * [-1, 1] + [2 * geometry.center[0], 0]
    np.testing.assert_allclose(
        once @ mirrored[:, :2].T + mirrored[:, 2], points @ direct[:, :2].T + direct[:, 2]
    )


def test_unlabelled_keypoints_are_zero_and_stay_unlabelled(make_index):
    one = make_instance()
    one.visibility[1] = 0
    index = make_index(instances=[one])
    sample = Sample(
        0, Geometry(np.array([30.0, 30.0]), np.array([48.0, 64.0]), 20.0, True), PixelChange()
    )
    points, visibility = points_in_crops(
        index, [sample], image_to_crop([sample.geometry], SIZE, "udp")
    )
    assert visibility[0].tolist() == [2, 1, 0, 2, 2]
    assert points[0, 2].tolist() == [0, 0]


def test_colour_changes_by_their_formulas():
    crop = np.random.default_rng(0).integers(60, 120, (8, 6, 3), dtype=np.uint8)
    grey = crop @ [0.299, 0.587, 0.114]
    brighter = change_pixels(crop.copy(), PixelChange(brightness=1.5))
    np.testing.assert_allclose(brighter, crop * 1.5, atol=0.6)
    flat = change_pixels(crop.copy(), PixelChange(saturation=0.0))
    np.testing.assert_allclose(flat, np.repeat(grey[:, :, None], 3, axis=2), atol=0.6)
    stretched = change_pixels(crop.copy(), PixelChange(contrast=1.4))
    np.testing.assert_allclose(stretched, grey.mean() + 1.4 * (crop - grey.mean()), atol=0.6)
    np.testing.assert_array_equal(change_pixels(crop.copy(), PixelChange()), crop)


def test_erasing_covers_the_named_rectangle_only():
    crop = np.zeros((40, 20, 3), np.uint8)
    out = change_pixels(crop.copy(), PixelChange(erase=(0.5, 0.25, 0.25, 0.5)))
    covered = (out > 0).any(axis=2)
    assert covered[10:30, 10:15].all()
    assert covered.sum() == 20 * 5


@pytest.mark.shared
def test_crops_equal_the_reference_images(reference):
    folder = reference / "geometry"
    golden = np.load(folder / "affine.npz")
    settings = json.loads((folder / "affine.json").read_text())
    image = read_image(folder / settings["image"], tuple(settings["image_shape"][:2]))
    assert int(image.sum()) == settings["decoded_bgr_sum"]
    for crop in settings["crops"]:
        width, height = crop["output"]
        box = np.array(crop["bbox_xywh"])
        geometry = Geometry(
            box[:2] + box[2:] / 2,
            crop_size_for(box[2:], (height, width), 1.25),
            crop["rotation_deg"],
        )
        warp = "udp" if crop["udp"] else "plain"
        [matrix] = image_to_crop([geometry], (height, width), warp)
        expected = golden[crop["key"]][:, :, ::-1].astype(int)
        difference = np.abs(warp_image(image, matrix, (height, width)) - expected)
        assert difference.max() <= 1
        assert difference.mean() <= 0.01
