"""Drawn people, animals and faces: left and right, visibility, labels on the figure."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.practice import generator, people_scene
from posekit.practice.animal import SPECIES, render_animal, sample_quadruped_pose, solve_quadruped
from posekit.practice.body import BodyPose, BodyShape, sample_pose, solve_body
from posekit.practice.canvas import Canvas
from posekit.practice.face import FaceParameters, render_face, sample_face, solve_face
from posekit.practice.figures import label_figure
from posekit.practice.person import BODY_KEYPOINTS, render_person
from posekit.practice.scenes import animal_scene, face_scene, paint_occluder
from posekit.schema import flip_pairs_from_names

SEEDS = st.integers(0, 10_000)
CENTER = np.array([110.0, 110.0])


def person(size=(220, 220), center=CENTER, height=180.0, occlude=None, **pose):
    """Draw one standing person; give its label and where its keypoints are in the rows."""
    canvas, rng = Canvas(*size), generator(1, "test")
    figure = render_person(
        canvas, rng, np.asarray(center), height, pose=BodyPose(**pose), shape=BodyShape()
    )
    if occlude:
        paint_occluder(
            canvas, generator(3, "ball"), figure.points[BODY_KEYPOINTS.index(occlude)], 9.0
        )
    return label_figure(canvas, figure), {name: i for i, name in enumerate(BODY_KEYPOINTS)}


def mirrored(pose):
    arms = {"left": pose.arms["right"], "right": pose.arms["left"]}
    legs = {"left": pose.legs["right"], "right": pose.legs["left"]}
    angles = ("yaw", "roll", "side_bend", "spine_twist", "turn", "tilt")
    return replace(pose, arms=arms, legs=legs, **{name: -getattr(pose, name) for name in angles})


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_a_mirrored_pose_is_the_mirror_image_with_left_and_right_swapped(seed):
    pose = sample_pose(generator(seed, "pose"))
    points, _ = solve_body(pose, BodyShape())
    other, _ = solve_body(mirrored(pose), BodyShape())
    swap = dict(flip_pairs_from_names(tuple(points)))
    swap |= {b: a for a, b in swap.items()}
    for name, point in points.items():
        np.testing.assert_allclose(other[swap.get(name, name)], point * (-1, 1, 1), atol=1e-9)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_left_up_and_front_of_head_and_trunk_form_a_right_handed_frame(seed):
    points, head = solve_body(sample_pose(generator(seed, "pose")), BodyShape())
    left = points["left_ear"] - points["right_ear"]
    up = points["head_top"] - points["upper_neck"]
    front = points["nose"] - 0.5 * (points["left_ear"] + points["right_ear"])
    assert np.linalg.det(np.stack([left, up, front])) > 0
    assert np.linalg.det(head) == pytest.approx(1)


@given(st.floats(-60, 60))
@settings(max_examples=15, deadline=None)
def test_who_faces_the_camera_has_the_left_side_at_the_pictures_right(yaw):
    for turn, sign in ((yaw, 1), (yaw + 180, -1)):
        points, _ = solve_body(BodyPose(yaw=turn), BodyShape())
        for joint in ("shoulder", "hip", "ear"):
            assert sign * (points[f"left_{joint}"][0] - points[f"right_{joint}"][0]) > 0


def test_knees_bend_backwards_and_elbows_forwards():
    pose = BodyPose()
    bent = replace(pose.legs["left"], hinge=60), replace(pose.arms["left"], hinge=60)
    points, _ = solve_body(
        BodyPose(legs={**pose.legs, "left": bent[0]}, arms={**pose.arms, "left": bent[1]}),
        BodyShape(),
    )
    assert points["left_ankle"][2] < points["left_knee"][2] - 0.2
    assert points["left_wrist"][2] > points["left_elbow"][2] + 0.1


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_an_animal_that_looks_to_the_left_shows_its_left_side(seed):
    rng = generator(seed, "animal")
    species = SPECIES[seed % len(SPECIES)]
    for yaw, near, far in ((-90.0, "left", "right"), (90.0, "right", "left")):
        pose = replace(sample_quadruped_pose(rng), yaw=yaw, roll=0.0)
        points, _ = solve_quadruped(pose, species)
        assert points[f"{near}_shoulder"][2] > points[f"{far}_shoulder"][2]
        assert points[f"{near}_hip"][2] > points[f"{far}_hip"][2]
        assert (points["neck"][0] < points["root_of_tail"][0]) == (near == "left")


def test_low_contour_numbers_of_a_face_lie_at_the_pictures_left():
    points, _ = solve_face(FaceParameters())
    assert points[0, 0] < -0.9 < 0.9 < points[32, 0]
    assert points[96, 0] < points[97, 0]
    assert points[16, 1] == points[:, 1].min()


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_a_mirrored_face_is_the_mirror_image_with_flip_partners_swapped(seed):
    face = replace(sample_face(generator(seed, "face")), gaze=(0.0, 0.1))
    points, _ = solve_face(face)
    other, _ = solve_face(replace(face, yaw=-face.yaw, roll=-face.roll))
    order = [*range(32, -1, -1), *range(46, 41, -1), *range(50, 46, -1), *range(37, 32, -1)]
    order += [
        *range(41, 37, -1),
        51,
        52,
        53,
        54,
        59,
        58,
        57,
        56,
        55,
        72,
        71,
        70,
        69,
        68,
        75,
        74,
        73,
    ]
    order += [64, 63, 62, 61, 60, 67, 66, 65, 82, 81, 80, 79, 78, 77, 76, 87, 86, 85, 84, 83]
    order += [92, 91, 90, 89, 88, 95, 94, 93, 97, 96]
    np.testing.assert_allclose(other[order], points * (-1, 1, 1), atol=1e-9)


def test_everything_of_a_person_who_faces_the_camera_is_visible():
    label, _ = person()
    assert (label.visibility == 2).all()


def test_the_face_of_a_person_seen_from_behind_is_not_labelled():
    label, row = person(yaw=180)
    assert [label.visibility[row[name]] for name in ("nose", "left_eye", "right_eye")] == [0, 0, 0]
    assert label.visibility[row["left_shoulder"]] == 2


def test_the_far_shoulder_of_a_side_view_is_hidden_and_the_near_one_visible():
    label, row = person(yaw=90)
    assert label.visibility[row["left_shoulder"]] == 1
    assert label.visibility[row["right_shoulder"]] == 2


def test_an_object_in_front_hides_a_point_and_no_other():
    before, row = person()
    after, _ = person(occlude="left_wrist")
    assert after.visibility[row["left_wrist"]] == 1
    assert after.visibility[row["right_wrist"]] == 2
    assert after.area < before.area


def test_points_outside_the_picture_are_not_labelled_and_the_box_ends_at_its_edge():
    label, row = person(center=(110, 190))
    assert label.visibility[row["left_ankle"]] == 0
    assert label.visibility[row["nose"]] == 2
    assert label.box_xyxy[3] == 219


def test_a_nearer_person_hides_points_of_the_one_behind():
    canvas, rng = Canvas(220, 220), generator(5, "two")
    pose, shape = BodyPose(), BodyShape()
    far = render_person(canvas, rng, CENTER, 150, number=0, pose=pose, shape=shape)
    near = render_person(
        canvas, rng, np.array([116.0, 110.0]), 180, number=1, pose=pose, shape=shape
    )
    behind, front = label_figure(canvas, far), label_figure(canvas, near)
    assert (front.visibility == 2).all()
    assert (behind.visibility == 1).sum() > 5
    assert not (behind.mask & front.mask).any()


@pytest.mark.parametrize("draw", [people_scene, animal_scene, face_scene])
def test_labels_agree_with_picture_mask_and_box(draw):
    for seed in range(4):
        scene = draw(generator(seed, draw.__name__), 2, (200, 260))
        height, width = scene.image.shape[:2]
        assert (height, width) == (200, 260)
        assert scene.image.std() > 10
        for label in scene.labels:
            check_label(label, height, width)


def check_label(label, height, width):
    points, visible = label.figure.points, label.visibility
    labelled = points[visible > 0]
    assert (labelled >= -0.5).all()
    assert (labelled < (width - 0.5, height - 0.5)).all()
    rows, columns = np.nonzero(label.mask)
    assert label.box_xyxy == (columns.min(), rows.min(), columns.max(), rows.max())
    assert label.area == len(rows)
    if label.figure.names[0] == "wflw_0":  # far contour points may lie on the hair's edge
        return
    grown = cv2.dilate(label.mask.astype(np.uint8), np.ones((5, 5), np.uint8))
    for x, y in np.rint(points[visible == 2]).astype(int):
        assert grown[y, x]


@pytest.mark.parametrize("render", [render_person, render_animal, render_face])
def test_a_figure_drawn_alone_gives_finite_points_near_its_centre(render):
    canvas = Canvas(200, 200)
    figure = render(canvas, generator(2, "alone"), np.array([100.0, 100.0]), 120.0)
    assert np.isfinite(figure.points).all()
    assert np.abs(figure.points.mean(axis=0) - 100).max() < 60
    assert label_figure(canvas, figure).area > 500


def test_a_crowd_is_a_mask_apart_from_the_labelled_people():
    scene = people_scene(generator(4, "crowd"), 1, (240, 320), crowd=True)
    assert scene.crowd_mask.sum() > 200
    assert len(scene.labels) == 1
    assert not (scene.crowd_mask & scene.labels[0].mask).any()
