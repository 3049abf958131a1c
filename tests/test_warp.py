"""Crop geometry against the reference's numbers and against its own definition."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posekit.warp import (
    crop_matrices,
    crop_size_for,
    cut_crop,
    inverse_crop_matrices,
    reduced,
    reduction,
    transform_points,
    warp_image,
)

SIZES = {"192x256": (256, 192), "256x256": (256, 256)}
MATRIX_TOLERANCE = {"plain": 1e-3, "udp": 2e-4}

crops = st.builds(
    lambda cx, cy, w, h, turn: (np.array([[cx, cy]]), np.array([[w, h]]), np.array([turn])),
    st.floats(-200, 1500),
    st.floats(-200, 1500),
    st.floats(8, 2000),
    st.floats(8, 2000),
    st.floats(-180, 180),
)
warps = st.sampled_from(["plain", "udp"])


@pytest.fixture(scope="module")
def affine(reference):
    return np.load(reference / "geometry/affine.npz")


@pytest.mark.shared
@pytest.mark.parametrize("name", SIZES)
def test_boxes_grow_to_the_references_crops(affine, name):
    size = crop_size_for(affine["bbox_xywh"][:, 2:], SIZES[name], 1.25)
    np.testing.assert_allclose(
        size * affine["scale_factor"][:, None], affine[f"scale_px_{name}"], atol=1e-3
    )


@pytest.mark.shared
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("warp", MATRIX_TOLERANCE)
def test_matrices_and_points_are_the_references(affine, name, warp):
    placed = affine[f"center_{name}"], affine[f"scale_px_{name}"], affine["rotation_deg"]
    matrices = crop_matrices(*placed, SIZES[name], warp)
    np.testing.assert_allclose(matrices, affine[f"{warp}_{name}"], atol=MATRIX_TOLERANCE[warp])
    points = transform_points(affine["points"], matrices)
    np.testing.assert_allclose(points, affine[f"points_{warp}_{name}"], atol=5e-3)


@pytest.mark.shared
@pytest.mark.parametrize("warp", MATRIX_TOLERANCE)
def test_square_crops_are_warped_as_vitposes_mpii_loader_does(affine, warp):
    matrices = crop_matrices(
        affine["square_center"], affine["square_scale_px"], 0.0, (256, 192), warp
    )
    expected = affine[f"square_vitpose_{warp}"]
    np.testing.assert_allclose(matrices, expected, atol=MATRIX_TOLERANCE[warp])


@pytest.mark.shared
def test_udp_takes_square_crops_back_as_vitpose_does(affine):
    back = inverse_crop_matrices(
        affine["square_center"], affine["square_scale_px"], 0.0, (256, 192), "udp"
    )
    points_crop = affine["square_heatmap_xy"].astype(float) * [191 / 47, 255 / 63]
    image = transform_points(points_crop, back)
    np.testing.assert_allclose(image, affine["square_vitpose_udp_back"], atol=5e-3)


@pytest.mark.shared
def test_plain_square_crops_go_back_exactly_where_the_reference_stretches_y(affine):
    center, size = affine["square_center"], affine["square_scale_px"].astype(float)
    heatmap = affine["square_heatmap_xy"].astype(float)
    reference = heatmap * size[:, None] / [48, 64] + (center - size / 2)[:, None]
    np.testing.assert_allclose(reference, affine["square_vitpose_plain_back"], atol=5e-3)

    image = transform_points(
        heatmap * 4, inverse_crop_matrices(center, size, 0.0, (256, 192), "plain")
    )
    np.testing.assert_allclose(image[..., 0], reference[..., 0], atol=5e-3)
    middle = center[:, None, 1]
    stretched = middle + (image[..., 1] - middle) * (size[:, 1] / 256 * 192 / size[:, 0])[:, None]
    np.testing.assert_allclose(stretched, reference[..., 1], atol=5e-3)


@pytest.mark.shared
def test_crops_of_a_photograph_are_the_references(affine, reference):
    image = cv2.imread(str(reference / "geometry/000000000785.jpg"))
    for crop in json.loads((reference / "geometry/affine.json").read_text())["crops"]:
        box = np.array(crop["bbox_xywh"])
        warp = "udp" if crop["udp"] else "plain"
        center, size = box[:2] + box[2:] / 2, crop_size_for(box[2:], (256, 192))
        matrices = crop_matrices(center, size, crop["rotation_deg"], (256, 192), warp)
        difference = np.abs(
            warp_image(image, matrices[0], (256, 192)).astype(int) - affine[crop["key"]].astype(int)
        )
        assert difference.max() <= 1
        assert difference.mean() < 0.01
        corners = transform_points(np.stack([box[:2], box[:2] + box[2:]])[None], matrices)
        np.testing.assert_allclose(corners[0], affine[f"{crop['key']}_corners"], atol=5e-3)


@given(crops, warps)
def test_the_inverse_undoes_the_warp(crop, warp):
    matrices = crop_matrices(*crop, (256, 192), warp)
    back = inverse_crop_matrices(*crop, (256, 192), warp)
    points = np.array([[[-50.0, 3.5], [640.0, 480.0], [0.0, 0.0]]])
    np.testing.assert_allclose(
        transform_points(transform_points(points, matrices), back), points, atol=1e-6
    )


@given(crops)
def test_the_two_warps_turn_in_opposite_directions(crop):
    center, size, turn = crop
    square = np.repeat(size[:, :1], 2, axis=1)
    plain = crop_matrices(center, square, turn, (256, 256), "plain")[:, :, :2]
    udp = crop_matrices(center, square, turn, (256, 256), "udp")[:, :, :2]
    np.testing.assert_allclose(plain.transpose(0, 2, 1) * 255 / 256, udp, atol=1e-9)


@given(crops, warps)
def test_the_crops_centre_lands_in_the_middle(crop, warp):
    middle = transform_points(crop[0][None], crop_matrices(*crop, (256, 192), warp))
    expected = [95.5, 127.5] if warp == "udp" else [96.0, 128.0]
    np.testing.assert_allclose(middle[0, 0], expected, atol=1e-6)


def test_many_crops_equal_one_crop_each():
    rng = np.random.default_rng(0)
    center, size = rng.uniform(0, 500, (7, 2)), rng.uniform(20, 400, (7, 2))
    turn = rng.uniform(-90, 90, 7)
    together = crop_matrices(center, size, turn, (256, 192), "udp")
    for i in range(7):
        alone = crop_matrices(center[i], size[i], turn[i], (256, 192), "udp")
        np.testing.assert_array_equal(together[i], alone[0])


def test_no_crops_give_no_matrices():
    nothing = np.zeros((0, 2))
    for warp in ("plain", "udp"):
        matrices = crop_matrices(nothing, nothing, np.zeros(0), (256, 192), warp)
        assert matrices.shape == (0, 2, 3)
        assert transform_points(np.zeros((0, 5, 2)), matrices).shape == (0, 5, 2)


@pytest.mark.parametrize(
    ("box", "expected"),
    [((100, 20), (125, 500 / 3)), ((20, 100), (93.75, 125)), ((75, 100), (93.75, 125))],
)
def test_the_short_side_grows_to_the_inputs_aspect(box, expected):
    np.testing.assert_allclose(crop_size_for(np.array(box), (256, 192)), expected)


def test_without_keep_aspect_a_square_box_stays_square():
    size = crop_size_for(np.array([[80.0, 80.0]]), (256, 192), 1.25, keep_aspect=False)
    np.testing.assert_array_equal(size, [[100.0, 100.0]])


def test_what_lies_outside_the_image_is_black():
    image = np.full((40, 30, 3), 200, np.uint8)
    matrices = crop_matrices(np.array([15.0, 20.0]), np.array([60.0, 80.0]), 0, (64, 48), "udp")
    crop = warp_image(image, matrices[0], (64, 48))
    assert crop.shape == (64, 48, 3)
    assert crop.dtype == np.uint8
    assert crop[0].max() == 0
    assert crop[32, 24].min() == 200


def test_an_unknown_warp_is_named():
    with pytest.raises(ValueError, match="found warp 'affine', expected 'plain' or 'udp'"):
        crop_matrices(np.zeros((1, 2)), np.ones((1, 2)), 0.0, (256, 192), "affine")


@pytest.mark.parametrize("by", [2, 4, 8])
@pytest.mark.parametrize("sides", [(32, 48), (33, 47), (5, 70)])
def test_reduced_takes_means_of_blocks_and_repeats_the_last_row_and_column(sides, by):
    image = np.random.default_rng(by).integers(0, 256, (*sides, 3)).astype(np.uint8)
    rows, columns = (-(-side // by) for side in sides)
    places = [
        np.minimum(np.arange(n * by), side - 1)
        for n, side in zip((rows, columns), sides, strict=True)
    ]
    whole = image[np.ix_(*places)].reshape(rows, by, columns, by, 3)
    np.testing.assert_allclose(reduced(image, by), whole.mean(axis=(1, 3)), atol=0.51)


@pytest.mark.parametrize(
    ("side", "by"), [(63, 1), (64, 1), (127, 1), (128, 2), (255, 2), (256, 4), (512, 8), (4096, 8)]
)
def test_an_image_is_reduced_as_far_as_the_crop_is_smaller(side, by):
    matrices = crop_matrices(
        np.array([[200.0, 200.0]]), np.array([[side, side]], float), 0.0, (64, 64), "plain"
    )
    assert reduction(matrices[0]) == by


@given(st.integers(0, 10_000))
def test_a_part_is_reduced_to_the_numbers_of_the_whole_image_reduced(seed):
    """Cutting with reduction is cutting the reduced image at the reduced place, edges included."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (181, 203, 3)).astype(np.uint8)
    center, size = rng.uniform(0, 190, (1, 2)), rng.uniform(66, 260, (1, 2))
    matrix = crop_matrices(center, size, float(rng.uniform(-180, 180)), (32, 32), "udp")[0]
    by = reduction(matrix)
    smaller = np.array([[by, 0, (by - 1) / 2], [0, by, (by - 1) / 2], [0, 0, 1.0]])
    expected = warp_image(reduced(image, by), matrix @ smaller, (32, 32))
    got = cut_crop(image, matrix, (32, 32), "reduced").astype(int)
    # OpenCV's fixed-point interpolation rounds the two matrices differently by a 32nd of a pixel
    assert np.abs(got - expected).mean() < 2
