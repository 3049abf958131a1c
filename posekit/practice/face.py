"""A face of 98 points in three dimensions after expression and head turn, and its drawing.

The head's frame is x to the person's left, y up, z to the front; the half width of the face is 1.
Point numbers are WFLW's: 0-32 contour, 33-50 brows, 51-59 nose, 60-75 eyes, 76-95 mouth, 96-97
pupils; low numbers lie on the person's right, which is the picture's left in a frontal view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posekit.practice.body import SIDES, clipped_normal, rotate_x, rotate_y, rotate_z
from posekit.practice.canvas import Canvas, Color, capsule, ellipse, hull, random_color, tint
from posekit.practice.figures import Figure, Painter
from posekit.practice.person import HAIRS, SKINS, pick

FACE_KEYPOINTS = tuple(f"wflw_{i}" for i in range(98))
_EYE_COLORS = ((70, 110, 160), (90, 60, 35), (70, 115, 70), (45, 40, 40))
# Mean, spread, least and greatest of what is drawn for a face.
_LIMITS = {
    "yaw": (0, 18, -40, 40),
    "pitch": (0, 9, -24, 24),
    "roll": (0, 26, -60, 60),
    "jaw": (1, 0.08, 0.82, 1.2),
    "length": (1, 0.08, 0.82, 1.2),
    "brow_raise": (0.1, 0.5, -0.6, 1.2),
    "eye_open": (1.0, 0.3, 0.2, 1.5),
    "mouth_open": (0.15, 0.35, 0.0, 1.0),
    "smile": (0.2, 0.5, -0.8, 1.2),
}


@dataclass(frozen=True)
class FaceParameters:
    """Head turn in degrees, identity and expression as factors around 1 or shares from 0 to 1.

    Attributes:
        yaw: to the person's left is positive; pitch: up is positive; roll: clockwise in the
            picture is positive.
        jaw: width of the jaw; length: height of the lower face.
        brow_raise, eye_open, mouth_open, smile: expression.
        gaze: (x, y) shift of the pupils as shares of the eye's half width.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    jaw: float = 1.0
    length: float = 1.0
    brow_raise: float = 0.0
    eye_open: float = 1.0
    mouth_open: float = 0.0
    smile: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)


def sample_face(rng: np.random.Generator) -> FaceParameters:
    """Draw a face's parameters."""
    gaze = clipped_normal(rng, 0, 0.2, -0.45, 0.45), clipped_normal(rng, 0, 0.1, -0.2, 0.2)
    drawn = {name: clipped_normal(rng, *limits) for name, limits in _LIMITS.items()}
    return FaceParameters(gaze=gaze, **drawn)


def solve_face(face: FaceParameters) -> tuple[np.ndarray, np.ndarray]:
    """Return the 98 points, float64 (98, 3), camera frame (y up), and the head's rotation (3, 3).

    Contour points that the cheek would hide slide onto the cheek's outline, as annotators
    place them.
    """
    brow, eye, mirror = _brow(face), _eye(face), (-1, 1, 1)
    brows = [brow[[4, 3, 2, 1, 0, 8, 7, 6, 5]] * mirror, brow]
    eyes = [eye[[4, 3, 2, 1, 0, 7, 6, 5]] * mirror, eye]
    dx, dy = face.gaze[0] * 0.185, face.gaze[1] * 0.085
    pupils = np.array([[-0.44 + dx, 0.325 + dy, 0.48], [0.44 + dx, 0.325 + dy, 0.48]])
    points = np.concatenate([_contour(face), *brows, _NOSE, *eyes, _mouth(face), pupils])
    head = rotate_x(-face.pitch) @ rotate_y(face.yaw)
    points = points @ head.T
    # Neither half of the contour turns back inwards on its way up from the chin, point 16.
    points[16::-1, 0] = np.minimum.accumulate(points[16::-1, 0])
    points[16:33, 0] = np.maximum.accumulate(points[16:33, 0])
    tilt = rotate_z(-face.roll)
    return points @ tilt.T, tilt @ head


