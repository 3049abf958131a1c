"""Instances whose left and right look exchanged, with a likelihood ratio for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from posekit.data.columns import InstanceColumns
from posekit.diagnosis.findings import Finding, instance_examples
from posekit.diagnosis.pose_shapes import PoseShapes, centred
from posekit.schema import KeypointSchema

LEAST = 30
_MOST_FIT = 2000
_BATCH = 4000
_RIDGE = 1.0
_WIDTH = 2.0
_FLAG_WEIGHT = 0.5
_ROUNDS = 5
_TURNS = 3
_CERTAIN = 0.98
_CLEAR = 0.85
_LEAST_LOG_RATIO = 3.0
_MOST_SHARE, _MOST_UNCLEAR = 0.2, 0.05


@dataclass(frozen=True)
class SideSwaps:
    """Which instances look swapped.

    Attributes:
        log_ratio: float64 (n,): log of how much likelier the instance is with its sides exchanged;
            above 0 where it looks swapped.
        probability: float64 (n,): that it is swapped, given how many seem to be.
        swapped: int64, the instances to look at (log ratio at least 3, probability over a half),
            the clearest first.
        share: estimated share of swapped instances in the split.
        certainty: mean probability that an instance's sides can be told; 0.5 if not at all.
    """

    log_ratio: np.ndarray
    probability: np.ndarray
    swapped: np.ndarray
    share: float
    certainty: float

    @property
    def expected_precision(self) -> float:
        """Share of the listed instances that are expected to be truly swapped."""
        return float(self.probability[self.swapped].mean()) if len(self.swapped) else 1.0


def find_side_swaps(poses: PoseShapes, flip_indices: np.ndarray) -> SideSwaps | None:
    """Find instances that look likelier with left and right exchanged.

    Every pose is compared with its own swapped copy under a smooth function of the pose that is
    fitted to be +1 on poses as labelled and -1 on swapped ones. Its value is an estimate of
    (p(pose) - p(swapped)) / (p(pose) + p(swapped)), so it holds the likelihood ratio: near 0 where
    the sides cannot be told (profiles, back views, animals side on), near -1 where they are surely
    wrong. Poses are centred, scaled, and turned upright by their pairs' midpoints, which a swap
    does not move; a mirrored pose counts as seen too; visibility is part of the pose. Each
    instance is judged by a fit without it (leave-one-out, closed form), what looks swapped is
    turned back, and the fit repeated. The scale of the ratio and the share of swaps are then
    fitted to the values themselves, so that unclear poses give no list at all.

    Cost: for n instances and the m <= 2000 that are fitted, O(m^3 + n m K): seconds, and 200 MB.

    Args:
        poses: the split's poses.
        flip_indices: int64 (K,), of the schema.

    Returns:
        None if there are fewer than LEAST poses that hold a pair, or no pairs at all.
    """
    pairs = flip_indices != np.arange(len(flip_indices))
    both = poses.labelled & poses.labelled[:, flip_indices] & pairs
    usable = np.flatnonzero(both.any(axis=1))
    if len(usable) < LEAST:
        return None
    values = np.zeros(len(poses))
    part = poses.take(usable)
    upright = _turned_upright(part, flip_indices)
    given, swapped = (_features(upright, part, order) for order in (None, flip_indices))
    chosen = np.unique(np.linspace(0, len(part) - 1, min(len(part), _MOST_FIT)).astype(np.int64))
    fitted, weights, gamma = _fit(given, swapped, chosen, len(flip_indices))
    values[usable] = _predict(given, (given[chosen], swapped[chosen]), weights, gamma, upright)
    values[usable[chosen]] = fitted
    scale, share = _calibrate(values[usable])
    log_ratio = -np.sign(values) * scale * _strength(values)
    probability = 1 / (1 + (1 - share) / share * np.exp(-log_ratio))
    certainty = _certainty(np.abs(log_ratio[usable]))
    listed = np.flatnonzero((log_ratio >= _LEAST_LOG_RATIO) & (probability > 0.5))
    if certainty < _CLEAR and share > _MOST_UNCLEAR:
        listed = listed[:0]  # rather two kinds of pose, from the front and from behind, than swaps
    return SideSwaps(
        log_ratio=log_ratio,
        probability=probability,
        swapped=listed[np.argsort(-log_ratio[listed], kind="stable")],
        share=share,
        certainty=certainty,
    )


def swapped_sides(
    columns: InstanceColumns, poses: PoseShapes, schema: KeypointSchema
) -> Iterator[Finding]:
    """List the instances whose left and right look exchanged; see `find_side_swaps`."""
    found = find_side_swaps(poses, np.asarray(schema.flip_indices))
    if found is None or not len(found.swapped):
        return
    ratios = found.log_ratio[found.swapped]
    rows = poses.rows[found.swapped]
    share = len(rows) / len(poses)
    notes = [
        f"swapped {_times(ratio)} likelier ({chance:.0%})"
        for ratio, chance in zip(ratios, found.probability[found.swapped], strict=True)
    ]
    yield Finding(
        "sides_swapped",
        "error"
        if share >= 0.01 and len(rows) > 2 and found.expected_precision > 0.8
        else "warning",
        f"left and right look exchanged in {len(rows)} of {len(poses)} instances ({share:.1%}); "
        f"about {found.expected_precision:.0%} of the list should be truly so, and "
        f"{found.share:.1%} of the split may be, unclear poses among them",
        "look at them; exchange their sides in the annotations, or leave the images out",
        len(rows),
        instance_examples(columns, rows, notes),
    )


def _turned_upright(poses: PoseShapes, flip: np.ndarray) -> np.ndarray:
    """float64 (n, K, 2): poses turned so that the midpoints of their pairs fit their mean best."""
    points = np.nan_to_num(centred(poses))
    plane = points[..., 0] + 1j * points[..., 1]
    known = poses.labelled & poses.labelled[:, flip]
    middle = np.where(known, (plane + plane[:, flip]) / 2, 0)
    middle = middle - (middle.sum(axis=1) / np.maximum(known.sum(axis=1), 1))[:, None]
    middle = np.where(known, middle, 0)
    turn = np.ones(len(poses), complex)
    for _ in range(_TURNS):
        mean = (middle * turn[:, None]).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        mean = (mean - np.conj(mean)) / 2  # the mean of a pose and its mirror image lies on x = 0
        match = (np.conj(middle) * mean * known).sum(axis=1)
        turn = np.where(np.abs(match) > 1e-9, match / np.maximum(np.abs(match), 1e-9), 1)
    turned = plane * turn[:, None]
    return np.stack([turned.real, turned.imag], axis=-1)


def _features(upright: np.ndarray, poses: PoseShapes, order: np.ndarray | None) -> np.ndarray:
    """float64 (n, 4 K): points, labelled, visible; the keypoints in another order."""
    order = np.arange(upright.shape[1]) if order is None else order
    seen = poses.labelled[:, order], poses.visible[:, order]
    points = np.where(seen[0][..., None], upright[:, order], 0.0).reshape(len(upright), -1)
    return np.concatenate([points, _FLAG_WEIGHT * seen[0], _FLAG_WEIGHT / 2 * seen[1]], axis=1)


def _mirror(features: np.ndarray, num: int) -> np.ndarray:
    mirrored = features.copy()
    mirrored[:, 0 : 2 * num : 2] *= -1
    return mirrored


def _kernel(
    a: np.ndarray, given: np.ndarray, swapped: np.ndarray, gamma: float, num: int
) -> np.ndarray:
    """Odd kernel: it changes its sign if either pose is swapped, and none if either is mirrored."""

    def similarity(b: np.ndarray) -> np.ndarray:
        squared = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
        return np.exp(-gamma * np.maximum(squared, 0))

    return (
        similarity(given)
        - similarity(swapped)
        + similarity(_mirror(swapped, num))
        - similarity(_mirror(given, num))
    )


def _fit(
    given: np.ndarray, swapped: np.ndarray, chosen: np.ndarray, num: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fit the odd function; return its leave-one-out values, weights and width."""
    a, b = given[chosen], swapped[chosen]
    probe = a[:: max(1, len(a) // 300)]
    squared = ((probe[:, None] - probe[None]) ** 2).sum(axis=-1)
    gamma = _WIDTH / max(float(np.median(squared[np.triu_indices(len(probe), 1)])), 1e-9)
    inverse = np.linalg.inv(_kernel(a, a, b, gamma, num) + _RIDGE * np.eye(len(a)))
    target = np.ones(len(a))
    for _ in range(_ROUNDS):
        weights = inverse @ target
        values = target - weights / np.diag(inverse)
        scale, share = _calibrate(values)
        if _certainty(scale * _strength(values)) < _CLEAR:
            break  # turning unclear poses would make up two kinds of pose, each sure of itself
        odds = -np.sign(values) * scale * _strength(values) + np.log(share / (1 - share))
        target = np.where(odds > 0, -1.0, 1.0)
    return values, weights, gamma


def _predict(
    given: np.ndarray,
    fitted: tuple[np.ndarray, np.ndarray],
    weights: np.ndarray,
    gamma: float,
    upright: np.ndarray,
) -> np.ndarray:
    parts = [
        _kernel(given[start : start + _BATCH], *fitted, gamma, upright.shape[1]) @ weights
        for start in range(0, len(given), _BATCH)
    ]
    return np.concatenate(parts)


def _strength(values: np.ndarray) -> np.ndarray:
    """Log ratio that a value stands for, up to a scale: 2 artanh, of which half is taken here."""
    return np.arctanh(np.minimum(np.abs(values), _CERTAIN))


def _calibrate(values: np.ndarray) -> tuple[float, float]:
    """Fit (scale of the log ratio, share of swapped instances) by likelihood.

    A value's sign is right with probability sigmoid(scale * strength), unless the instance is
    swapped. A mild bound keeps the scale finite where all signs are right.
    """
    strength, is_right = _strength(values), values > 0

    def cost(parameters: np.ndarray) -> float:
        scale = float(np.exp(np.clip(parameters[0], -20, 20)))
        share = _share(parameters[1])
        right = 1 / (1 + np.exp(-scale * strength))
        chance = np.clip((1 - share) * right + share * (1 - right), 1e-9, 1 - 1e-9)
        return float(
            -np.log(np.where(is_right, chance, 1 - chance)).sum() + 0.02 * max(scale - 10, 0) ** 2
        )

    fits = [minimize(cost, start, method="Nelder-Mead") for start in ([1.0, -3.0], [2.0, -1.0])]
    best = min(fits, key=lambda fit: fit.fun).x
    return float(np.exp(np.clip(best[0], -20, 20))), _share(best[1])


def _certainty(log_ratio: np.ndarray) -> float:
    """Mean probability that the likelier of the two ways round is the right one."""
    return float((1 / (1 + np.exp(-log_ratio))).mean())


def _share(value: float) -> float:
    return float(np.clip(_MOST_SHARE / (1 + np.exp(-np.clip(value, -30, 30))), 1e-6, None))


def _times(log_ratio: float) -> str:
    return f"{np.exp(log_ratio):.0f} times" if log_ratio < 7 else "over 1000 times"
