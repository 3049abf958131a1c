"""Draws a face with hair, ears, brows, eyes, nose and lips around its 98 points."""

from __future__ import annotations

import numpy as np

from posekit.practice import face_model as model
from posekit.practice.canvas import Canvas, Color, Part, capsule, ellipse, hull, random_color, tint
from posekit.practice.face_model import FaceParameters, sample_face, solve_face
from posekit.practice.figures import Figure
from posekit.practice.person import HAIRS, SKINS, pick

FACE_KEYPOINTS = tuple(f"wflw_{i}" for i in range(98))

_EYES = ((70, 110, 160), (90, 60, 35), (70, 115, 70), (45, 40, 40))


def render_face(
    canvas: Canvas,
    rng: np.random.Generator,
    center: np.ndarray,
    width: float,
    *,
    number: int = 0,
    face: FaceParameters | None = None,
) -> Figure:
    """Draw one head and shoulders in front of everything that is on the canvas.

    Args:
        canvas: drawn upon.
        rng: draws the colours, and the face where it is not given.
        center: (x, y) pixels of the head's centre.
        width: pixels between the two sides of a frontal face.
        number: the figure's number on this canvas.
        face: head turn, identity and expression.

    Returns:
        The figure, its keypoints in the order of FACE_KEYPOINTS; extras hold WFLW's six
        "attributes", of which illumination, occlusion and blur are left 0.
    """
    face = face or sample_face(rng)
    points_3d, head = solve_face(face)
    scale = 0.5 * width
    points = np.asarray(center) + scale * points_3d[:, :2] * (1, -1)
    make_up = bool(rng.random() < 0.2)
    _FacePainter(canvas, number, np.asarray(center), scale, head, points, make_up).draw(rng)
    return Figure(
        number=number,
        names=FACE_KEYPOINTS,
        points=points,
        depths=scale * points_3d[:, 2],
        labelled=np.ones(len(points), dtype=bool),
        owners={name: {"head": 9e9} for name in FACE_KEYPOINTS},
        extras={"attributes": [face.has_large_pose, face.has_expression, 0, make_up, 0, 0]},
    )


