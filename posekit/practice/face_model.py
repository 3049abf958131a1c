"""A parametric face: 98 points in three dimensions, after identity, expression and head turn.

The head's frame is x to the person's left, y up, z to the front; the half width of the face is 1.
Point numbers are WFLW's: 0-32 contour, 33-50 brows, 51-59 nose, 60-75 eyes, 76-95 mouth, 96-97
pupils; low numbers lie on the person's right, which is the picture's left in a frontal view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posekit.practice.body import rotate_x, rotate_y, rotate_z
from posekit.practice.rng import clipped_normal

CONTOUR = slice(0, 33)
RIGHT_BROW, LEFT_BROW = slice(33, 42), slice(42, 51)
NOSE_BRIDGE, NOSE_BASE = slice(51, 55), slice(55, 60)
RIGHT_EYE, LEFT_EYE = slice(60, 68), slice(68, 76)
OUTER_LIPS, INNER_LIPS = slice(76, 88), slice(88, 96)
RIGHT_PUPIL, LEFT_PUPIL = 96, 97


@dataclass(frozen=True)
class FaceParameters:
    """Head turn in degrees, identity and expression as factors around 1 or shares from 0 to 1.

    Attributes:
        yaw: to the person's left is positive; pitch: up is positive; roll: clockwise in the
            picture is positive.
        jaw: width of the jaw; length: height of the lower face; eyes, nose, lips: sizes.
        brow_raise, eye_open, mouth_open, smile: expression.
        gaze: (x, y) shift of the pupils as shares of the eye's half width.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    jaw: float = 1.0
    length: float = 1.0
    eyes: float = 1.0
    nose: float = 1.0
    lips: float = 1.0
    brow_raise: float = 0.0
    eye_open: float = 1.0
    mouth_open: float = 0.0
    smile: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)

    @property
    def has_large_pose(self) -> bool:
        """Whether WFLW would list the face under large poses."""
        return abs(self.yaw) > 25 or abs(self.pitch) > 18 or abs(self.roll) > 40

    @property
    def has_expression(self) -> bool:
        """Whether WFLW would list the face under exaggerated expressions."""
        return self.mouth_open > 0.45 or abs(self.smile) > 0.8


def sample_face(rng: np.random.Generator) -> FaceParameters:
    """Draw a face's parameters."""
    around_one = rng.normal(1, 0.08, 5).clip(0.82, 1.2)
    return FaceParameters(
        yaw=clipped_normal(rng, 0, 18, -40, 40),
        pitch=clipped_normal(rng, 0, 9, -24, 24),
        roll=clipped_normal(rng, 0, 26, -60, 60),
        jaw=float(around_one[0]),
        length=float(around_one[1]),
        eyes=float(around_one[2]),
        nose=float(around_one[3]),
        lips=float(around_one[4]),
        brow_raise=clipped_normal(rng, 0.1, 0.5, -0.6, 1.2),
        eye_open=clipped_normal(rng, 1.0, 0.3, 0.2, 1.5),
        mouth_open=max(0.0, clipped_normal(rng, 0.15, 0.35, -0.4, 1.0)),
        smile=clipped_normal(rng, 0.2, 0.5, -0.8, 1.2),
        gaze=(clipped_normal(rng, 0, 0.2, -0.45, 0.45), clipped_normal(rng, 0, 0.1, -0.2, 0.2)),
    )


def solve_face(face: FaceParameters) -> tuple[np.ndarray, np.ndarray]:
    """Return the 98 points, float64 (98, 3), camera frame (y up), and the head's rotation (3, 3).

    Contour points that the cheek would hide slide onto the cheek's outline, as annotators
    place them.
    """
    points = np.concatenate(
        [
            _contour(face),
            _mirrored_brow(_brow(face)),
            _brow(face),
            _nose(face),
            _mirrored_eye(_eye(face)),
            _eye(face),
            _mouth(face),
            _pupils(face),
        ]
    )
    head = rotate_z(-face.roll) @ rotate_x(-face.pitch) @ rotate_y(face.yaw)
    upright = points @ (rotate_x(-face.pitch) @ rotate_y(face.yaw)).T
    _slide_contour(upright)
    return upright @ rotate_z(-face.roll).T, head


def _slide_contour(points: np.ndarray) -> None:
    """Keep each half of the contour from turning back inwards on its way up from the chin."""
    chin = 16
    right, left = points[chin::-1, 0], points[chin:33, 0]
    points[chin::-1, 0] = np.minimum.accumulate(right)
    points[chin:33, 0] = np.maximum.accumulate(left)


