"""Draws a four-legged animal: species, gaits, kinematics, coat, parts ordered by depth.

Same frame as the human body: x to the animal's left, y up, z to the front. Lengths are in units
of the trunk's length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from posekit.practice.body import SIDES, clipped_normal, rotate_x, rotate_y, rotate_z
from posekit.practice.canvas import Canvas, capsule, ellipse, hull, tint
from posekit.practice.figures import Figure, Painter, Task


@dataclass(frozen=True)
class Species:
    """Proportions and coat of one species, named as AP-10K does.

    Attributes:
        name: the official category name.
        leg, girth, neck, head, tail: lengths in units of the trunk's length.
        neck_angle_deg: rise of the neck above the horizontal when the animal looks ahead.
        colors: coats, RGB; spots: how many the trunk carries.
        floppy: whether the ears hang.
    """

    name: str
    leg: float
    girth: float
    neck: float
    neck_angle_deg: float
    head: float
    tail: float
    colors: tuple[tuple[int, int, int], ...]
    spots: int = 0
    floppy: bool = False


SPECIES = (
    Species("antelope", 0.86, 0.23, 0.46, 50, 0.30, 0.18, ((190, 140, 85),)),
    Species("cow", 0.68, 0.31, 0.36, 25, 0.38, 0.50, ((225, 220, 210), (120, 75, 45)), 6, True),
    Species("sheep", 0.52, 0.34, 0.28, 35, 0.28, 0.16, ((228, 222, 205),), floppy=True),
    Species("dog", 0.62, 0.20, 0.30, 45, 0.32, 0.42, ((205, 160, 95), (70, 55, 45)), floppy=True),
    Species("fox", 0.50, 0.18, 0.26, 35, 0.32, 0.60, ((215, 110, 45), (190, 95, 50))),
    Species("deer", 0.84, 0.23, 0.44, 55, 0.30, 0.14, ((170, 115, 70),), 14),
    Species("horse", 0.86, 0.27, 0.50, 45, 0.40, 0.52, ((130, 75, 40), (200, 185, 160))),
    Species("cat", 0.46, 0.18, 0.22, 40, 0.27, 0.62, ((180, 150, 115), (90, 85, 85))),
    Species("cheetah", 0.66, 0.18, 0.28, 30, 0.26, 0.64, ((225, 180, 105),), 14),
    Species("giraffe", 1.15, 0.26, 1.05, 62, 0.32, 0.42, ((222, 178, 110),), 6),
    Species("pig", 0.40, 0.33, 0.20, 12, 0.36, 0.20, ((232, 170, 160), (90, 75, 70)), floppy=True),
)


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
    swings: list[float]
    bends: list[float]


def sample_quadruped_pose(rng: np.random.Generator) -> QuadrupedPose:
    """Draw a side or three-quarter view of a standing, walking, running, grazing or rearing one."""
    gait = rng.random()
    reach = 6.0 if gait < 0.3 else 22.0 if gait < 0.7 else 42.0
    stride = rng.uniform(-1, 1) * reach
    signs = (1, 1, -1, -1) if gait > 0.85 else (1, -1, -1, 1)
    swings = [sign * stride + rng.normal(0, 6) for sign in signs]
    bends = [clipped_normal(rng, 12 + 0.5 * reach, 12, 0, 75) for _ in signs]
    grazing, rearing = rng.random() < 0.25, rng.random() < 0.1
    neck = (-70, 15, -95, -35) if grazing else (0, 18, -40, 35)
    return QuadrupedPose(
        neck=clipped_normal(rng, *neck),
        yaw=float(rng.choice([-90, 90])) + clipped_normal(rng, 0, 24, -48, 48),
        tip=clipped_normal(rng, 10, 5, 0, 25),
        pitch=rng.uniform(20, 50) if rearing else clipped_normal(rng, 0, 7, -18, 18),
        roll=clipped_normal(rng, 0, 6, -18, 18),
        head=clipped_normal(rng, 5, 18, -30, 45),
        head_turn=clipped_normal(rng, 0, 20, -45, 45),
        tail=clipped_normal(rng, 35, 28, 5, 130),
        swings=swings,
        bends=bends,
    )


# The joints of a leg from the trunk to the paw, and the lengths of its three pieces as shares.
_LEGS = {
    "front": (("shoulder", "elbow", "front_wrist", "front_paw"), (0.46, 0.30, 0.28)),
    "back": (("hip", "knee", "hock", "back_paw"), (0.42, 0.36, 0.34)),
}
# From the poll, in the head's frame, head lengths.
_HEAD_POINTS = {"muzzle": (0.0, -0.14, 0.66), "nose": (0.0, -0.08, 0.92)}
for _side, _sign in SIDES.items():
    _HEAD_POINTS |= {
        f"{_side}_eye": (0.20 * _sign, 0.10, 0.30),
        f"{_side}_ear": (0.20 * _sign, 0.22, -0.02),
        f"{_side}_ear_tip": (0.34 * _sign, 0.56, -0.10),
        f"{_side}_ear_flop": (0.46 * _sign, -0.06, 0.02),
    }


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
    tail = (0.0, 0.0, -0.5 * species.tail)
    points["tail_middle"] = points["root_of_tail"] + root @ rotate_x(90 - pose.tail) @ tail
    points["tail_end"] = points["tail_middle"] + root @ rotate_x(90 - 0.4 * pose.tail) @ tail
    legs = [(end, side) for end in _LEGS for side in SIDES]
    for (end, side), swing, bend in zip(legs, pose.swings, pose.bends, strict=True):
        front = end == "front"
        # Of each piece against the one above it: front legs fold at the wrist, back ones thrice.
        angles = (22 - swing, -22 - 0.5 * bend, 1.1 * bend)
        if not front:
            angles = (-24 - swing, 58 + 0.5 * bend, -34 - 0.45 * bend)
        (first, *joints), shares = _LEGS[end]
        at = root @ (SIDES[side] * 0.62 * species.girth, -0.06, 0.34 if front else -0.36)
        points[f"{side}_{first}"] = at
        turn = root
        for joint, angle, length in zip(joints, angles, shares, strict=True):
            turn = turn @ rotate_x(angle)
            at = at + turn @ (0.0, -length * species.leg, 0.0)
            points[f"{side}_{joint}"] = at
        points[f"{side}_{end}_toe"] = at + root @ (0.0, -0.02, 0.05)
    return points, head


# The parts on which each keypoint lies, with margins in trunk lengths (see Figure.owners).
_OWNERS: dict[str, dict[str, float]] = {
    "left_eye": {"head": 9.0},
    "right_eye": {"head": 9.0},
    "nose": {"head": 9.0},
    "neck": {"neck": 9.0, "trunk": 9.0, "head": 0.1},
    "root_of_tail": {"trunk": 9.0, "tail": 9.0},
}
for _end, (_joints, _) in _LEGS.items():
    for _side in SIDES:
        _leg, _trunk = f"{_side}_{_end}", {"trunk": 0.07}
        _neck = {"neck": 0.04} if _end == "front" else {}
        _OWNERS |= {
            f"{_side}_{_joints[0]}": {**_trunk, **_neck, f"{_leg}_upper": 9.0},
            f"{_side}_{_joints[1]}": {**_trunk, f"{_leg}_upper": 9.0, f"{_leg}_lower": 9.0},
            f"{_leg}_paw": {f"{_leg}_foot": 9.0, f"{_leg}_shank": 9.0},
        }
ANIMAL_KEYPOINTS = tuple(_OWNERS)
"""AP-10K's keypoints in their official order."""


