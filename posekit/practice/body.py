"""The human skeleton: joint limits, poses and forward kinematics in three dimensions.

The body's own frame is right-handed: x to the person's left, y up, z to the front. The camera
looks along -z, so a person who faces it (yaw 0) has the left side at larger x in the picture.
Lengths are metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from posekit.practice.rng import clipped_normal

_SIDES = (("left", 1.0), ("right", -1.0))
_HEAD = 1.2  # heads are drawn a little large, so that small crops still show the face


@dataclass(frozen=True)
class LimbPose:
    """Joint angles of one arm or leg, degrees: forward swing, sideways, twist, hinge."""

    swing: float = 0.0
    aside: float = 0.0
    twist: float = 0.0
    hinge: float = 0.0


@dataclass(frozen=True)
class BodyPose:
    """All joint angles of a person, degrees.

    Attributes:
        yaw: turn about the vertical axis; 0 faces the camera, 90 faces the picture's right.
        lean: forward lean of the whole body; roll: sideways lean in the picture's plane.
        bend, side_bend, spine_twist: of the back; nod, turn, tilt: of the head.
        arms, legs: by side, "left" and "right".
    """

    yaw: float = 0.0
    lean: float = 0.0
    roll: float = 0.0
    bend: float = 0.0
    side_bend: float = 0.0
    spine_twist: float = 0.0
    nod: float = 0.0
    turn: float = 0.0
    tilt: float = 0.0
    arms: dict[str, LimbPose] = field(
        default_factory=lambda: {side: LimbPose(aside=8, hinge=10) for side, _ in _SIDES}
    )
    legs: dict[str, LimbPose] = field(
        default_factory=lambda: {side: LimbPose(aside=4) for side, _ in _SIDES}
    )


@dataclass(frozen=True)
class BodyShape:
    """Lengths in metres."""

    spine: float = 0.50
    neck: float = 0.08
    shoulder: float = 0.19
    hip: float = 0.10
    upper_arm: float = 0.29
    forearm: float = 0.26
    thigh: float = 0.43
    shin: float = 0.42
    girth: float = 1.0


def rotate_x(angle_deg: float) -> np.ndarray:
    """Rotation about x: positive turns y towards z."""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return np.array([[1.0, 0, 0], [0, c, -s], [0, s, c]])


def rotate_y(angle_deg: float) -> np.ndarray:
    """Rotation about y: positive turns z towards x."""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return np.array([[c, 0, s], [0, 1.0, 0], [-s, 0, c]])


def rotate_z(angle_deg: float) -> np.ndarray:
    """Rotation about z: positive turns x towards y."""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def sample_shape(rng: np.random.Generator) -> BodyShape:
    """Draw a person's proportions."""
    size = {name: value * clipped_normal(rng, 1, 0.05, 0.88, 1.12) for name, value in _LENGTHS}
    return BodyShape(**size, girth=float(rng.uniform(0.85, 1.25)))


def sample_pose(rng: np.random.Generator) -> BodyPose:
    """Draw a pose inside the joint limits: standing, walking, sitting, arms up, leaning."""
    legs = _LEGS[int(rng.choice(len(_LEGS), p=_LEG_SHARES))](rng)
    swing = rng.uniform(-1, 1)
    arms = {}
    for side, sign in _SIDES:
        arms[side] = _ARMS[int(rng.choice(len(_ARMS), p=_ARM_SHARES))](rng, sign * swing)
    if rng.random() < 0.3:  # both arms alike
        arms["right"] = arms["left"]
    view = rng.random()
    if view < 0.45:
        yaw = clipped_normal(rng, 0, 22, -50, 50)
    elif view < 0.75:
        yaw = float(rng.choice([-1, 1])) * clipped_normal(rng, 75, 15, 50, 110)
    else:
        yaw = 180 + clipped_normal(rng, 0, 22, -45, 45)
    leaning = rng.random() < 0.4
    return BodyPose(
        yaw=yaw,
        lean=clipped_normal(rng, 2, 6, -12, 20),
        roll=clipped_normal(rng, 0, 32 if leaning else 8, -70, 70),
        bend=clipped_normal(rng, 6, 14, -12, 60),
        side_bend=clipped_normal(rng, 0, 8, -25, 25),
        spine_twist=clipped_normal(rng, 0, 10, -30, 30),
        nod=clipped_normal(rng, 0, 10, -25, 30),
        turn=clipped_normal(rng, 0, 18, -45, 45),
        tilt=clipped_normal(rng, 0, 7, -20, 20),
        arms=arms,
        legs=legs,
    )


