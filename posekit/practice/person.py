"""Draws an articulated person from one skeleton that serves every human schema."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from posekit.practice.body import (
    HEAD_SIZE,
    SIDES,
    BodyPose,
    BodyShape,
    sample_pose,
    sample_shape,
    solve_body,
)  # fmt: skip
from posekit.practice.canvas import Canvas, Color, ellipse, hull, random_color, tint
from posekit.practice.figures import Figure, Painter, Task

SKINS = ((241, 205, 175), (224, 172, 135), (198, 134, 96), (141, 92, 62), (96, 64, 46))
HAIRS = ((38, 28, 24), (84, 56, 34), (150, 108, 60), (205, 170, 104), (122, 52, 28))
_SHOES = ((240, 238, 232), (35, 33, 36), (190, 40, 45), (60, 190, 90))
# Trousers are blue, grey or khaki and shirts of the warm hues, as clothes often are; it also
# spares a small model from learning every combination.
_TROUSERS = ((48, 72, 138), (70, 104, 176), (38, 42, 70), (78, 84, 96), (98, 92, 66))
_WARM_HUES = (-0.15, 0.32)  # of 1, from pink over red and yellow to green

_STANDING_METRES = 1.75
_ANY = 9.0  # metres: a point on this part is never behind it

# Outward direction of each face point, and how far it may turn away before it disappears.
_FACE_NORMALS = {
    "nose": ((0.0, 0.0, 1.0), -0.1),
    "left_eye": ((0.45, 0.1, 0.88), 0.05),
    "right_eye": ((-0.45, 0.1, 0.88), 0.05),
    "left_ear": ((1.0, 0.0, 0.0), -0.3),
    "right_ear": ((-1.0, 0.0, 0.0), -0.3),
}
# The parts on which each keypoint lies, with margins in metres (see Figure.owners).
_OWNERS: dict[str, dict[str, float]] = {
    **{name: {"head": _ANY} for name in (*_FACE_NORMALS, "head_top")},
    "upper_neck": {"neck": _ANY, "head": 0.08, "torso": 0.12},
    "neck": {"neck": _ANY, "head": 0.08, "torso": 0.12},
    "thorax": {"neck": _ANY, "torso": _ANY},
    "pelvis": {"torso": _ANY, "pelvis": _ANY, "left_thigh": 0.08, "right_thigh": 0.08},
}
for _side in SIDES:
    _OWNERS |= {
        f"{_side}_shoulder": {"torso": 0.10, f"{_side}_upper_arm": _ANY},
        f"{_side}_elbow": {f"{_side}_upper_arm": _ANY, f"{_side}_forearm": _ANY},
        f"{_side}_wrist": {f"{_side}_forearm": _ANY, f"{_side}_hand": _ANY},
        f"{_side}_hip": {"torso": 0.06, "pelvis": 0.06, f"{_side}_thigh": _ANY},
        f"{_side}_knee": {f"{_side}_thigh": _ANY, f"{_side}_shin": _ANY},
        f"{_side}_ankle": {f"{_side}_shin": _ANY, f"{_side}_foot": _ANY},
    }
BODY_KEYPOINTS = tuple(_OWNERS)
"""Every keypoint of the one skeleton from which all human schemas are taken."""

# The outline of the trunk is the hull of discs around these points; radii in metres.
_TRUNK = (("left_hip", 0.075), ("right_hip", 0.075), ("pelvis", 0.11),
          ("left_shoulder", 0.07), ("right_shoulder", 0.07), ("thorax", 0.085))  # fmt: skip


def render_person(
    canvas: Canvas,
    rng: np.random.Generator,
    center: np.ndarray,
    height: float,
    *,
    number: int = 0,
    pose: BodyPose | None = None,
    shape: BodyShape | None = None,
) -> Figure:
    """Draw one person in front of everything that is on the canvas.

    Args:
        canvas: drawn upon.
        rng: draws the clothes, and pose and shape where they are not given.
        center: (x, y) pixels where the middle of the figure's extent comes to lie.
        height: pixels that a standing person of the mean shape would measure.
        number: the figure's number on this canvas.
        pose: joint angles; shape: proportions.

    Returns:
        The figure, its keypoints in the order of BODY_KEYPOINTS; extras hold "head_box_xyxy".
    """
    pose = pose or sample_pose(rng)
    shape = shape or sample_shape(rng)
    scale = height / _STANDING_METRES
    painter = _PersonPainter(canvas, number, solve_body(pose, shape), scale, center)
    return painter.draw(rng, shape.girth)


def pick(rng: np.random.Generator, colors: Sequence[Color]) -> Color:
    """Draw one of some colours."""
    return colors[int(rng.integers(len(colors)))]


class _PersonPainter(Painter):
    """Draws the parts of one person, the far ones first."""

    def draw(self, rng: np.random.Generator, girth: float) -> Figure:
        self.girth, self.unseen = girth, set[str]()
        for name, (normal, least) in _FACE_NORMALS.items():
            if (self.head @ normal)[2] <= least:
                self.unseen.add(name)
        self.shirt = random_color(rng, (0.55, 0.95), (0.65, 0.98), _WARM_HUES)
        # Which side is the lighter one is drawn by lot: a mirrored picture must stay a possible
        # one, so only the face, the front of the shirt and the feet tell left from right.
        tone = rng.uniform(0.08, 0.2) * float(rng.choice([-1, 1]))
        self.skin, self.hair, self.shoes = pick(rng, SKINS), pick(rng, HAIRS), pick(rng, _SHOES)
        self.trousers = tint(pick(rng, _TROUSERS), float(rng.uniform(0.8, 1.2)))
        sleeve = self.shirt if rng.random() < 0.35 else self.skin
        leg = self.trousers if rng.random() < 0.55 else self.skin
        tasks: list[Task] = [
            (self.depth("pelvis", "thorax") - 0.03, self._trunk),
            (self.depth("head", "upper_neck") + 0.01, self._head),
            self._limb(("neck", "thorax", "upper_neck"), (0.055, 0.055), self.skin, -0.02),
        ]
        for side, sign in SIDES.items():
            # Arms pass before the trunk at the same depth.
            for part, start, end, r0, r1, color, nearer in (
                ("upper_arm", "shoulder", "elbow", 0.062, 0.047, self.shirt, 0.02),
                ("forearm", "elbow", "wrist", 0.045, 0.034, sleeve, 0.02),
                ("hand", "wrist", "hand", 0.035, 0.032, self.skin, 0.02),
                ("thigh", "hip", "knee", 0.088, 0.062, self.trousers, 0.0),
                ("shin", "knee", "ankle", 0.06, 0.042, tint(leg, 0.92), 0.0),
                ("foot", "heel", "toe", 0.042, 0.036, self.shoes, 0.0),
            ):
                names = f"{side}_{part}", f"{side}_{start}", f"{side}_{end}"
                tasks.append(self._limb(names, (r0, r1), tint(color, 1 + sign * tone), nearer))
        self.paint(tasks)
        return self.figure(_OWNERS, self.unseen, extras={"head_box_xyxy": self.head_box_xyxy})

    def _limb(
        self, names: tuple[str, str, str], radii: tuple[float, float], color: Color, nearer: float
    ) -> Task:
        """Return the task of a limb as stout as the person, lighter when nearer."""
        stout, depth = 0.5 + 0.5 * self.girth, self.depth(*names[1:])
        shade = tint(color, 1.0 + 0.3 * min(max(depth, -0.6), 0.5))
        scaled = stout * radii[0], stout * radii[1]
        return depth + nearer, partial(self.limb, *names, scaled, shade)

    def _trunk(self) -> None:
        discs = [
            ellipse(self.flat[name], (radius * self.scale * self.girth,) * 2)
            for name, radius in _TRUNK
        ]
        frame = _trunk_frame(self.points_3d)
        facing = frame[2, 2]
        shirt = self.shirt if facing > -0.05 else tint(self.shirt, 0.45)
        self.rimmed(hull(*discs), shirt, self.begin("torso", "pelvis", "thorax"), 0.88)
        if facing > 0.45:  # collar and zip, which only the front of a shirt has
            collar = [(-0.06, 0.52, 0.10), (0.06, 0.52, 0.10), (0.0, 0.40, 0.10)]
            corners = [self.place("pelvis", frame, corner) for corner in collar]
            self.canvas.polygon(np.array(corners), self.skin)
            ends = [self.place("pelvis", frame, (0.0, y, 0.12)) for y in (0.40, 0.08)]
            self.canvas.line(np.array(ends), (245, 245, 235), max(1, round(0.022 * self.scale)))
        belt = self.begin("pelvis", "left_hip", "right_hip")
        self.canvas.polygon(hull(*discs[:3]), tint(self.trousers, 0.85), belt)

    def _on_head(self, *offset: float) -> np.ndarray:
        return self.place("head", HEAD_SIZE * self.head, offset)

    def _head(self) -> None:
        head, s = self.head, self.scale * HEAD_SIZE
        angle = float(np.degrees(np.arctan2(head[0, 1], head[1, 1])))
        part_id = self.begin("head", "head", "head_top")
        skull = ellipse(self._on_head(0, 0.012, 0), (0.089 * s, 0.118 * s), angle)
        self.canvas.polygon(skull, self.hair, part_id)
        self.head_box_xyxy = [*skull.min(axis=0).tolist(), *skull.max(axis=0).tolist()]
        seen = {name: self.flat[name] for name in _FACE_NORMALS if name not in self.unseen}
        for name, point in seen.items():
            if name.endswith("ear"):
                self.canvas.disc(point, 0.024 * s, tint(self.skin, 0.85), part_id)
        if head[2, 2] <= -0.25:
            return
        width = 0.071 * (0.55 + 0.45 * max(head[2, 2], 0.0)) * s
        face = ellipse(self._on_head(0, -0.02, 0.042), (width, 0.092 * s), angle)
        self.canvas.polygon(face, self.skin, part_id)
        for name, point in seen.items():
            if name.endswith("eye"):
                self.canvas.disc(point, 0.019 * s, (250, 250, 250))
                self.canvas.disc(point, 0.012 * s, (20, 20, 30))
        if "nose" in seen:
            corners = ((0, 0.012, 0.095), (0.017, -0.03, 0.10), (-0.017, -0.03, 0.10))
            nose = [seen["nose"], *(self._on_head(*corner) for corner in corners)]
            self.canvas.polygon(hull(np.stack(nose)), tint(self.skin, 0.74), part_id)
        if head[2, 2] > 0.1:
            mouth = [self._on_head(x, -0.062, 0.085) for x in (-0.03, 0.03)]
            self.canvas.line(np.stack(mouth), (150, 50, 50), max(1, round(0.016 * s)))


def _trunk_frame(points_3d: dict[str, np.ndarray]) -> np.ndarray:
    """Return the trunk's left, up and front as columns of a rotation matrix."""
    up = points_3d["thorax"] - points_3d["pelvis"]
    up = up / np.linalg.norm(up)
    left = points_3d["left_shoulder"] - points_3d["right_shoulder"]
    left = left - up * float(left @ up)
    left = left / np.linalg.norm(left)
    return np.stack([left, up, np.cross(left, up)], axis=1)