def render_animal(
    canvas: Canvas,
    rng: np.random.Generator,
    center: np.ndarray,
    length: float,
    *,
    number: int = 0,
) -> Figure:
    """Draw one animal in front of everything that is on the canvas.

    Args:
        canvas, center, number: as `render_person` takes them.
        rng: draws species, pose and coat.
        length: pixels of the longer side of the figure's extent.

    Returns:
        The figure, its keypoints in the order of ANIMAL_KEYPOINTS, its category the species' name.
    """
    species = SPECIES[int(rng.integers(len(SPECIES)))]
    skeleton = solve_quadruped(sample_quadruped_pose(rng), species)
    extent = np.ptp(np.array(list(skeleton[0].values()))[:, :2], axis=0)
    scale = length / float(extent.max() + 0.1)
    return _AnimalPainter(canvas, number, skeleton, scale, center).draw(rng, species)


class _AnimalPainter(Painter):
    """Draws the parts of one animal, the far ones first."""

    def draw(self, rng: np.random.Generator, species: Species) -> Figure:
        self.species, self.rng = species, rng
        base = species.colors[int(rng.integers(len(species.colors)))]
        self.color = tint(base, float(rng.uniform(0.85, 1.1)))
        self.mark = tint(base, 2.2 if sum(base) < 300 else float(rng.uniform(0.3, 0.5)))
        self.sock = self.mark if rng.random() < 0.4 else tint(base, 0.7)
        # An eye is labelled on the side of the head that the camera sees.
        eyes = {side: self.head @ (0.85 * sign, 0.25, 0.45) for side, sign in SIDES.items()}
        self.unseen = {f"{side}_eye" for side, normal in eyes.items() if normal[2] <= 0.0}
        poll = self.depth("poll")
        tasks: list[Task] = [
            (0.0, self._trunk),
            (0.6 * self.depth("root_of_tail"), self._tail),
            (0.5 * poll + 0.01, self._neck),
            (max(poll, 0.5 * poll) + 0.02, self._head),
        ]
        for side in SIDES:
            depth = self.depth(f"{side}_shoulder", f"{side}_hip")
            # Legs beyond the trunk lie in its shadow.
            tasks.append((depth, partial(self._legs, side, 1.0 if depth > 0 else 0.58)))
        self.paint(tasks)
        return self.figure(_OWNERS, self.unseen, species.name)

    def _legs(self, side: str, light: float) -> None:
        color, sock = tint(self.color, light), tint(self.sock, light)
        thick = 0.35 * self.species.girth
        for end, thigh in (("back", 1.25), ("front", 1.0)):
            top, middle, ankle, paw = (f"{side}_{joint}" for joint in _LEGS[end][0])
            for part, start, stop, r0, r1, shade in (
                ("foot", paw, f"{side}_{end}_toe", 0.42, 0.36, tint(sock, 0.7)),
                ("shank", ankle, paw, 0.42, 0.36, sock),
                ("lower", middle, ankle, 0.6, 0.42, color),
                ("upper", top, middle, thigh, 0.68, color),
            ):
                self.limb(f"{side}_{end}_{part}", start, stop, (r0 * thick, r1 * thick), shade)

    def _trunk(self) -> None:
        girth = self.species.girth * self.scale
        radii = {"chest": 0.92, "rump": 0.84, "root_of_tail": 0.25, "withers": 0.45}
        discs = [ellipse(self.flat[name], (r * girth,) * 2) for name, r in radii.items()]
        outline = hull(*discs)
        self.rimmed(outline, tint(self.color, 0.9), self.begin("trunk", "rump", "chest"), 0.9)
        middle = outline.mean(axis=0) - (0, 0.2 * girth)
        self.canvas.polygon(middle + (outline - outline.mean(axis=0)) * (0.8, 0.62), self.color)
        rump, along = self.flat["rump"], self.flat["chest"] - self.flat["rump"]
        size = girth * (0.09 if self.species.spots > 10 else 0.3)
        for share, rise in self.rng.uniform(-0.05, 1.05, (self.species.spots, 2)):
            spot = rump + share * along + (0, (rise - 0.62) * 1.05 * girth)
            self.canvas.polygon(ellipse(spot, (size, 0.8 * size)), self.mark)

    def _tail(self) -> None:
        radius = 0.14 * self.species.girth
        self.limb("tail", "root_of_tail", "tail_middle", (radius, radius), tint(self.color, 0.85))
        self.limb("tail", "tail_middle", "tail_end", (radius, 0.6 * radius), self.mark)

    def _neck(self) -> None:
        radii = self.species.girth * self.scale * np.array([0.62, 0.36])
        start, end = 0.6 * self.flat["withers"] + 0.4 * self.flat["chest"], self.flat["poll"]
        part_id = self.begin("neck", "withers", "poll")
        self.rimmed(capsule(start, end, radii), tint(self.color, 0.97), part_id, 0.85)

    def _head(self) -> None:
        size = self.species.head * self.scale
        far, near = ("right", "left") if self.head[2, 0] > 0 else ("left", "right")
        self._ear(far, size, 0.45)
        part_id = self.begin("head", "poll", "nose")
        radii = {"poll": 0.34, "muzzle": 0.22, "nose": 0.10}
        discs = [ellipse(self.flat[name], (r * size,) * 2) for name, r in radii.items()]
        self.rimmed(hull(*discs), tint(self.color, 1.04), part_id, 0.86)
        self.canvas.disc(self.flat["muzzle"], 0.17 * size, tint(self.color, 0.8))
        self.canvas.disc(self.flat["nose"], 0.11 * size, (35, 28, 30), part_id)
        self._ear(near, size, 0.75)
        for eye in sorted({"left_eye", "right_eye"} - self.unseen):
            self.canvas.disc(self.flat[eye], 0.10 * size, (245, 240, 225), part_id)
            self.canvas.disc(self.flat[eye], 0.07 * size, (15, 12, 12))

    def _ear(self, side: str, size: float, light: float) -> None:
        tip = f"{side}_ear_{'flop' if self.species.floppy else 'tip'}"
        part_id = self.begin("ear", f"{side}_ear", tip)
        radii = (0.11 * size, (0.12 if self.species.floppy else 0.03) * size)
        outline = capsule(self.flat[f"{side}_ear"], self.flat[tip], radii)
        self.canvas.polygon(outline, tint(self.color, light), part_id)