class _FacePainter:
    """Draws one head from the back to the front."""

    def __init__(
        self,
        canvas: Canvas,
        number: int,
        center: np.ndarray,
        scale: float,
        head: np.ndarray,
        points: np.ndarray,
        make_up: bool,
    ):
        self.canvas, self.number, self.center, self.scale = canvas, number, center, scale
        self.head, self.points, self.make_up = head, points, make_up
        self.angle_deg = float(np.degrees(np.arctan2(head[0, 1], head[1, 1])))

    def draw(self, rng: np.random.Generator) -> None:
        skin = pick(rng, SKINS)
        self.skin, self.hair = tint(skin, float(rng.uniform(0.9, 1.05))), pick(rng, HAIRS)
        plain_lips = (0.85 * skin[0], 0.55 * skin[1], 0.55 * skin[2])
        self.lips = (200.0, 30.0, 60.0) if self.make_up else plain_lips
        body = self.canvas.begin(Part(self.number, "body"))
        shoulders = self.center + self.scale * np.array([0.0, 3.0])
        self.canvas.polygon(
            ellipse(shoulders, (2.1 * self.scale, 1.4 * self.scale)), random_color(rng), body
        )
        neck = capsule(self._place(0, -0.6, -0.35), shoulders, 0.58 * self.scale, 0.62 * self.scale)
        self.canvas.polygon(neck, tint(self.skin, 0.62), body)
        part_id = self.canvas.begin(Part(self.number, "head"))
        skull = ellipse(
            self._place(0, 0.42, -0.35), (1.13 * self.scale, 1.22 * self.scale), self.angle_deg
        )
        self.canvas.polygon(skull, self.hair, part_id)
        self._ears(part_id)
        outline = hull(np.concatenate([self.points[model.CONTOUR], self._forehead()]))
        self.canvas.polygon(outline, tint(self.skin, 0.78), part_id)
        middle = outline.mean(axis=0)
        self.canvas.polygon(middle + 0.95 * (outline - middle), self.skin)
        light = middle + (0.5 * (outline - middle)) - self.scale * np.array([0.12, 0.1])
        self.canvas.polygon(light, tint(self.skin, 1.05))
        self._fringe(part_id)
        self._brows_and_eyes(pick(rng, _EYES))
        self._nose()
        self._mouth()

    def _place(self, x: float, y: float, z: float) -> np.ndarray:
        return self.center + self.scale * (self.head @ np.array([x, y, z]))[:2] * (1, -1)

    def _ears(self, part_id: int) -> None:
        for sign in (1.0, -1.0):
            if sign * self.head[2, 0] > -0.35:
                ear = self._place(1.03 * sign, 0.15, -0.55)
                radii = (0.16 * self.scale, 0.27 * self.scale)
                self.canvas.polygon(
                    ellipse(ear, radii, self.angle_deg), tint(self.skin, 0.72), part_id
                )

    def _forehead(self) -> np.ndarray:
        turn = np.linspace(0.0, np.pi, 9)
        return np.array(
            [self._place(np.cos(t), 0.15 + 0.95 * np.sin(t), 0.5 * np.sin(t) - 0.35) for t in turn]
        )

    def _fringe(self, part_id: int) -> None:
        line = [self._place(x, 0.86 + 0.12 * x * x, 0.15) for x in (-0.85, -0.4, 0.1, 0.5, 0.85)]
        top = [self._place(x, 1.45 - 0.35 * x * x, -0.2) for x in (0.9, 0.4, -0.4, -0.9)]
        self.canvas.shape(np.array(line + top), self.hair, part_id)

    def _brows_and_eyes(self, color: Color) -> None:
        for brow in (model.RIGHT_BROW, model.LEFT_BROW):
            self.canvas.shape(self.points[brow], tint(self.hair, 0.8))
        eyes = ((model.RIGHT_EYE, model.RIGHT_PUPIL), (model.LEFT_EYE, model.LEFT_PUPIL))
        for eye, pupil in eyes:
            lids = self.points[eye]
            middle = lids.mean(axis=0)
            if self.make_up:
                self.canvas.shape(middle + 1.35 * (lids - middle), (110, 70, 130))
            self.canvas.shape(lids, (248, 246, 242))
            opening = float(np.ptp(lids[:, 1])) + 0.02 * self.scale
            radius = min(0.085 * self.scale, 0.6 * opening)
            self.canvas.disc(self.points[pupil], radius, color)
            self.canvas.disc(self.points[pupil], 0.55 * radius, (10, 10, 12))
            self.canvas.line(lids[:5], tint(self.skin, 0.3), max(1, round(0.03 * self.scale)))

    def _nose(self) -> None:
        base, bridge = self.points[model.NOSE_BASE], self.points[model.NOSE_BRIDGE]
        shade = hull(np.concatenate([base, bridge[1:]]))
        self.canvas.polygon(shade, tint(self.skin, 0.84))
        self.canvas.line(bridge, tint(self.skin, 1.15), max(1, round(0.06 * self.scale)))
        self.canvas.disc(bridge[3], 0.07 * self.scale, tint(self.skin, 1.12))
        for row in (1, 3):
            self.canvas.disc(
                base[row] - (0, 0.02 * self.scale), 0.035 * self.scale, tint(self.skin, 0.4)
            )
        self.canvas.line(base, tint(self.skin, 0.6))

    def _mouth(self) -> None:
        self.canvas.shape(self.points[model.OUTER_LIPS], self.lips)
        inner = self.points[model.INNER_LIPS]
        self.canvas.shape(inner, (60, 20, 25))
        self.canvas.shape(inner[:5], (245, 240, 232))
        self.canvas.line(inner[:5], tint(self.lips, 0.6))