def _contour(face: FaceParameters) -> np.ndarray:
    turn = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 33)
    down = np.cos(turn)
    x = np.sign(turn) * np.abs(np.sin(turn)) ** 0.85 * (1 - (1 - face.jaw) * down)
    y = 0.15 - (1.2 * face.length + 0.35 * face.mouth_open) * down**0.9
    return np.stack([x, y, 0.42 * down - 0.42 * x**2 - 0.15], axis=1)


def _brow(face: FaceParameters) -> np.ndarray:
    x = np.array([0.17, 0.33, 0.50, 0.66, 0.80, 0.65, 0.50, 0.34, 0.19])
    y = np.array([0.02, 0.075, 0.095, 0.07, -0.03, 0.0, 0.025, 0.015, -0.05])
    return np.stack([x, 0.56 + 0.07 * face.brow_raise + y, 0.58 - 0.5 * x**2], axis=1)


# The bridge from above, then the base from the person's right to the left.
_NOSE = np.array(
    [(0, 0.36, 0.6), (0, 0.187, 0.7), (0, 0.013, 0.8), (0, -0.16, 0.9), (-0.2, -0.25, 0.58),
     (-0.1, -0.29, 0.66), (0, -0.31, 0.72), (0.1, -0.29, 0.66), (0.2, -0.25, 0.58)]
)  # fmt: skip


def _eye(face: FaceParameters) -> np.ndarray:
    x = 0.44 + 0.185 * np.array([-1, -0.55, 0, 0.55, 1, 0.55, 0, -0.55])
    lids = np.array([-0.1, 0.75, 1, 0.75, 0.05, -0.6, -0.8, -0.65])
    return np.stack([x, 0.32 + 0.085 * face.eye_open * lids, 0.56 - 0.45 * x**2], axis=1)


