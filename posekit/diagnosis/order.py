"""Keypoints in another order than the rest: in some records, in a whole split, or everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import linear_sum_assignment

from posekit.data.columns import InstanceColumns
from posekit.diagnosis.findings import Finding, instance_examples
from posekit.diagnosis.pose_shapes import PoseShapes, middle_and_spread
from posekit.schema import KeypointSchema

_ENOUGH = 20
_MOST_LINKS = 400
_MOST_TRIED = 2000
_DRAWS = 400
_FEW = 0.01
_LEAST = 5
_ROUNDS = 4
_VOTERS = (0.03, 0.1, 0.25, 0.5)


def shuffled_records(
    columns: InstanceColumns, poses: PoseShapes, schema: KeypointSchema
) -> Iterator[Finding]:
    """Name instances whose keypoints fit the rest only in another order, the same for all of them.

    The other order is voted for by the poses that are farthest from the usual one, then refined on
    those that it suits. An instance counts if the order makes an ordinary pose of a far one, by
    the places of its points in the box and by the distances between them (which turning does not
    change: a handstand is no shuffle). Exchanged sides are another check.

    Cost: O(n K^2), and O(K^3) for each of at most 2,000 voting poses.
    """
    if len(poses) < _ENOUGH or len(schema) < 3:
        return
    flip = np.asarray(schema.flip_indices)
    relative, is_from_the_side = _facing_one_way(poses.in_box())
    merged = flip if is_from_the_side else np.arange(len(flip))
    best = np.zeros(0, np.int64)
    best_order = np.arange(len(schema))
    for share in _VOTERS:
        order, usual = _other_order(relative, share)
        moved = (order != np.arange(len(order))) & (order != flip)
        if moved.sum() < 3:
            continue
        found = np.flatnonzero(_is_shuffled(poses, relative, usual, order, merged))
        if len(found) > len(best):
            best, best_order = found, order
    if len(best) >= max(_LEAST, _FEW * len(poses)):
        rows, moved = poses.rows[best], best_order != np.arange(len(best_order))
        yield Finding(
            "keypoint_order_shuffled",
            "error",
            f"{len(rows)} of {len(poses)} instances hold their keypoints in another order than "
            f"the rest, {int(moved.sum())} of {len(moved)} in another place; "
            f"{_example(best_order, schema)}",
            "bring all records into the order of the schema",
            len(rows),
            instance_examples(columns, rows),
        )


def order_against(
    poses: PoseShapes, others: PoseShapes, schema: KeypointSchema, name: str
) -> Iterator[Finding]:
    """Name a split whose keypoints are in another order than those of a second split.

    The mean positions in the box are matched; the given order must be far from fitting, by more
    than half a standard deviation on average, and another one must leave less than a third of it.

    Args:
        poses: the split in question.
        others: the split that it is compared with, usually train.
        schema: of both.
        name: of the second split, for the message.
    """
    if min(len(poses), len(others)) < _ENOUGH:
        return
    known = np.flatnonzero(
        (poses.labelled.sum(axis=0) >= _ENOUGH) & (others.labelled.sum(axis=0) >= _ENOUGH)
    )
    if len(known) < 2:
        return
    mean, spread = middle_and_spread(poses.in_box()[:, known])
    mean_other, spread_other = middle_and_spread(others.in_box()[:, known])
    apart = np.linalg.norm(mean[:, None] - mean_other[None], axis=2)
    apart /= np.maximum((spread[:, None] + spread_other[None]) / 2, 1e-6)
    own = np.arange(len(known))
    best = linear_sum_assignment(apart)[1]
    flipped = np.searchsorted(known, schema.flip_indices[known]).clip(max=len(known) - 1)
    pairs = (known[flipped] == schema.flip_indices[known]) & (flipped != own)
    if pairs.any() and apart[own, flipped][pairs].mean() < apart[own, own][pairs].mean() / 3:
        best = np.where(pairs, flipped, own)  # neighbours in a dense schema fit about as well
    moved = best != own
    if not moved.any():
        return
    given, left = float(apart[own, own][moved].mean()), float(apart[own, best][moved].mean())
    if given < 0.5 or left > given / 3:
        return
    order = np.arange(len(schema))
    order[known[best]] = known
    swaps_sides = _only_sides(order, schema)
    yield Finding(
        "sides_differ_between_splits" if swaps_sides else "keypoint_order_differs",
        "error",
        f"{int(moved.sum())} keypoints lie where {name} has others; "
        + ("left and right are exchanged" if swaps_sides else _example(order, schema)),
        "bring both splits into the order of the schema",
        int(moved.sum()),
    )


def skeleton_fits(poses: PoseShapes, schema: KeypointSchema) -> Iterator[Finding]:
    """Doubt the order of the keypoints if the skeleton's links are no shorter than chance.

    The mean length of the links, in the mean pose, is compared with what the same links have
    under random orders of the keypoints (drawn with a fixed key).
    """
    links = schema.skeleton_indices
    known = poses.labelled.sum(axis=0) >= _ENOUGH
    links = links[known[links].all(axis=1)] if len(links) else links
    names = np.unique(links)
    if len(links) < 4 or len(names) < 5:
        return
    middle = np.nanmedian(poses.in_box(), axis=0)
    given = np.linalg.norm(middle[links[:, 0]] - middle[links[:, 1]], axis=1).mean()
    rng = np.random.Generator(np.random.Philox(key=[len(schema), len(links)]))
    order = np.arange(len(schema))
    shorter = 0
    for _ in range(_DRAWS):
        order[names] = rng.permutation(names)
        ends = middle[order[links]]
        shorter += np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1).mean() <= given
    share = shorter / _DRAWS
    if share > 0.2:
        yield Finding(
            "skeleton_does_not_fit",
            "warning",
            f"the skeleton's links are no shorter than chance: {share:.0%} of random orders of "
            "the keypoints have shorter ones",
            "check that the schema lists the keypoints in the file's order, and the skeleton",
        )


def _links(num: int) -> np.ndarray:
    """int64 (L, 2): pairs of keypoints whose distances are looked at; all, or an even choice."""
    pairs = np.stack(np.triu_indices(num, 1), axis=1)
    if len(pairs) > _MOST_LINKS:
        pairs = pairs[np.unique(np.linspace(0, len(pairs) - 1, _MOST_LINKS).astype(np.int64))]
    return pairs


def _distances(points: np.ndarray, labelled: np.ndarray, links: np.ndarray) -> np.ndarray:
    """float64 (n, L): log distances in units of the pose's own mean; NaN where not labelled."""
    a, b = links.T
    both = labelled[:, a] & labelled[:, b]
    apart = np.where(both, np.linalg.norm(points[:, a] - points[:, b], axis=2), np.nan)
    with np.errstate(all="ignore"):
        scale = np.nansum(apart, axis=1) / np.maximum(both.sum(axis=1), 1)
        relative = apart / np.maximum(scale, 1e-9)[:, None]
    return np.log(np.maximum(relative, 0.03))


