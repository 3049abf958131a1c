"""The human skeleton: joint limits, poses and forward kinematics in three dimensions.

The body's own frame is right-handed: x to the person's left, y up, z to the front. The camera
looks along -z, so a person who faces it (yaw 0) has the left side at larger x in the picture.
Lengths are metres.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np

SIDES = {"left": 1.0, "right": -1.0}
"""Side -> its direction along x in a body's own frame."""
HEAD_SIZE = 1.2  # heads are drawn a little large, so that small crops still show the face


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
        default_factory=lambda: {side: LimbPose(aside=8, hinge=10) for side in SIDES}
    )
    legs: dict[str, LimbPose] = field(
        default_factory=lambda: {side: LimbPose(aside=4) for side in SIDES}
    )


@dataclass(frozen=True)
class BodyShape:
    """Lengths in metres, and the girth as a factor."""

    spine: float = 0.50
    neck: float = 0.08
    shoulder: float = 0.19
    hip: float = 0.10
    upper_arm: float = 0.29
    forearm: float = 0.26
    thigh: float = 0.43
    shin: float = 0.42
    girth: float = 1.0


def clipped_normal(
    rng: np.random.Generator, mean: float, spread: float, low: float, high: float
) -> float:
    """Draw a normal number and hold it inside the limits, as a joint holds a limb."""
    return float(min(max(rng.normal(mean, spread), low), high))


def _rotation(axis: int, angle_deg: float) -> np.ndarray:
    vector = np.zeros(3)
    vector[axis] = np.radians(angle_deg)
    return cv2.Rodrigues(vector)[0]


# Rotations by degrees: x turns y towards z, y turns z towards x, z turns x towards y.
rotate_x, rotate_y, rotate_z = (partial(_rotation, axis) for axis in range(3))


def sample_shape(rng: np.random.Generator) -> BodyShape:
    """Draw a person's proportions."""
    sizes = {
        name: value * clipped_normal(rng, 1, 0.05, 0.88, 1.12)
        for name, value in BodyShape().__dict__.items()
        if name != "girth"
    }
    return BodyShape(**sizes, girth=float(rng.uniform(0.85, 1.25)))


def sample_pose(rng: np.random.Generator) -> BodyPose:
    """Draw a pose inside the joint limits: standing, walking, sitting, arms up, leaning."""
    legs = _sample_legs(rng)
    stride = 35 * rng.uniform(-1, 1)
    arms = {side: _sample_arm(rng, sign * stride) for side, sign in SIDES.items()}
    if rng.random() < 0.3:  # both arms alike
        arms["right"] = arms["left"]
    view = rng.random()
    if view < 0.45:
        yaw = clipped_normal(rng, 0, 22, -50, 50)
    elif view < 0.75:
        yaw = float(rng.choice([-1, 1])) * clipped_normal(rng, 75, 15, 50, 110)
    else:
        yaw = 180 + clipped_normal(rng, 0, 22, -45, 45)
    limits = dict(_TRUNK_ANGLES)
    if rng.random() < 0.4:
        limits["roll"] = (0, 32, -70, 70)
    angles = {name: clipped_normal(rng, *limit) for name, limit in limits.items()}
    return BodyPose(yaw=yaw, arms=arms, legs=legs, **angles)


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
        points[name] = points["upper_neck"] + head @ (np.array(offset) * HEAD_SIZE)
    for side, sign in SIDES.items():
        shoulder = points["thorax"] + chest @ (sign * shape.shoulder, -0.03, 0.0)
        hip = root @ (sign * shape.hip, 0.0, 0.0)
        arm, leg = pose.arms[side], pose.legs[side]
        lengths = (shape.upper_arm, shape.forearm), (shape.thigh, shape.shin)
        # Elbows bend forwards and knees backwards; arms twist inwards and legs outwards.
        elbow, wrist, lower = _solve_limb(chest, shoulder, arm, sign, -1.0, lengths[0])
        knee, ankle, shin = _solve_limb(root, hip, leg, sign, 1.0, lengths[1])
        ends = {
            "shoulder": shoulder,
            "elbow": elbow,
            "wrist": wrist,
            "hand": wrist + lower @ (0.0, -0.10, 0.0),
            "hip": hip,
            "knee": knee,
            "ankle": ankle,
            "heel": ankle + shin @ (0.0, -0.06, -0.04),
            "toe": ankle + shin @ (0.0, -0.07, 0.17),
        }
        points |= {f"{side}_{name}": point for name, point in ends.items()}
    return points, head


