"""Poses, boxes, heatmaps and sheets: what must be seen is seen, and nothing can break it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit import drawing
from posekit.drawing import LEFT, MIDDLE, RIGHT, TRUTH, PoseStyle
from posekit.schema import KeypointSchema

SCHEMA = KeypointSchema(
    "figure",
    ("nose", "left_hand", "right_hand", "tail"),
    flip_pairs=(("left_hand", "right_hand"),),
    skeleton=(("nose", "left_hand"), ("nose", "right_hand"), ("left_hand", "right_hand")),
)
POINTS = np.array([[60.0, 20.0], [100.0, 80.0], [20.0, 80.0], [60.0, 100.0]])


def picture(value: int = 128, height: int = 120, width: int = 130) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def colour_at(image: np.ndarray, point: np.ndarray) -> tuple[int, ...]:
    x, y = np.round(point).astype(int)
    return tuple(int(c) for c in image[y, x])


def test_left_right_and_middle_have_their_own_colours():
    colours = [tuple(int(c) for c in row) for row in drawing.keypoint_colours(SCHEMA)]
    assert colours == [MIDDLE, LEFT, RIGHT, MIDDLE]


def test_the_side_comes_from_the_name_even_if_the_pair_is_listed_right_first():
    schema = KeypointSchema("s", ("right_x", "left_x"), flip_pairs=(("right_x", "left_x"),))
    colours = [tuple(int(c) for c in row) for row in drawing.keypoint_colours(schema)]
    assert colours == [RIGHT, LEFT]


def test_a_flip_pair_without_sides_in_its_names_still_gets_two_colours():
    schema = KeypointSchema("s", ("p0", "p1", "p2"), flip_pairs=(("p0", "p2"),))
    colours = [tuple(int(c) for c in row) for row in drawing.keypoint_colours(schema)]
    assert colours == [LEFT, MIDDLE, RIGHT]


def test_a_link_across_the_body_is_middle_and_a_link_to_the_midline_takes_its_side():
    colours = [tuple(int(c) for c in row) for row in drawing.link_colours(SCHEMA)]
    assert colours == [LEFT, RIGHT, MIDDLE]


@pytest.mark.parametrize("background", [0, 128, 255])
def test_a_pose_stands_out_on_any_background(background: int):
    image = drawing.draw_poses(picture(background), POINTS, SCHEMA)
    line = image[50, 60:100].astype(int)  # crosses the link from nose to left hand
    luminance = line @ [0.299, 0.587, 0.114]
    assert luminance.max() - luminance.min() > 100
    assert colour_at(image, POINTS[1]) == LEFT
    assert colour_at(image, POINTS[2]) == RIGHT


def test_drawing_leaves_its_argument_as_it_was():
    image = picture()
    drawing.draw_poses(image, POINTS, SCHEMA)
    drawing.draw_boxes(image, np.array([[10, 10, 50, 50]]), ["a"])
    drawing.draw_label(image, "a", (3, 3))
    drawing.draw_errors(image, POINTS, POINTS + 9, np.ones(4))
    assert (image == 128).all()


def test_keypoints_below_the_threshold_and_unlabelled_ones_are_left_out():
    scores = np.array([1.0, 0.2, 1.0, 1.0])
    faint = drawing.draw_poses(
        picture(), POINTS, SCHEMA, scores=scores, style=PoseStyle(threshold=0.3)
    )
    hidden = drawing.draw_poses(picture(), POINTS, SCHEMA, visibility=np.array([2, 0, 2, 2]))
    for image in (faint, hidden):
        assert colour_at(image, POINTS[1]) == (128, 128, 128)
        assert colour_at(image, POINTS[2]) == RIGHT


def test_low_confidence_is_thinner_and_fainter():
    def ink(score: float) -> float:
        image = drawing.draw_poses(picture(), POINTS, SCHEMA, scores=np.full(4, score))
        return float(np.abs(image.astype(int) - 128).sum())

    assert ink(0.1) < 0.8 * ink(0.5)
    assert ink(0.5) < 0.8 * ink(1.0)


def test_an_occluded_truth_is_a_hollow_ring():
    image = drawing.draw_poses(
        picture(), POINTS[None], SCHEMA, visibility=np.array([[2, 1, 2, 2]]),
        style=PoseStyle(links=False, width=8, colour=TRUTH),
    )  # fmt: skip
    assert colour_at(image, POINTS[1]) == (128, 128, 128)
    assert colour_at(image, POINTS[2]) == TRUTH


def test_line_width_follows_the_size_of_the_instance_and_the_density_of_its_points():
    box = np.array([0, 0, 100.0, 400.0])
    assert drawing.stroke_width(POINTS, box) > drawing.stroke_width(POINTS, box / 4)
    dense = np.stack([np.linspace(0, 400, 200), np.zeros(200)], axis=1)
    assert drawing.stroke_width(dense) < 1.01


coordinate = st.floats(-1e9, 1e9) | st.sampled_from([np.nan, np.inf, -np.inf])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(coordinate, coordinate), min_size=4, max_size=4))
def test_no_coordinate_breaks_the_drawing(points):
    image = drawing.draw_poses(picture(), np.array(points), SCHEMA)
    image = drawing.draw_errors(image, np.array(points), POINTS, np.full(4, 2))
    boxes = np.concatenate([np.array(points)[:2], np.array(points)[2:]], axis=1)
    image = drawing.draw_boxes(image, boxes, ["a", "b"])
    assert image.shape == (120, 130, 3)


def test_a_link_that_leaves_the_picture_is_drawn_to_its_edge():
    points = np.array([[60.0, 60.0], [60.0 + 5e8, 60.0], [np.nan, np.nan], [np.nan, np.nan]])
    image = drawing.draw_poses(picture(), points, SCHEMA)
    assert colour_at(image, np.array([128, 60])) == LEFT


def test_a_label_at_the_corner_is_moved_inside_and_readable():
    image = drawing.draw_label(picture(), "horse 0.93", (500, -20), above=True)
    changed = np.abs(image.astype(int) - 128).max(axis=2) > 60
    assert changed[:30, 60:].sum() > 200


def test_a_heatmap_peak_lands_where_its_matrix_says():
    heatmap = np.zeros((16, 12))
    heatmap[4, 3] = 1.0
    matrix = np.array([[5.0, 0, 40], [0, 5.0, 30]])
    image = drawing.overlay_heatmap(picture(0), heatmap, matrix)
    y, x = np.unravel_index(image.sum(axis=2).argmax(), image.shape[:2])
    assert abs(x - 55) <= 1
    assert abs(y - 50) <= 1
    untouched = drawing.overlay_heatmap(picture(77), np.zeros((4, 4)))
    assert (untouched == 77).all()


def test_a_contact_sheet_holds_every_tile_and_its_captions():
    tiles = [np.full((40 + 10 * i, 60, 3), 40 * i + 60, dtype=np.uint8) for i in range(3)]
    sheet = drawing.contact_sheet(tiles, 2, ["one", "a caption far too long for its cell", ""])
    for i, tile in enumerate(tiles):
        assert (sheet == 40 * i + 60).all(axis=2).sum() >= tile.shape[0] * 60
    plain = drawing.contact_sheet(tiles, 2)
    assert sheet.shape[0] > plain.shape[0]
    assert sheet.shape[1] == plain.shape[1]
    with pytest.raises(ValueError, match="0 tiles"):
        drawing.contact_sheet([], 2)


def test_beside_keeps_both_pictures_whole():
    both = drawing.beside(picture(10), picture(200, width=20), gap=4)
    assert both.shape == (120, 154, 3)
    assert (both[:, :130] == 10).all()
    assert (both[:, 134:] == 200).all()


def test_a_view_beyond_the_image_keeps_points_on_their_pixels():
    image = np.zeros((50, 60, 3), dtype=np.uint8)
    image[10, 5] = 255
    view, matrix = drawing.crop_view(image, np.array([5.0, 10.0]), side=40, size=200)
    x, y = matrix[:, :2] @ [5, 10] + matrix[:, 2]
    peak = np.unravel_index(view.sum(axis=2, dtype=int).argmax(), view.shape[:2])
    assert abs(peak[0] - y) <= 2.5
    assert abs(peak[1] - x) <= 2.5


# Linear RGB as red-green blind readers of two kinds see it (Machado et al. 2009, severity 1).
BLINDNESS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
}  # fmt: skip


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_colours_stay_apart_for_colour_blind_readers(kind: str):
    """Red and green of the same lightness, the usual choice, are the counter-example."""

    def seen(colour: tuple[int, ...]) -> np.ndarray:
        linear = (np.array(colour) / 255) ** 2.2
        return np.clip(np.array(BLINDNESS[kind]) @ linear, 0, 1) ** (1 / 2.2)

    def distance(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        return float(np.linalg.norm(seen(a) - seen(b)))

    for a, b in ((LEFT, RIGHT), (LEFT, MIDDLE), (RIGHT, MIDDLE), (TRUTH, LEFT), (TRUTH, RIGHT)):
        assert distance(a, b) > 0.25, (a, b)
    assert distance((200, 60, 60), (110, 110, 40)) < 0.25
