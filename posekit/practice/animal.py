"""Draws a four-legged animal: trunk, legs, neck, head, coat pattern, parts ordered by depth."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from posekit.practice.canvas import Canvas, Color, capsule, ellipse, hull, tint
from posekit.practice.figures import Figure
from posekit.practice.painter import Painter, Task, paint_far_to_near
from posekit.practice.quadruped import (
    SPECIES,
    QuadrupedPose,
    Species,
    sample_quadruped_pose,
    solve_quadruped,
)

ANIMAL_KEYPOINTS = (
    "left_eye",
    "right_eye",
    "nose",
    "neck",
    "root_of_tail",
    "left_shoulder",
    "left_elbow",
    "left_front_paw",
    "right_shoulder",
    "right_elbow",
    "right_front_paw",
    "left_hip",
    "left_knee",
    "left_back_paw",
    "right_hip",
    "right_knee",
    "right_back_paw",
)

_TRUNK = {"trunk": 0.07}


def _owners() -> dict[str, dict[str, float]]:
    owners: dict[str, dict[str, float]] = {
        "left_eye": {"head": 9.0},
        "right_eye": {"head": 9.0},
        "nose": {"head": 9.0},
        "neck": {"neck": 9.0, "trunk": 9.0, "head": 0.1},
        "root_of_tail": {"trunk": 9.0, "tail": 9.0},
    }
    for side in ("left", "right"):
        front, back = f"{side}_front", f"{side}_back"
        owners[f"{side}_shoulder"] = {**_TRUNK, "neck": 0.04, f"{front}_upper": 9.0}
        owners[f"{side}_elbow"] = {f"{front}_upper": 9.0, f"{front}_lower": 9.0, **_TRUNK}
        owners[f"{front}_paw"] = {f"{front}_foot": 9.0, f"{front}_shank": 9.0}
        owners[f"{side}_hip"] = {**_TRUNK, f"{back}_upper": 9.0}
        owners[f"{side}_knee"] = {f"{back}_upper": 9.0, f"{back}_lower": 9.0, **_TRUNK}
        owners[f"{back}_paw"] = {f"{back}_foot": 9.0, f"{back}_shank": 9.0}
    return owners


_OWNERS = _owners()


def render_animal(
    canvas: Canvas,
    rng: np.random.Generator,
    center: np.ndarray,
    length: float,
    *,
    number: int = 0,
    species: Species | None = None,
    pose: QuadrupedPose | None = None,
) -> Figure:
    """Draw one animal in front of everything that is on the canvas.

    Args:
        canvas: drawn upon.
        rng: draws whatever of species and pose is not given, and the coat.
        center: (x, y) pixels where the middle of the figure's extent comes to lie.
        length: pixels of the longer side of the figure's extent.
        number: the figure's number on this canvas.
        species: proportions and coat; pose: joint angles.

    Returns:
        The figure, its keypoints in the order of ANIMAL_KEYPOINTS, its category the species' name.
    """
    species = species or SPECIES[int(rng.integers(len(SPECIES)))]
    pose = pose or sample_quadruped_pose(rng)
    points_3d, head = solve_quadruped(pose, species)
    extent = np.ptp(np.array(list(points_3d.values()))[:, :2], axis=0)
    scale = length / float(extent.max() + 0.1)
    painter = _AnimalPainter(canvas, number, points_3d, scale, center, species, rng)
    painter.draw(head)
    rows = np.array([points_3d[name] for name in ANIMAL_KEYPOINTS])
    return Figure(
        number=number,
        names=ANIMAL_KEYPOINTS,
        points=np.array([painter.flat[name] for name in ANIMAL_KEYPOINTS]),
        depths=scale * rows[:, 2],
        labelled=np.array([_sees(name, head) for name in ANIMAL_KEYPOINTS]),
        owners={
            name: {part: margin * scale for part, margin in parts.items()}
            for name, parts in _OWNERS.items()
        },
        category=species.name,
        points_3d=rows,
    )


def _sees(name: str, head: np.ndarray) -> bool:
    """Return whether an eye is on the side of the head that the camera sees."""
    if not name.endswith("_eye"):
        return True
    sign = 1.0 if name == "left_eye" else -1.0
    return bool((head @ np.array([0.85 * sign, 0.25, 0.45]))[2] > 0.0)


class _AnimalPainter(Painter):
    """Draws the parts of one animal, the far ones first."""

    def __init__(
        self,
        canvas: Canvas,
        number: int,
        points_3d: Mapping[str, np.ndarray],
        scale: float,
        center: np.ndarray,
        species: Species,
        rng: np.random.Generator,
    ):
        super().__init__(canvas, number, points_3d, scale, center)
        self.species, self.rng = species, rng
        base = species.colors[int(rng.integers(len(species.colors)))]
        self.color: Color = tint(base, float(rng.uniform(0.85, 1.1)))
        contrast = 2.2 if sum(base) < 300 else float(rng.uniform(0.3, 0.5))
        self.mark: Color = tint(base, contrast)
        self.sock: Color = self.mark if rng.random() < 0.4 else tint(base, 0.7)

    def draw(self, head: np.ndarray) -> None:
        """Draw the whole animal; `head` is the head's rotation."""
        poll = self.depth("poll")
        tasks: list[Task] = [
            (0.0, self._trunk),
            (0.6 * self.depth("root_of_tail"), self._tail),
            (0.5 * poll + 0.01, self._neck),
            (max(poll, 0.5 * poll) + 0.02, partial(self._head, head)),
        ]
        for side in ("left", "right"):
            top = self.depth(f"{side}_shoulder", f"{side}_hip")
            tasks.append((top, partial(self._legs, side)))
        paint_far_to_near(tasks)

    def _legs(self, side: str) -> None:
        """Draw both legs of one side; those beyond the trunk lie in its shadow."""
        near = self.depth(f"{side}_shoulder", f"{side}_hip") > 0
        color = self.color if near else tint(self.color, 0.58)
        sock = self.sock if near else tint(self.sock, 0.6)
        thick = 0.35 * self.species.girth
        back, front = f"{side}_back", f"{side}_front"
        for name, a, b, r0, r1, c in (
            (f"{back}_foot", f"{back}_paw", f"{back}_toe", 0.42, 0.36, tint(sock, 0.7)),
            (f"{back}_shank", f"{side}_hock", f"{back}_paw", 0.42, 0.36, sock),
            (f"{back}_lower", f"{side}_knee", f"{side}_hock", 0.62, 0.42, color),
            (f"{back}_upper", f"{side}_hip", f"{side}_knee", 1.25, 0.72, color),
            (f"{front}_foot", f"{front}_paw", f"{front}_toe", 0.42, 0.36, tint(sock, 0.7)),
            (f"{front}_shank", f"{front}_wrist", f"{front}_paw", 0.42, 0.36, sock),
            (f"{front}_lower", f"{side}_elbow", f"{front}_wrist", 0.6, 0.42, color),
            (f"{front}_upper", f"{side}_shoulder", f"{side}_elbow", 1.0, 0.64, color),
        ):
            self.limb(name, a, b, (r0 * thick, r1 * thick), c)

    def _trunk(self) -> None:
        girth = self.species.girth * self.scale
        discs = [
            ellipse(self.flat["chest"], (0.92 * girth,) * 2),
            ellipse(self.flat["rump"], (0.84 * girth,) * 2),
            ellipse(self.flat["root_of_tail"], (0.25 * girth,) * 2),
            ellipse(self.flat["withers"], (0.45 * girth,) * 2),
        ]
        outline = hull(np.concatenate(discs))
        part_id = self.begin("trunk", "rump", "chest")
        middle = outline.mean(axis=0)
        self.canvas.polygon(outline, tint(self.color, 0.68), part_id)
        self.canvas.polygon(middle + (outline - middle) * 0.9, tint(self.color, 0.9))
        self.canvas.polygon(
            middle + (outline - middle) * (0.8, 0.62) - (0, 0.2 * girth), self.color
        )
        self._coat(girth)

    def _coat(self, girth: float) -> None:
        """Mark the trunk with the species' pattern."""
        chest, rump = self.flat["chest"], self.flat["rump"]
        along = chest - rump
        if self.species.coat == "stripes":
            for share in np.linspace(0.0, 1.0, 8):
                foot = rump + share * along
                ends = foot + girth * np.array([[0.08, -0.7], [0.0, 0.45]])
                self.canvas.line(ends, self.mark, max(1, round(0.12 * girth)))
        elif self.species.coat in ("spots", "patches"):
            spots = self.species.coat == "spots"
            for share, rise in self.rng.uniform(-0.05, 1.05, (14 if spots else 6, 2)):
                spot = rump + share * along + (0, (rise - 0.62) * 1.05 * girth)
                radius = (0.09 if spots else float(self.rng.uniform(0.2, 0.4))) * girth
                self.canvas.polygon(ellipse(spot, (radius, 0.8 * radius)), self.mark)

    def _tail(self) -> None:
        radius = 0.14 * self.species.girth + (0.03 if self.species.name == "fox" else 0.0)
        self.limb("tail", "root_of_tail", "tail_middle", (radius, radius), tint(self.color, 0.85))
        self.limb("tail", "tail_middle", "tail_end", (radius, 0.6 * radius), self.mark)

    def _neck(self) -> None:
        thick, thin = 0.62 * self.species.girth, 0.36 * self.species.girth
        start, end = self.flat["withers"], self.flat["poll"]
        start = 0.6 * start + 0.4 * self.flat["chest"]
        part_id = self.begin("neck", "withers", "poll")
        r0, r1 = thick * self.scale, thin * self.scale
        self.canvas.polygon(capsule(start, end, r0, r1), tint(self.color, 0.7), part_id)
        self.canvas.polygon(capsule(start, end, 0.85 * r0, 0.82 * r1), tint(self.color, 0.97))
        if self.species.mane:
            along = self.flat["poll"] - self.flat["withers"]
            across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
            if across @ (self.flat["nose"] - self.flat["poll"]) > 0:
                across = -across  # the crest lies on the side away from the face
            crest = np.stack([self.flat["withers"], self.flat["poll"]]) + 0.8 * r1 * across
            self.canvas.line(crest, tint(self.color, 0.35), max(1, round(0.5 * r1)))

    def _head(self, head: np.ndarray) -> None:
        size = self.species.head * self.scale
        poll, muzzle, nose = self.flat["poll"], self.flat["muzzle"], self.flat["nose"]
        near_left = head[2, 0] > 0
        far, near = ("right", "left") if near_left else ("left", "right")
        self._horns(head, size)
        self._ear(far, size, 0.6)
        part_id = self.begin("head", "poll", "nose")
        skull = hull(
            np.concatenate(
                [
                    ellipse(poll, (0.34 * size,) * 2),
                    ellipse(muzzle, (0.22 * size,) * 2),
                    ellipse(nose, (0.10 * size,) * 2),
                ]
            )
        )
        middle = skull.mean(axis=0)
        self.canvas.polygon(skull, tint(self.color, 0.68), part_id)
        self.canvas.polygon(middle + 0.86 * (skull - middle), tint(self.color, 1.04))
        self.canvas.polygon(ellipse(muzzle, (0.17 * size,) * 2), tint(self.color, 0.8))
        self.canvas.disc(nose, 0.11 * size, (35, 28, 30), part_id)
        self._ear(near, size, 1.0)
        for side in ("left", "right"):
            if _sees(f"{side}_eye", head):
                self.canvas.disc(self.flat[f"{side}_eye"], 0.10 * size, (245, 240, 225), part_id)
                self.canvas.disc(self.flat[f"{side}_eye"], 0.07 * size, (15, 12, 12))

    def _ear(self, side: str, size: float, light: float) -> None:
        base = self.flat[f"{side}_ear"]
        flop = self.species.ears == "floppy"
        tip = self.flat[f"{side}_ear_{'flop' if flop else 'tip'}"]
        part_id = self.begin("ear", f"{side}_ear", f"{side}_ear_tip")
        if self.species.ears == "round":
            self.canvas.disc(
                0.5 * (base + tip), 0.15 * size, tint(self.color, 0.8 * light), part_id
            )
            return
        radii = (0.11 * size, (0.12 if flop else 0.03) * size)
        self.canvas.polygon(capsule(base, tip, *radii), tint(self.color, 0.75 * light), part_id)

    def _horns(self, head: np.ndarray, size: float) -> None:
        if not self.species.horns:
            return
        for sign in (1.0, -1.0):
            part_id = self.begin("horn", "poll", "poll")
            offsets = np.array(
                [(0.12 * sign, 0.28, 0.08), (0.3 * sign, 0.3 + self.species.horns, -0.2)]
            )
            base, tip = self.flat["poll"] + size * (offsets @ head.T)[:, :2] * (1, -1)
            self.canvas.polygon(
                capsule(base, tip, 0.07 * size, 0.03 * size), (226, 208, 170), part_id
            )