def _solve_limb(
    frame: np.ndarray,
    origin: np.ndarray,
    limb: LimbPose,
    sign: float,
    bends: float,
    lengths: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the middle joint, the end and the rotation of the lower half of an arm or leg."""
    upper = frame @ rotate_x(-limb.swing) @ rotate_z(sign * limb.aside)
    upper = upper @ rotate_y(bends * sign * limb.twist)
    lower = upper @ rotate_x(bends * limb.hinge)
    middle = origin + upper @ (0.0, -lengths[0], 0.0)
    return middle, middle + lower @ (0.0, -lengths[1], 0.0), lower


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

# The four numbers of every angle below are mean, spread, least and greatest, degrees.
_Limit = tuple[float, float, float, float]
_TRUNK_ANGLES: dict[str, _Limit] = {
    "lean": (2, 6, -12, 20),
    "roll": (0, 8, -70, 70),
    "bend": (6, 14, -12, 60),
    "side_bend": (0, 8, -25, 25),
    "spine_twist": (0, 10, -30, 30),
    "nod": (0, 10, -25, 30),
    "turn": (0, 18, -45, 45),
    "tilt": (0, 7, -20, 20),
}
_HANGING = ((0, 6, -20, 20), (12, 6, 2, 30), (10, 15, -30, 60), (25, 18, 3, 80))
_ARMS: tuple[tuple[_Limit, ...], ...] = (
    _HANGING,
    ((0, 0, 0, 0), (145, 18, 105, 175), (0, 25, -60, 60), (25, 22, 0, 90)),  # raised
    ((0, 12, -20, 40), (80, 16, 45, 105), (0, 60, -90, 90), (40, 35, 0, 120)),  # to the side
    ((70, 20, 30, 120), (12, 10, -10, 40), (15, 20, -20, 60), (35, 30, 0, 120)),  # forwards
    ((-15, 6, -30, 5), (48, 6, 35, 60), (75, 8, 60, 95), (95, 8, 75, 115)),  # hand on the hip
)
_ARM_SHARES = (0.3, 0.26, 0.19, 0.16, 0.09)
_STANDING: tuple[_Limit, ...] = ((2, 5, -13, 17), (8, 7, -3, 32), (8, 10, -15, 35), (5, 6, 0, 25))
_LIFTED: tuple[_Limit, ...] = ((55, 25, 10, 105), (25, 18, 0, 70), (0, 0, 0, 0), (60, 35, 0, 120))


def _sample_limb(rng: np.random.Generator, limits: tuple[_Limit, ...]) -> LimbPose:
    return LimbPose(*(clipped_normal(rng, *limit) for limit in limits))


def _sample_arm(rng: np.random.Generator, swing: float) -> LimbPose:
    (_, spread, least, greatest), *others = limits = _ARMS[rng.choice(len(_ARMS), p=_ARM_SHARES)]
    if limits is _HANGING:  # swings against the leg of its side
        return _sample_limb(rng, ((swing, spread, least + swing, greatest + swing), *others))
    return _sample_limb(rng, limits)


def _sample_legs(rng: np.random.Generator) -> dict[str, LimbPose]:
    kind = rng.choice(["standing", "walking", "sitting", "one leg up"], p=[0.26, 0.28, 0.22, 0.24])
    legs = {side: _sample_limb(rng, _STANDING) for side in SIDES}
    if kind == "one leg up":
        legs[rng.choice(list(SIDES))] = _sample_limb(rng, _LIFTED)
    elif kind == "walking":
        stride = rng.uniform(14, 48) * float(rng.choice([-1, 1]))
        for side, sign in SIDES.items():
            swing = sign * stride
            aside = clipped_normal(rng, 3, 3, -3, 12)
            hinge = clipped_normal(rng, 12 if swing > 0 else 32, 14, 0, 85)
            legs[side] = LimbPose(swing, aside, 0.0, hinge)
    elif kind == "sitting":
        thighs, knees = clipped_normal(rng, 82, 10, 60, 105), clipped_normal(rng, 80, 15, 40, 115)
        for side in SIDES:
            aside = clipped_normal(rng, 14, 9, 0, 35)
            legs[side] = LimbPose(thighs + rng.normal(0, 4), aside, 0.0, knees + rng.normal(0, 6))
    return legs
