"""The four-legged skeleton: species, gaits and forward kinematics in three dimensions.

Same frame as the human body: x to the animal's left, y up, z to the front. Lengths are in units
of the trunk's length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from posekit.practice.body import rotate_x, rotate_y, rotate_z
from posekit.practice.rng import clipped_normal

Coat = Literal["plain", "patches", "spots", "stripes"]


@dataclass(frozen=True)
class Species:
    """Proportions and coat of one species, named and numbered as AP-10K does.

    Attributes:
        name: the official category name.
        leg, girth, neck, head, tail: lengths in units of the trunk's length.
        neck_angle_deg: rise of the neck above the horizontal when the animal looks ahead.
        colors: coats, RGB.
        coat: pattern; ears: "pointed", "round" or "floppy"; horns: length in head lengths.
        mane: whether the neck carries a dark crest.
    """

    name: str
    leg: float
    girth: float
    neck: float
    neck_angle_deg: float
    head: float
    tail: float
    colors: tuple[tuple[int, int, int], ...]
    coat: Coat = "plain"
    ears: Literal["pointed", "round", "floppy"] = "pointed"
    horns: float = 0.0
    mane: bool = False


SPECIES: tuple[Species, ...] = (
    Species(
        "antelope", 0.86, 0.23, 0.46, 50, 0.30, 0.18,
        ((190, 140, 85), (160, 110, 70)), horns=1.1,
    ),
    Species(
        "cow", 0.68, 0.31, 0.36, 25, 0.38, 0.50,
        ((225, 220, 210), (120, 75, 45), (60, 50, 45)), "patches", "floppy", 0.35,
    ),
    Species(
        "sheep", 0.52, 0.34, 0.28, 35, 0.28, 0.16,
        ((228, 222, 205), (200, 190, 170)), ears="floppy",
    ),
    Species(
        "dog", 0.62, 0.20, 0.30, 45, 0.32, 0.42,
        ((205, 160, 95), (70, 55, 45), (225, 215, 200)), ears="floppy",
    ),
    Species("fox", 0.50, 0.18, 0.26, 35, 0.32, 0.60, ((215, 110, 45), (190, 95, 50))),
    Species(
        "deer", 0.84, 0.23, 0.44, 55, 0.30, 0.14,
        ((170, 115, 70), (145, 100, 65)), "spots", horns=0.8,
    ),
    Species(
        "horse", 0.86, 0.27, 0.50, 45, 0.40, 0.52,
        ((130, 75, 40), (75, 50, 38), (200, 185, 160)), mane=True,
    ),
    Species(
        "zebra", 0.80, 0.27, 0.44, 45, 0.38, 0.42,
        ((232, 230, 225),), "stripes", "round", mane=True,
    ),
    Species(
        "cat", 0.46, 0.18, 0.22, 40, 0.27, 0.62,
        ((180, 150, 115), (90, 85, 85), (220, 150, 80)), "stripes",
    ),
    Species("cheetah", 0.66, 0.18, 0.28, 30, 0.26, 0.64, ((225, 180, 105),), "spots", "round"),
    Species("giraffe", 1.15, 0.26, 1.05, 62, 0.32, 0.42, ((222, 178, 110),), "patches", horns=0.4),
    Species(
        "pig", 0.40, 0.33, 0.20, 12, 0.36, 0.20,
        ((232, 170, 160), (90, 75, 70)), ears="floppy",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class QuadrupedPose:
    """Joint angles of an animal, degrees.

    Attributes:
        yaw: 90 looks to the picture's right, -90 to its left.
        tip: how far the camera looks down on it; pitch: nose-up tilt of the trunk; roll: tilt in
            the picture's plane.
        neck: added to the species' neck angle; head: droop of the head against the neck;
        head_turn: to the animal's left; tail: rise of the tail above straight down.
        swings: forward swing of the front left, front right, back left, back right leg.
        bends: how far each of those legs is folded.
    """

    yaw: float
    tip: float
    pitch: float
    roll: float
    neck: float
    head: float
    head_turn: float
    tail: float
    swings: tuple[float, float, float, float]
    bends: tuple[float, float, float, float]


def sample_quadruped_pose(rng: np.random.Generator) -> QuadrupedPose:
    """Draw a side or three-quarter view of a standing, walking, running, grazing or rearing one."""
    gait = rng.random()
    reach = 6.0 if gait < 0.3 else 22.0 if gait < 0.7 else 42.0
    stride = rng.uniform(-1, 1) * reach
    signs = (1, 1, -1, -1) if gait > 0.85 else (1, -1, -1, 1)
    swings = [sign * stride + rng.normal(0, 6) for sign in signs]
    bends = [clipped_normal(rng, 12 + 0.5 * reach, 12, 0, 75) for _ in signs]
    grazing, rearing = rng.random() < 0.25, rng.random() < 0.1
    if grazing:
        neck = clipped_normal(rng, -70, 15, -95, -35)
    else:
        neck = clipped_normal(rng, 0, 18, -40, 35)
    return QuadrupedPose(
        yaw=float(rng.choice([-90, 90])) + clipped_normal(rng, 0, 24, -48, 48),
        tip=clipped_normal(rng, 10, 5, 0, 25),
        pitch=rng.uniform(20, 50) if rearing else clipped_normal(rng, 0, 7, -18, 18),
        roll=clipped_normal(rng, 0, 6, -18, 18),
        neck=neck,
        head=clipped_normal(rng, 5, 18, -30, 45),
        head_turn=clipped_normal(rng, 0, 20, -45, 45),
        tail=clipped_normal(rng, 35, 28, 5, 130),
        swings=(swings[0], swings[1], swings[2], swings[3]),
        bends=(bends[0], bends[1], bends[2], bends[3]),
    )


def solve_quadruped(
    pose: QuadrupedPose, species: Species
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Run forward kinematics.

    Returns:
        name -> float64 (3,) in trunk lengths, camera frame (x right, y up, z towards the camera),
        and the head's rotation, whose columns are its left, up and front.
    """
    root = rotate_z(-pose.roll) @ rotate_x(pose.tip) @ rotate_y(pose.yaw) @ rotate_x(-pose.pitch)
    points = {"root_of_tail": root @ (0.0, 0.04, -0.5)}
    points["withers"] = root @ (0.0, 0.06, 0.36)
    points["chest"] = root @ (0.0, -0.04, 0.40)
    points["rump"] = root @ (0.0, -0.02, -0.36)
    rise = species.neck_angle_deg + pose.neck
    neck = root @ rotate_y(0.4 * pose.head_turn) @ rotate_x(-rise)
    points["neck"] = points["withers"] + neck @ (0.0, -0.06, 0.25 * species.neck)
    points["poll"] = points["withers"] + neck @ (0.0, 0.0, species.neck)
    down = 22 + pose.head + 0.5 * max(0.0, -rise)
    head = neck @ rotate_y(0.6 * pose.head_turn) @ rotate_x(rise + down)
    for name, offset in _HEAD_POINTS.items():
        points[name] = points["poll"] + head @ (np.array(offset) * species.head)
    fall = root @ rotate_x(90 - pose.tail)
    points["tail_middle"] = points["root_of_tail"] + fall @ (0.0, 0.0, -0.5 * species.tail)
    droop_tail = root @ rotate_x(90 - 0.4 * pose.tail)
    points["tail_end"] = points["tail_middle"] + droop_tail @ (0.0, 0.0, -0.5 * species.tail)
    for row, (side, sign, end) in enumerate(_LEGS):
        _solve_leg(points, root, (side, sign, end), pose.swings[row], pose.bends[row], species)
    return points, head


