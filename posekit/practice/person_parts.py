"""The parts of a drawn person: limbs with clothes, the trunk with its front and back, the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from posekit.practice.canvas import Canvas, Color, ellipse, hull, random_color, tint
from posekit.practice.painter import Painter, Task, paint_far_to_near

_SKINS = ((241, 205, 175), (224, 172, 135), (198, 134, 96), (141, 92, 62), (96, 64, 46))
_HAIRS = (
    (38, 28, 24),
    (84, 56, 34),
    (150, 108, 60),
    (205, 170, 104),
    (120, 116, 112),
    (122, 52, 28),
)
_SHOES = ((240, 238, 232), (35, 33, 36), (190, 40, 45), (60, 190, 90))
# Trousers are blue, grey or khaki and shirts of the warm hues, as clothes often are; it also
# spares a small model from learning every combination.
_TROUSERS = ((48, 72, 138), (70, 104, 176), (38, 42, 70), (78, 84, 96), (98, 92, 66))
_WARM_HUES = (-0.9, 1.9)  # of 6, from pink over red and yellow to green
_HEAD = 1.2  # as large as the skeleton draws heads


@dataclass(frozen=True)
class PersonLook:
    """Colours and cut of a person's clothes; `side_tones` sets the left limbs off the right.

    Which side is the lighter one is drawn by lot: a mirrored picture must stay a possible one, so
    only the face, the front of the shirt and the feet tell left from right.
    """

    skin: Color
    hair: Color
    shirt: Color
    back: Color
    trousers: Color
    shoes: Color
    long_sleeves: bool
    long_trousers: bool
    stripes: bool
    backpack: bool
    side_tones: tuple[float, float]


def sample_look(rng: np.random.Generator) -> PersonLook:
    """Draw a person's look."""
    shirt = random_color(rng, (0.55, 0.95), (0.65, 0.98), _WARM_HUES)
    tone = rng.uniform(0.08, 0.2) * float(rng.choice([-1, 1]))
    return PersonLook(
        skin=_pick(rng, _SKINS),
        hair=_pick(rng, _HAIRS),
        shirt=shirt,
        back=tint(shirt, 0.45),
        trousers=tint(_pick(rng, _TROUSERS), float(rng.uniform(0.8, 1.2))),
        shoes=_pick(rng, _SHOES),
        long_sleeves=bool(rng.random() < 0.35),
        long_trousers=bool(rng.random() < 0.55),
        stripes=bool(rng.random() < 0.4),
        backpack=bool(rng.random() < 0.5),
        side_tones=(1 + tone, 1 - tone),
    )


def _pick(rng: np.random.Generator, colors: Sequence[Color]) -> Color:
    return colors[int(rng.integers(len(colors)))]


def sees(name: str, head: np.ndarray) -> bool:
    """Return whether a point of the head is on the side that the camera sees; others always are."""
    if name not in FACE_NORMALS:
        return True
    normal, least = FACE_NORMALS[name]
    return bool((head @ normal)[2] > least)


# Outward direction of each face point, and how far it may turn away before it disappears.
FACE_NORMALS = {
    "nose": (np.array([0.0, 0.0, 1.0]), -0.1),
    "left_eye": (np.array([0.45, 0.1, 0.88]), 0.05),
    "right_eye": (np.array([-0.45, 0.1, 0.88]), 0.05),
    "left_ear": (np.array([1.0, 0.0, 0.0]), -0.3),
    "right_ear": (np.array([-1.0, 0.0, 0.0]), -0.3),
}


