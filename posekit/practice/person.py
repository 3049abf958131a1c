"""Draws an articulated person from one skeleton that serves every human schema."""

from __future__ import annotations

import numpy as np

from posekit.practice.body import (
    BodyPose,
    BodyShape,
    sample_pose,
    sample_shape,
    solve_body,
)
from posekit.practice.canvas import Canvas
from posekit.practice.figures import Figure
from posekit.practice.person_parts import (
    FACE_NORMALS,
    PersonLook,
    PersonPainter,
    sample_look,
    sees,
)

BODY_KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "head_top",
    "upper_neck",
    "neck",
    "thorax",
    "pelvis",
    *(
        f"{side}_{joint}"
        for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ),
)
"""Every keypoint of the one skeleton from which all human schemas are taken."""

_STANDING_METRES = 1.75
_ANY = 9.0  # metres: a point on this part is never behind it


def render_person(
    canvas: Canvas,
    rng: np.random.Generator,
    center: np.ndarray,
    height: float,
    *,
    number: int = 0,
    pose: BodyPose | None = None,
    shape: BodyShape | None = None,
    look: PersonLook | None = None,
) -> Figure:
    """Draw one person in front of everything that is on the canvas.

    Args:
        canvas: drawn upon.
        rng: draws whatever of pose, shape and look is not given.
        center: (x, y) pixels where the middle of the figure's extent comes to lie.
        height: pixels that a standing person of the mean shape would measure.
        number: the figure's number on this canvas.
        pose: joint angles; shape: proportions; look: clothes and colours.

    Returns:
        The figure, its keypoints in the order of BODY_KEYPOINTS.
    """
    pose = pose or sample_pose(rng)
    shape = shape or sample_shape(rng)
    look = look or sample_look(rng)
    points_3d, head = solve_body(pose, shape)
    scale = height / _STANDING_METRES
    painter = PersonPainter(canvas, number, points_3d, scale, center, shape.girth, look)
    painter.draw(head)
    rows = np.array([points_3d[name] for name in BODY_KEYPOINTS])
    return Figure(
        number=number,
        names=BODY_KEYPOINTS,
        points=np.array([painter.flat[name] for name in BODY_KEYPOINTS]),
        depths=scale * rows[:, 2],
        labelled=np.array([sees(name, head) for name in BODY_KEYPOINTS]),
        owners={
            name: {part: margin * scale for part, margin in parts.items()}
            for name, parts in _OWNERS.items()
        },
        extras={"head_box_xyxy": painter.head_box_xyxy},
        points_3d=rows,
    )


def _owners() -> dict[str, dict[str, float]]:
    """Return the parts on which each keypoint lies, with margins in metres (see Figure.owners)."""
    owners: dict[str, dict[str, float]] = {
        **{name: {"head": _ANY} for name in (*FACE_NORMALS, "head_top")},
        "upper_neck": {"neck": _ANY, "head": 0.08, "torso": 0.12},
        "neck": {"neck": _ANY, "head": 0.08, "torso": 0.12},
        "thorax": {"neck": _ANY, "torso": _ANY},
        "pelvis": {"torso": _ANY, "pelvis": _ANY, "left_thigh": 0.08, "right_thigh": 0.08},
    }
    for side in ("left", "right"):
        arm, forearm, hand = f"{side}_upper_arm", f"{side}_forearm", f"{side}_hand"
        thigh, shin, foot = f"{side}_thigh", f"{side}_shin", f"{side}_foot"
        owners[f"{side}_shoulder"] = {"torso": 0.10, arm: _ANY}
        owners[f"{side}_elbow"] = {arm: _ANY, forearm: _ANY}
        owners[f"{side}_wrist"] = {forearm: _ANY, hand: _ANY}
        owners[f"{side}_hip"] = {"torso": 0.06, "pelvis": 0.06, thigh: _ANY}
        owners[f"{side}_knee"] = {thigh: _ANY, shin: _ANY}
        owners[f"{side}_ankle"] = {shin: _ANY, foot: _ANY}
    return owners


_OWNERS = _owners()