def solve_body(pose: BodyPose, shape: BodyShape) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Run forward kinematics.

    Returns:
        name -> float64 (3,), metres, pelvis at 0, in the camera's frame (x right, y up, z towards
        the camera), and the head's rotation (3, 3), whose columns are the head's left, up, front.
    """
    root = rotate_z(-pose.roll) @ rotate_y(pose.yaw) @ rotate_x(pose.lean)
    chest = root @ rotate_x(pose.bend) @ rotate_z(-pose.side_bend) @ rotate_y(pose.spine_twist)
    head = chest @ rotate_y(pose.turn) @ rotate_x(pose.nod) @ rotate_z(-pose.tilt)
    points = {"pelvis": np.zeros(3)}
    points["thorax"] = chest @ (0.0, shape.spine, 0.0)
    points["upper_neck"] = points["thorax"] + chest @ (0.0, shape.neck, 0.015)
    points["neck"] = 0.5 * (points["thorax"] + points["upper_neck"])
    for name, offset in _HEAD_POINTS.items():
        points[name] = points["upper_neck"] + head @ (np.array(offset) * _HEAD)
    for side, sign in _SIDES:
        _solve_arm(points, chest, side, sign, pose.arms[side], shape)
        _solve_leg(points, root, side, sign, pose.legs[side], shape)
    return points, head


def _solve_arm(
    points: dict[str, np.ndarray],
    chest: np.ndarray,
    side: str,
    sign: float,
    arm: LimbPose,
    shape: BodyShape,
) -> None:
    turn = chest @ rotate_x(-arm.swing) @ rotate_z(sign * arm.aside) @ rotate_y(-sign * arm.twist)
    lower = turn @ rotate_x(-arm.hinge)
    shoulder = points["thorax"] + chest @ (sign * shape.shoulder, -0.03, 0.0)
    elbow = shoulder + turn @ (0.0, -shape.upper_arm, 0.0)
    wrist = elbow + lower @ (0.0, -shape.forearm, 0.0)
    points[f"{side}_shoulder"], points[f"{side}_elbow"], points[f"{side}_wrist"] = (
        shoulder,
        elbow,
        wrist,
    )
    points[f"{side}_hand"] = wrist + lower @ (0.0, -0.10, 0.0)


def _solve_leg(
    points: dict[str, np.ndarray],
    root: np.ndarray,
    side: str,
    sign: float,
    leg: LimbPose,
    shape: BodyShape,
) -> None:
    turn = root @ rotate_x(-leg.swing) @ rotate_z(sign * leg.aside) @ rotate_y(sign * leg.twist)
    lower = turn @ rotate_x(leg.hinge)
    hip = root @ (sign * shape.hip, 0.0, 0.0)
    knee = hip + turn @ (0.0, -shape.thigh, 0.0)
    ankle = knee + lower @ (0.0, -shape.shin, 0.0)
    points[f"{side}_hip"], points[f"{side}_knee"], points[f"{side}_ankle"] = hip, knee, ankle
    points[f"{side}_heel"] = ankle + lower @ (0.0, -0.06, -0.04)
    points[f"{side}_toe"] = ankle + lower @ (0.0, -0.07, 0.17)


_LENGTHS = tuple((name, value) for name, value in BodyShape().__dict__.items() if name != "girth")

# From the upper neck, in the head's frame, metres.
_HEAD_POINTS = {
    "head": (0.0, 0.095, 0.02),
    "head_top": (0.0, 0.215, 0.01),
    "nose": (0.0, 0.075, 0.135),
    "left_eye": (0.034, 0.110, 0.105),
    "right_eye": (-0.034, 0.110, 0.105),
    "left_ear": (0.080, 0.090, 0.005),
    "right_ear": (-0.080, 0.090, 0.005),
}


def _hang(rng: np.random.Generator, swing: float) -> LimbPose:
    return LimbPose(
        swing=35 * swing + rng.normal(0, 6),
        aside=clipped_normal(rng, 12, 6, 2, 30),
        twist=clipped_normal(rng, 10, 15, -30, 60),
        hinge=clipped_normal(rng, 25, 18, 3, 80),
    )


def _raised(rng: np.random.Generator, swing: float) -> LimbPose:
    return LimbPose(
        swing=0.0,
        aside=clipped_normal(rng, 145, 18, 105, 175),
        twist=clipped_normal(rng, 0, 25, -60, 60),
        hinge=clipped_normal(rng, 25, 22, 0, 90),
    )


def _aside(rng: np.random.Generator, swing: float) -> LimbPose:
    return LimbPose(
        swing=clipped_normal(rng, 0, 12, -20, 40),
        aside=clipped_normal(rng, 80, 16, 45, 105),
        twist=clipped_normal(rng, 0, 60, -90, 90),
        hinge=clipped_normal(rng, 40, 35, 0, 120),
    )


def _forward(rng: np.random.Generator, swing: float) -> LimbPose:
    return LimbPose(
        swing=clipped_normal(rng, 70, 20, 30, 120),
        aside=clipped_normal(rng, 12, 10, -10, 40),
        twist=clipped_normal(rng, 15, 20, -20, 60),
        hinge=clipped_normal(rng, 35, 30, 0, 120),
    )


def _on_hip(rng: np.random.Generator, swing: float) -> LimbPose:
    return LimbPose(
        swing=clipped_normal(rng, -15, 6, -30, 5),
        aside=clipped_normal(rng, 48, 6, 35, 60),
        twist=clipped_normal(rng, 75, 8, 60, 95),
        hinge=clipped_normal(rng, 95, 8, 75, 115),
    )


_ARMS = (_hang, _raised, _aside, _forward, _on_hip)
_ARM_SHARES = (0.3, 0.26, 0.19, 0.16, 0.09)


def _standing(rng: np.random.Generator) -> dict[str, LimbPose]:
    return {
        side: LimbPose(
            swing=rng.normal(2, 5),
            aside=clipped_normal(rng, 8, 7, -3, 32),
            twist=clipped_normal(rng, 8, 10, -15, 35),
            hinge=clipped_normal(rng, 5, 6, 0, 25),
        )
        for side, _ in _SIDES
    }


def _walking(rng: np.random.Generator) -> dict[str, LimbPose]:
    stride = rng.uniform(14, 48) * float(rng.choice([-1, 1]))
    legs = {}
    for side, sign in _SIDES:
        swing = sign * stride
        legs[side] = LimbPose(
            swing=swing,
            aside=clipped_normal(rng, 3, 3, -3, 12),
            hinge=clipped_normal(rng, 12 if swing > 0 else 32, 14, 0, 85),
        )
    return legs


def _sitting(rng: np.random.Generator) -> dict[str, LimbPose]:
    together = clipped_normal(rng, 82, 10, 60, 105)
    knee = clipped_normal(rng, 80, 15, 40, 115)
    return {
        side: LimbPose(
            swing=together + rng.normal(0, 4),
            aside=clipped_normal(rng, 14, 9, 0, 35),
            hinge=knee + rng.normal(0, 6),
        )
        for side, _ in _SIDES
    }


def _one_leg_up(rng: np.random.Generator) -> dict[str, LimbPose]:
    legs = _standing(rng)
    side = "left" if rng.random() < 0.5 else "right"
    legs[side] = LimbPose(
        swing=clipped_normal(rng, 55, 25, 10, 105),
        aside=clipped_normal(rng, 25, 18, 0, 70),
        hinge=clipped_normal(rng, 60, 35, 0, 120),
    )
    return legs


_LEGS = (_standing, _walking, _sitting, _one_leg_up)
_LEG_SHARES = (0.26, 0.28, 0.22, 0.24)