class PersonPainter(Painter):
    """Draws the parts of one person, the far ones first.

    Attributes:
        head_box_xyxy: where the skull lies, set by drawing.
    """

    def __init__(
        self,
        canvas: Canvas,
        number: int,
        points_3d: Mapping[str, np.ndarray],
        scale: float,
        center: np.ndarray,
        girth: float,
        look: PersonLook,
    ):
        super().__init__(canvas, number, points_3d, scale, center)
        self.girth, self.look = girth, look
        self.head_box_xyxy = [0.0, 0.0, 0.0, 0.0]

    def draw(self, head: np.ndarray) -> None:
        """Draw the whole person; `head` is the head's rotation."""
        trunk = self.depth("pelvis", "thorax")
        tasks: list[Task] = [
            (trunk - 0.03, self._trunk),
            (self.depth("thorax", "upper_neck") - 0.02, self._neck),
            (self.depth("head", "upper_neck") + 0.01, partial(self._head, head)),
        ]
        for side, tone in zip(("left", "right"), self.look.side_tones, strict=True):
            hip, knee, ankle = (f"{side}_{joint}" for joint in ("hip", "knee", "ankle"))
            shoulder, elbow, wrist = (f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist"))
            tasks += [
                (self.depth(shoulder, elbow) + 0.02, partial(self._upper_arm, side, tone)),
                (self.depth(elbow, wrist) + 0.02, partial(self._forearm, side, tone)),
                (self.depth(hip, knee), partial(self._thigh, side, tone)),
                (self.depth(knee, ankle), partial(self._shin, side, tone)),
            ]
        paint_far_to_near(tasks)

    def _bodily(
        self, name: str, start: str, end: str, radii: tuple[float, float], color: Color
    ) -> None:
        """Draw a limb as stout as the person, lighter when nearer."""
        stout = 0.5 + 0.5 * self.girth
        shade = 1.0 + 0.3 * min(max(self.depth(start, end), -0.6), 0.5)
        self.limb(name, start, end, (stout * radii[0], stout * radii[1]), tint(color, shade))

    def _neck(self) -> None:
        self._bodily("neck", "thorax", "upper_neck", (0.055, 0.055), self.look.skin)

    def _upper_arm(self, side: str, tone: float) -> None:
        shoulder, elbow = f"{side}_shoulder", f"{side}_elbow"
        color = tint(self.look.shirt, tone)
        self._bodily(f"{side}_upper_arm", shoulder, elbow, (0.062, 0.047), color)
        if self.look.stripes and self.scale > 45:
            start, end = self.flat[shoulder], self.flat[elbow]
            across = np.array([start[1] - end[1], end[0] - start[0]])
            across *= 0.038 * self.scale / max(float(np.hypot(*across)), 1e-6)
            for share in (0.3, 0.6, 0.9):
                middle = start + share * (end - start)
                self.canvas.line(np.stack([middle - across, middle + across]), tint(color, 0.6))

    def _forearm(self, side: str, tone: float) -> None:
        skin = tint(self.look.skin, tone)
        color = tint(self.look.shirt, tone) if self.look.long_sleeves else skin
        self._bodily(f"{side}_hand", f"{side}_wrist", f"{side}_hand", (0.035, 0.032), skin)
        self._bodily(f"{side}_forearm", f"{side}_elbow", f"{side}_wrist", (0.045, 0.034), color)

    def _thigh(self, side: str, tone: float) -> None:
        color = tint(self.look.trousers, tone)
        self._bodily(f"{side}_thigh", f"{side}_hip", f"{side}_knee", (0.088, 0.062), color)

    def _shin(self, side: str, tone: float) -> None:
        cloth = self.look.trousers if self.look.long_trousers else self.look.skin
        shoe = tint(self.look.shoes, tone)
        color = tint(cloth, 0.92 * tone)
        self._bodily(f"{side}_shin", f"{side}_knee", f"{side}_ankle", (0.06, 0.042), color)
        self._bodily(f"{side}_foot", f"{side}_heel", f"{side}_toe", (0.042, 0.036), shoe)

    def _trunk(self) -> None:
        look, scale = self.look, self.scale
        discs = [
            ellipse(self.flat[name], (radius * scale * self.girth,) * 2)
            for name, radius in _TRUNK_DISCS
        ]
        outline = hull(np.concatenate(discs))
        frame = trunk_frame(self.points_3d)
        facing = frame[2, 2]
        is_front = facing > -0.05
        color = look.shirt if is_front else look.back
        torso = self.begin("torso", "pelvis", "thorax")
        self.canvas.polygon(outline, tint(color, 0.7), torso)
        middle = outline.mean(axis=0)
        self.canvas.polygon(middle + 0.88 * (outline - middle), color)
        if look.stripes and is_front:
            self._stripes(tint(color, 0.6))
        if facing > 0.45:
            self._front(frame)
        elif not is_front and look.backpack:
            corners = [(-0.13, 0.47), (0.13, 0.47), (0.15, 0.12), (-0.15, 0.12)]
            pack = np.array([self._on_trunk(frame, (x, y, -0.13)) for x, y in corners])
            self.canvas.polygon(hull(pack), tint(look.shoes, 0.8), torso)
        belt = self.begin("pelvis", "left_hip", "right_hip")
        hips = [*discs[:2], discs[-1]]
        self.canvas.polygon(hull(np.concatenate(hips)), tint(look.trousers, 0.85), belt)

    def _stripes(self, color: Color) -> None:
        for share in (0.2, 0.4, 0.6, 0.8):
            ends = []
            for side in ("left", "right"):
                shoulder, hip = self.flat[f"{side}_shoulder"], self.flat[f"{side}_hip"]
                ends.append(shoulder + share * (hip - shoulder))
            self.canvas.line(np.array(ends), color, max(1, round(0.02 * self.scale)))

    def _on_trunk(self, frame: np.ndarray, offset: tuple[float, float, float]) -> np.ndarray:
        """Return where a point of the trunk's frame (origin pelvis) falls in the picture."""
        return self.flat["pelvis"] + self.scale * (frame @ np.array(offset))[:2] * (1, -1)

    def _front(self, frame: np.ndarray) -> None:
        """Draw collar and zip, which only the front of a shirt has."""
        collar = [(-0.06, 0.52, 0.10), (0.06, 0.52, 0.10), (0.0, 0.40, 0.10)]
        self.canvas.polygon(np.array([self._on_trunk(frame, p) for p in collar]), self.look.skin)
        ends = [self._on_trunk(frame, (0.0, y, 0.12)) for y in (0.40, 0.08)]
        self.canvas.line(np.array(ends), (245, 245, 235), max(1, round(0.022 * self.scale)))

    def _on_head(self, head: np.ndarray, offset: tuple[float, float, float]) -> np.ndarray:
        """Return where a point of the head's frame (origin its middle) falls in the picture."""
        moved = (head @ np.array(offset))[:2] * (1, -1)
        return self.flat["head"] + self.scale * _HEAD * moved

    def _head(self, head: np.ndarray) -> None:
        look, s = self.look, self.scale * _HEAD
        angle = float(np.degrees(np.arctan2(head[0, 1], head[1, 1])))
        part_id = self.begin("head", "head", "head_top")
        skull = ellipse(self._on_head(head, (0, 0.012, 0)), (0.089 * s, 0.118 * s), angle)
        self.canvas.polygon(skull, look.hair, part_id)
        self.head_box_xyxy = [*skull.min(axis=0).tolist(), *skull.max(axis=0).tolist()]
        for ear in ("left_ear", "right_ear"):
            if sees(ear, head):
                self.canvas.disc(self.flat[ear], 0.024 * s, tint(look.skin, 0.85), part_id)
        facing = head[2, 2]
        if facing > -0.25:
            width = 0.071 * (0.55 + 0.45 * max(facing, 0.0)) * s
            face = ellipse(self._on_head(head, (0, -0.02, 0.042)), (width, 0.092 * s), angle)
            self.canvas.polygon(face, look.skin, part_id)
            self._face(head, part_id)

    def _face(self, head: np.ndarray, part_id: int) -> None:
        skin, s = self.look.skin, self.scale * _HEAD
        for eye in ("left_eye", "right_eye"):
            if sees(eye, head):
                self.canvas.disc(self.flat[eye], 0.019 * s, (250, 250, 250))
                self.canvas.disc(self.flat[eye], 0.012 * s, (20, 20, 30))
        if sees("nose", head):
            corners = ((0, 0.012, 0.095), (0.017, -0.03, 0.10), (-0.017, -0.03, 0.10))
            nose = [self.flat["nose"], *(self._on_head(head, corner) for corner in corners)]
            self.canvas.polygon(hull(np.stack(nose)), tint(skin, 0.74), part_id)
        if head[2, 2] > 0.1:
            ends = [self._on_head(head, (x, -0.062, 0.085)) for x in (-0.03, 0.03)]
            self.canvas.line(np.stack(ends), (150, 50, 50), max(1, round(0.016 * s)))


_TRUNK_DISCS = (
    ("left_hip", 0.075),
    ("right_hip", 0.075),
    ("left_shoulder", 0.07),
    ("right_shoulder", 0.07),
    ("thorax", 0.085),
    ("pelvis", 0.11),
)


def trunk_frame(points_3d: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the trunk's left, up and front as columns of a rotation matrix."""
    up = points_3d["thorax"] - points_3d["pelvis"]
    up = up / np.linalg.norm(up)
    left = points_3d["left_shoulder"] - points_3d["right_shoulder"]
    left = left - up * float(left @ up)
    left = left / np.linalg.norm(left)
    return np.stack([left, up, np.cross(left, up)], axis=1)