def _contour(face: FaceParameters) -> np.ndarray:
    turn = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 33)
    x = np.sin(turn)
    down = np.cos(turn)
    x = np.sign(x) * np.abs(x) ** 0.85 * (1 - (1 - face.jaw) * down)
    y = 0.15 - (1.2 * face.length + 0.35 * face.mouth_open) * down**0.9
    z = 0.42 * down - 0.42 * np.abs(x) ** 2 - 0.15
    return np.stack([x, y, z], axis=1)


def _brow(face: FaceParameters) -> np.ndarray:
    lift = 0.56 + 0.07 * face.brow_raise
    x = np.array([0.17, 0.33, 0.50, 0.66, 0.80, 0.65, 0.50, 0.34, 0.19])
    y = np.array([0.02, 0.075, 0.095, 0.07, -0.03, 0.0, 0.025, 0.015, -0.05])
    return np.stack([x, lift + y, 0.58 - 0.5 * x**2], axis=1)


def _mirrored_brow(left: np.ndarray) -> np.ndarray:
    order = [4, 3, 2, 1, 0, 8, 7, 6, 5]
    return left[order] * (-1, 1, 1)


def _nose(face: FaceParameters) -> np.ndarray:
    rows = np.linspace(0, 1, 4)
    length = 0.52 * face.nose
    bridge = np.stack([0 * rows, 0.36 - length * rows, 0.60 + 0.30 * rows], axis=1)
    x = np.array([-0.20, -0.10, 0.0, 0.10, 0.20]) * face.nose
    y = 0.36 - length + np.array([-0.09, -0.13, -0.15, -0.13, -0.09])
    base = np.stack([x, y, np.array([0.58, 0.66, 0.72, 0.66, 0.58])], axis=1)
    return np.concatenate([bridge, base])


def _eye(face: FaceParameters) -> np.ndarray:
    half, up = 0.185 * face.eyes, 0.085 * face.eyes * face.eye_open
    x = 0.44 + half * np.array([-1, -0.55, 0, 0.55, 1, 0.55, 0, -0.55])
    y = 0.32 + up * np.array([-0.1, 0.75, 1, 0.75, 0.05, -0.6, -0.8, -0.65])
    return np.stack([x, y, 0.56 - 0.45 * x**2], axis=1)


def _mirrored_eye(left: np.ndarray) -> np.ndarray:
    order = [4, 3, 2, 1, 0, 7, 6, 5]
    return left[order] * (-1, 1, 1)


def _mouth(face: FaceParameters) -> np.ndarray:
    half = (0.32 + 0.07 * face.smile) * face.lips
    corner = -0.58 + 0.09 * face.smile
    gap = 0.16 * face.mouth_open
    thick = 0.075 * face.lips
    share = np.array([-1, -0.62, -0.25, 0, 0.25, 0.62, 1])
    bow = np.array([0, 0.6, 1.05, 0.85, 1.05, 0.6, 0])
    middle = -0.58 - 0.5 * gap
    curve = (corner - middle) * np.abs(share) ** 1.6
    upper = middle + curve + (gap * 0.5 + thick) * bow
    low_share, low_bow = share[5:0:-1], np.array([0.62, 0.95, 1.05, 0.95, 0.62])
    low_curve = (corner - middle) * np.abs(low_share) ** 1.6
    lower = middle + low_curve - (gap * 0.9 + 1.25 * thick) * low_bow
    in_share = np.array([-0.86, -0.36, 0, 0.36, 0.86, 0.36, 0, -0.36])
    in_curve = (corner - middle) * np.abs(in_share) ** 1.6
    opening = np.array([0, 0.45, 0.5, 0.45, 0, -0.8, -0.9, -0.8]) * gap
    x = half * np.concatenate([share, low_share, in_share])
    y = np.concatenate([upper, lower, middle + in_curve + opening])
    return np.stack([x, y * (0.5 + 0.5 * face.length), 0.66 - 0.9 * x**2], axis=1)


def _pupils(face: FaceParameters) -> np.ndarray:
    dx, dy = face.gaze[0] * 0.185, face.gaze[1] * 0.085
    return np.array([[-0.44 + dx, 0.325 + dy, 0.48], [0.44 + dx, 0.325 + dy, 0.48]])
