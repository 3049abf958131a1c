"""Left and right read out of poses: which keypoints trade places in the mirror."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

_ANGLES = 180
_ROUNDS = 10
_FEWEST = 5


@dataclass(frozen=True)
class Mirror:
    """The mirror symmetry of a subject's mean shape.

    Attributes:
        pairs: pairs of positions that trade places, lower position first.
        residual: mean distance between a point's mirror image and its partner, in units of the
            shape's size (root mean square distance from its middle).
        margin: how much nearer the partners are than the next best ones, 0 (not) to 1; low where
            the points cannot be told apart.
    """

    pairs: tuple[tuple[int, int], ...]
    residual: float
    margin: float

    @property
    def is_clear(self) -> bool:
        """True where the shape is symmetric and its points stand apart."""
        return bool(self.pairs) and self.residual < 0.12 and self.margin > 0.5


def mean_shape(points: np.ndarray, labelled: np.ndarray) -> np.ndarray | None:
    """Return the mean of poses after moving, turning and scaling each onto it.

    Args:
        points: float (N, K, 2).
        labelled: bool (N, K); poses with fewer than three labelled points are skipped.

    Returns:
        float64 (K, 2), middle at 0 and size 1; None if there are fewer than five poses or a point
        is hardly ever labelled.

    Source: generalised Procrustes analysis without reflection, over the labelled points only.
    """
    enough = labelled.sum(axis=1) >= max(3, 0.6 * labelled.sum(axis=1).max(initial=0))
    points, labelled = points[enough].astype(np.float64), labelled[enough]
    if len(points) < _FEWEST or (labelled.sum(axis=0) < _FEWEST).any():
        return None
    fullest = int(np.argmax(labelled.sum(axis=1)))
    mean = np.where(labelled[fullest, :, None], points[fullest], np.nan)
    mean = (mean - np.nanmean(mean, axis=0)) / _size(mean)
    for _ in range(_ROUNDS):
        moved = np.stack([_onto(p, mean, ok) for p, ok in zip(points, labelled, strict=True)])
        moved[~labelled] = np.nan
        with np.errstate(invalid="ignore"):
            mean = np.nanmedian(moved, axis=0)
        mean = (mean - np.nanmean(mean, axis=0)) / _size(mean)
    return mean if np.isfinite(mean).all() else None


def find_mirror(shape: np.ndarray) -> Mirror:
    """Find the line that maps a shape (K, 2) best onto itself, and what it maps onto what.

    Time: 180 assignments of K points.
    """
    count = len(shape)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for angle in np.arange(_ANGLES) * np.pi / _ANGLES:
        cosine, sine = np.cos(2 * angle), np.sin(2 * angle)
        image = shape @ np.array([[cosine, sine], [sine, -cosine]])
        cost = np.linalg.norm(image[:, None] - shape[None], axis=2)
        rows, columns = linear_sum_assignment(cost**2)
        total = float((cost[rows, columns] ** 2).mean())
        if best is None or total < best[0]:
            best = total, columns, cost
    assert best is not None  # noqa: S101 - there are angles
    _, partner, cost = best
    pairs = tuple(
        (i, int(partner[i])) for i in range(count) if i < partner[i] and partner[partner[i]] == i
    )
    own = cost[np.arange(count), partner]
    others = cost.copy()
    others[np.arange(count), partner] = np.inf
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = own / others.min(axis=1)
    margin = float(1 - np.median(np.nan_to_num(ratio, nan=1.0, posinf=1.0))) if count > 1 else 0.0
    mutual = bool((partner[partner] == np.arange(count)).all())
    return Mirror(pairs, float(own.mean()) if mutual else 1.0, max(margin, 0.0))


def _size(shape: np.ndarray) -> float:
    spread = shape - np.nanmean(shape, axis=0)
    return max(float(np.sqrt(np.nanmean((spread**2).sum(axis=1)))), 1e-9)


def _onto(points: np.ndarray, mean: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Move, turn and scale one pose onto the mean by their common points."""
    common = labelled & np.isfinite(mean).all(axis=1)
    ours, theirs = points[common], mean[common]
    center, goal = ours.mean(axis=0), theirs.mean(axis=0)
    a, b = ours - center, theirs - goal
    # As complex numbers, turning and scaling is one factor.
    first, second = a[:, 0] + 1j * a[:, 1], b[:, 0] + 1j * b[:, 1]
    norm = max(float((np.abs(first) ** 2).sum()), 1e-12)
    factor = (np.conj(first) * second).sum() / norm
    turned = (points - center) @ np.array([[factor.real, factor.imag], [-factor.imag, factor.real]])
    return turned + goal