def _solve_leg(
    points: dict[str, np.ndarray],
    root: np.ndarray,
    leg: tuple[str, float, str],
    swing: float,
    bend: float,
    species: Species,
) -> None:
    side, sign, end = leg
    across = sign * 0.62 * species.girth
    length = species.leg
    if end == "front":
        top = root @ (across, -0.06, 0.34)
        upper = root @ rotate_x(-swing + 22)
        lower = upper @ rotate_x(-22 - 0.5 * bend)
        pastern = lower @ rotate_x(1.1 * bend)
        knee = top + upper @ (0.0, -0.46 * length, 0.0)
        points[f"{side}_shoulder"], points[f"{side}_elbow"] = top, knee
        wrist = knee + lower @ (0.0, -0.30 * length, 0.0)
        points[f"{side}_front_wrist"] = wrist
        points[f"{side}_front_paw"] = wrist + pastern @ (0.0, -0.28 * length, 0.0)
        points[f"{side}_front_toe"] = points[f"{side}_front_paw"] + root @ (0.0, -0.02, 0.05)
        return
    top = root @ (across, -0.06, -0.36)
    upper = root @ rotate_x(-swing - 24)
    lower = upper @ rotate_x(58 + 0.5 * bend)
    pastern = lower @ rotate_x(-34 - 0.45 * bend)
    knee = top + upper @ (0.0, -0.42 * length, 0.0)
    hock = knee + lower @ (0.0, -0.36 * length, 0.0)
    points[f"{side}_hip"], points[f"{side}_knee"], points[f"{side}_hock"] = top, knee, hock
    points[f"{side}_back_paw"] = hock + pastern @ (0.0, -0.34 * length, 0.0)
    points[f"{side}_back_toe"] = points[f"{side}_back_paw"] + root @ (0.0, -0.02, 0.05)


_LEGS = (
    ("left", 1.0, "front"),
    ("right", -1.0, "front"),
    ("left", 1.0, "back"),
    ("right", -1.0, "back"),
)

# From the poll, in the head's frame, head lengths.
_HEAD_POINTS = {
    "muzzle": (0.0, -0.14, 0.66),
    "nose": (0.0, -0.08, 0.92),
    "left_eye": (0.20, 0.10, 0.30),
    "right_eye": (-0.20, 0.10, 0.30),
    "left_ear": (0.20, 0.22, -0.02),
    "right_ear": (-0.20, 0.22, -0.02),
    "left_ear_tip": (0.34, 0.56, -0.10),
    "right_ear_tip": (-0.34, 0.56, -0.10),
    "left_ear_flop": (0.46, -0.06, 0.02),
    "right_ear_flop": (-0.46, -0.06, 0.02),
}