def _mouth(face: FaceParameters) -> np.ndarray:
    gap, corner = 0.16 * face.mouth_open, -0.58 + 0.09 * face.smile
    middle = -0.58 - 0.5 * gap
    # Shares of the half width: outer lip above, outer lip below, inner lips.
    share = np.array([-1, -0.62, -0.25, 0, 0.25, 0.62, 1, 0.62, 0.25, 0, -0.25, -0.62,
                      -0.86, -0.36, 0, 0.36, 0.86, 0.36, 0, -0.36])  # fmt: skip
    upper = (0.5 * gap + 0.075) * np.array([0, 0.6, 1.05, 0.85, 1.05, 0.6, 0])
    lower = (0.9 * gap + 0.094) * -np.array([0.62, 0.95, 1.05, 0.95, 0.62])
    inner = gap * np.array([0, 0.45, 0.5, 0.45, 0, -0.8, -0.9, -0.8])
    y = middle + (corner - middle) * np.abs(share) ** 1.6 + np.concatenate([upper, lower, inner])
    x = (0.32 + 0.07 * face.smile) * share
    return np.stack([x, y * (0.5 + 0.5 * face.length), 0.66 - 0.9 * x**2], axis=1)


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
        canvas, center, number: as `render_person` takes them.
        rng: draws the colours, and the face where it is not given.
        width: pixels between the two sides of a frontal face.
        face: head turn, identity and expression.

    Returns:
        The figure, its keypoints in the order of FACE_KEYPOINTS; extras hold WFLW's six
        "attributes", of which illumination, occlusion and blur are left 0.
    """
    face = face or sample_face(rng)
    points, head = solve_face(face)
    named = dict(zip(FACE_KEYPOINTS, points, strict=True)) | {"middle": np.zeros(3)}
    make_up = bool(rng.random() < 0.2)
    painter = _FacePainter(canvas, number, (named, head), 0.5 * width, center)
    painter.draw(rng, make_up)
    large_pose = abs(face.yaw) > 25 or abs(face.pitch) > 18 or abs(face.roll) > 40
    expression = face.mouth_open > 0.45 or abs(face.smile) > 0.8
    attributes = [large_pose, expression, 0, make_up, 0, 0]
    owners = {name: {"head": 9e9} for name in FACE_KEYPOINTS}
    return painter.figure(owners, set(), extras={"attributes": attributes})


class _FacePainter(Painter):
    """Draws one head from the back to the front."""

    def draw(self, rng: np.random.Generator, make_up: bool) -> None:
        draw, s = self.canvas, self.scale
        self.points = np.array([self.flat[name] for name in FACE_KEYPOINTS])
        self.skin, self.hair = pick(rng, SKINS), pick(rng, HAIRS)
        body = self.begin("body", "middle", "middle")
        shoulders = self.flat["middle"] + (0.0, 3.0 * s)
        draw.polygon(ellipse(shoulders, (2.1 * s, 1.4 * s)), random_color(rng), body)
        neck = capsule(self._at(0, -0.6, -0.35), shoulders, (0.58 * s, 0.62 * s))
        draw.polygon(neck, tint(self.skin, 0.62), body)
        part_id = self.begin("head", "middle", "middle")
        angle = float(np.degrees(np.arctan2(self.head[0, 1], self.head[1, 1])))
        skull = ellipse(self._at(0, 0.42, -0.35), (1.13 * s, 1.22 * s), angle)
        draw.polygon(skull, self.hair, part_id)
        for sign in SIDES.values():
            if sign * self.head[2, 0] > -0.35:
                ear = ellipse(self._at(1.03 * sign, 0.15, -0.55), (0.16 * s, 0.27 * s), angle)
                draw.polygon(ear, tint(self.skin, 0.72), part_id)
        arc = [(np.cos(t), np.sin(t)) for t in np.linspace(0.0, np.pi, 9)]
        forehead = [self._at(x, 0.15 + 0.95 * y, 0.5 * y - 0.35) for x, y in arc]
        self.rimmed(hull(self.points[:33], np.array(forehead)), self.skin, part_id, 0.95)
        line = [self._at(x, 0.86 + 0.12 * x * x, 0.15) for x in (-0.85, -0.4, 0.1, 0.5, 0.85)]
        top = [self._at(x, 1.45 - 0.35 * x * x, -0.2) for x in (0.9, 0.4, -0.4, -0.9)]
        draw.polygon(np.array(line + top), self.hair, part_id)
        self._features(pick(rng, _EYE_COLORS), make_up)

    def _at(self, *offset: float) -> np.ndarray:
        return self.place("middle", self.head, offset)

    def _features(self, eye_color: Color, make_up: bool) -> None:
        """Draw brows, eyes, nose and mouth along their points."""
        draw, points, s = self.canvas, self.points, self.scale
        for first, pupil in ((0, 96), (1, 97)):
            draw.polygon(points[33 + 9 * first : 42 + 9 * first], tint(self.hair, 0.8))
            lids = points[60 + 8 * first : 68 + 8 * first]
            if make_up:
                draw.polygon(lids.mean(axis=0) + 1.35 * (lids - lids.mean(axis=0)), (110, 70, 130))
            draw.polygon(lids, (248, 246, 242))
            radius = min(0.085 * s, 0.6 * float(np.ptp(lids[:, 1])) + 0.012 * s)
            draw.disc(points[pupil], radius, eye_color)
            draw.disc(points[pupil], 0.55 * radius, (10, 10, 12))
            draw.line(lids[:5], tint(self.skin, 0.3), max(1, round(0.03 * s)))
        bridge, base = points[51:55], points[55:60]
        draw.polygon(hull(base, bridge[1:]), tint(self.skin, 0.84))
        draw.line(bridge, tint(self.skin, 1.15), max(1, round(0.06 * s)))
        draw.line(base, tint(self.skin, 0.6))
        for row in (1, 3):
            draw.disc(base[row], 0.035 * s, tint(self.skin, 0.4))
        red, green, blue = self.skin
        lips = (200.0, 30.0, 60.0) if make_up else (0.85 * red, 0.55 * green, 0.55 * blue)
        draw.polygon(points[76:88], lips)
        draw.polygon(points[88:96], (60, 20, 25))
        draw.line(points[88:93], tint(lips, 0.6))