def _midpoints(
    points: np.ndarray, labelled: np.ndarray, flip: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each left/right pair as its midpoint, so that swapped sides change nothing."""
    first = np.flatnonzero(np.arange(len(flip)) <= flip)
    known = labelled[:, first] & labelled[:, flip[first]]
    return (points[:, first] + points[:, flip[first]]) / 2, known


def _usual_distances(
    points: np.ndarray, labelled: np.ndarray, links: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    values = _distances(points, labelled, links)
    seen = np.isfinite(values).sum(axis=0) >= _ENOUGH
    usual, spread = np.zeros(len(links)), np.full(len(links), np.inf)
    low, mid, high = np.nanpercentile(values[:, seen], [16, 50, 84], axis=0)
    usual[seen], spread[seen] = mid, np.maximum((high - low) / 2, 0.05)
    return usual, spread


def _oddness(
    points: np.ndarray,
    labelled: np.ndarray,
    links: np.ndarray,
    usual: np.ndarray,
    spread: np.ndarray,
) -> np.ndarray:
    """float64 (n,): mean squared deviation of the distances in standard deviations, bounded."""
    values = (_distances(points, labelled, links) - usual) / spread
    squared = np.minimum(values**2, 25.0)
    known = np.isfinite(squared) & np.isfinite(spread)
    return np.where(known, squared, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)


def _facing_one_way(relative: np.ndarray) -> tuple[np.ndarray, bool]:
    """Mirror the poses that face the other way, where that makes poses much more alike.

    Channels keep their places: seen from the side, left and right coincide. Also tells whether
    anything was mirrored.
    """
    across = np.nan_to_num(relative[..., 0] - np.nanmedian(relative[..., 0], axis=0))
    direction = np.linalg.svd(across, full_matrices=False)[2][0]
    mirrored = relative * [-1, 1]
    turn = across @ direction < 0
    for _ in range(_ROUNDS):
        usual = middle_and_spread(np.where(turn[:, None, None], mirrored, relative))
        turn = _far(mirrored, usual) < _far(relative, usual)
    turned = np.where(turn[:, None, None], mirrored, relative)
    alike = np.nanmean(middle_and_spread(turned)[1]) / np.nanmean(middle_and_spread(relative)[1])
    return (turned, True) if alike < 0.8 else (relative, False)


def _other_order(
    relative: np.ndarray, share: float
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Let this share of the poses, the farthest, vote for another order; refine on those it suits.

    Returns:
        the order, the usual one if nothing else suits; middle and spread of the other poses.
    """
    usual = middle_and_spread(relative)
    same = np.arange(relative.shape[1])
    far = _far(relative, usual)
    voters = np.argsort(-far, kind="stable")[: min(_MOST_TRIED, int(share * len(far)) + 1)]
    order = _voted_order(relative[voters], usual[0])
    for _ in range(_ROUNDS):
        suited = _far(relative[:, order], usual) < 0.7 * far
        if suited.sum() < _LEAST or (~suited).sum() < _ENOUGH:
            return same, usual
        usual = middle_and_spread(relative[~suited])
        order = _matched_order(np.nanmedian(relative[suited], axis=0), *usual)
        far = _far(relative, usual)
    return order, usual


def _is_shuffled(
    poses: PoseShapes,
    relative: np.ndarray,
    usual: tuple[np.ndarray, np.ndarray],
    order: np.ndarray,
    merged: np.ndarray,
) -> np.ndarray:
    """bool (n,): the order makes an ordinary pose of one that is not, by both measures.

    `merged` pairs the keypoints that cannot be told apart in these poses, as flip indices do.
    """
    before, after = _far(relative, usual), _far(relative[:, order], usual)
    suited = after < 0.7 * before
    given = _midpoints(poses.points, poses.labelled, merged)
    ordered = _midpoints(poses.points[:, order], poses.labelled[:, order], merged)
    links = _links(given[0].shape[1])
    shapes = _usual_distances(given[0][~suited], given[1][~suited], links)
    odd_before, odd_after = (_oddness(*pose, links, *shapes) for pose in (given, ordered))
    ordinary = 2 * float(np.quantile(odd_before[~suited], 0.9)) if (~suited).any() else np.inf
    return suited & (odd_after < 0.6 * odd_before) & (odd_after < ordinary)


def _far(relative: np.ndarray, usual: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """float64 (n,): mean squared distance of the points from their usual place, bounded."""
    middle, spread = usual
    apart = np.linalg.norm(relative - middle, axis=2) / np.maximum(spread, 1e-3)
    known = np.isfinite(apart)
    squared = np.where(known, np.minimum(apart, 5.0) ** 2, 0)
    return squared.sum(axis=1) / np.maximum(known.sum(axis=1), 1)


def _voted_order(relative: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """int64 (K,): the order that most poses would choose to lie nearest to the usual one."""
    num = len(middle)
    votes = np.zeros((num, num))
    for points in relative:
        cost = np.linalg.norm(points[:, None] - middle[None], axis=2)
        channels, keypoints = linear_sum_assignment(np.where(np.isfinite(cost), cost, 10.0))
        seen = np.isfinite(cost[channels, keypoints])
        votes[channels[seen], keypoints[seen]] += 1
    return as_order(*linear_sum_assignment(-votes))


def _matched_order(found: np.ndarray, middle: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """int64 (K,): the order in which one mean pose fits another best."""
    cost = np.linalg.norm(found[:, None] - middle[None], axis=2) / np.maximum(spread, 1e-3)[None]
    return as_order(*linear_sum_assignment(np.where(np.isfinite(cost), cost, 10.0)))


def as_order(channels: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Return int64 (K,): the channel that an assignment gives to each keypoint."""
    order = np.empty(len(channels), np.int64)
    order[keypoints] = channels
    return order


def _only_sides(order: np.ndarray, schema: KeypointSchema) -> bool:
    moved = np.flatnonzero(order != np.arange(len(order)))
    return bool((order[moved] == np.asarray(schema.flip_indices)[moved]).all())


def _example(order: np.ndarray, schema: KeypointSchema) -> str:
    moved = np.flatnonzero(order != np.arange(len(order)))
    k = int(moved[0])
    return f"for example the place of {schema.keypoints[order[k]]} holds {schema.keypoints[k]}"
