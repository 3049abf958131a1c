"""Flip pairs proved: by construction, by their names, and against the labelled poses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from posekit.data.columns import InstanceColumns
from posekit.diagnosis.findings import Finding, instance_examples
from posekit.diagnosis.pose_shapes import PoseShapes, centred, middle_and_spread
from posekit.diagnosis.swaps import find_side_swaps
from posekit.schema import KeypointSchema, mirrored_name

_FAR, _NEAR = 0.8, 0.4
_ENOUGH = 50
_MOSTLY, _WHOLE = 0.7, 0.95


def involution_problems(keypoints: Sequence[str], pairs: Sequence[Sequence[str]]) -> list[str]:
    """Return why flip pairs are no involution, one sentence a fault; empty if they are.

    An involution swaps each keypoint with exactly one other, or leaves it in its place: mirroring
    twice must give back the pose.
    """
    problems = []
    partner: dict[str, str] = {}
    for pair in pairs:
        if len(pair) != 2:
            problems.append(f"{list(pair)} is not a pair of two names")
            continue
        a, b = pair
        for name in pair:
            if name not in keypoints:
                problems.append(f"the pair ({a}, {b}) names '{name}', which is no keypoint")
        if a == b:
            problems.append(f"'{a}' is paired with itself")
            continue
        for name, other in ((a, b), (b, a)):
            if name in partner and {name, partner[name]} != {a, b}:
                problems.append(f"'{name}' is paired with '{partner[name]}' and with '{other}'")
            elif name in partner and name == a:
                problems.append(f"the pair ({a}, {b}) is listed twice")
            partner[name] = other
    return problems


def pairs_by_name(schema: KeypointSchema) -> Iterator[Finding]:
    """Name keypoints whose names say left and right but that are no flip pair."""
    flip = schema.flip_indices
    places = {name: k for k, name in enumerate(schema.keypoints)}
    missing: list[tuple[str, str]] = []
    wrong: list[tuple[str, str]] = []
    for k, name in enumerate(schema.keypoints):
        other = places.get(mirrored_name(name))
        if other is None or other <= k or flip[k] == other:
            continue
        if flip[k] == k and flip[other] == other:
            missing.append((name, schema.keypoints[other]))
        else:
            wrong.append((name, schema.keypoints[other]))
    yield from _pair_finding("flip_pairs_missing", missing, "their names are a left and a right")
    yield from _pair_finding("flip_pairs_wrong", wrong, "their names belong together")


def pairs_by_geometry(poses: PoseShapes, schema: KeypointSchema) -> Iterator[Finding]:
    """Test the flip pairs against the mirrored mean pose.

    The mean pose, mirrored, must have each keypoint where its partner was. Distances count in
    standard deviations of the keypoint over the instances. Only what is clear is named: the right
    partner within 0.4, the given one beyond 0.8; and only where the mean pose is its own mirror
    image on the whole, which those of animals that mostly face one way are not.
    """
    count = poses.labelled.sum(axis=0)
    known = np.flatnonzero(count >= _ENOUGH)
    if len(known) < 3:
        return
    whole = poses.labelled[:, known].mean() > _WHOLE
    relative = (centred(poses) if whole else poses.in_box())[:, known]
    apart, given = _mirror_distances(relative, known, np.asarray(schema.flip_indices))
    own = np.arange(len(known))
    best = given.copy()
    # only what does not fit is matched again: in dense schemas neighbours fit about as well
    doubtful = np.flatnonzero(apart[own, given] > _FAR)
    cost = (apart + apart.T)[np.ix_(doubtful, doubtful)]
    best[doubtful] = doubtful[linear_sum_assignment(cost)[1]]
    # one-sided means leave much even so
    if (apart[own, best] < _NEAR).mean() < _MOSTLY:
        return
    missing: list[tuple[str, str]] = []
    wrong: list[tuple[str, str]] = []
    for k in doubtful.tolist():
        other = int(best[k])
        if best[other] != k or other <= k or apart[k, other] > _NEAR:
            continue
        pair = (schema.keypoints[known[k]], schema.keypoints[known[other]])
        (missing if given[k] == k and given[other] == other else wrong).append(pair)
    where = "in the mirrored mean pose each lies where the other was"
    yield from _pair_finding("flip_pairs_missing", missing, where)
    yield from _pair_finding("flip_pairs_wrong", wrong, where)


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


def _pair_finding(name: str, pairs: list[tuple[str, str]], why: str) -> Iterator[Finding]:
    if pairs:
        listed = ", ".join(f"({a}, {b})" for a, b in pairs[:12])
        more = f" and {len(pairs) - 12} more" if len(pairs) > 12 else ""
        yield Finding(
            name,
            "error",
            (
                f"{len(pairs)} flip pairs are missing in the schema"
                if name.endswith("missing")
                else f"{len(pairs)} keypoints are paired with the wrong one; they should be"
            )
            + f": {listed}{more}; {why}",
            "correct flip_pairs in the card: mirrored training images get wrong labels otherwise",
            len(pairs),
        )


def _mirror_distances(
    relative: np.ndarray, known: np.ndarray, flip: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compare the mean pose with its mirror image.

    Args:
        relative: float64 (n, k, 2), poses in a common frame, of the known keypoints.
        known: int64 (k,), their places in the schema.
        flip: int64 (K,), of the schema.

    Returns:
        float64 (k, k): distance of keypoint i from the mirror image of j, in standard deviations;
        int64 (k,): the partner of each that the schema gives, itself if that one is not known.
    """
    mean, spread = middle_and_spread(relative)
    place = np.full(len(flip), -1)
    place[known] = np.arange(len(known))
    given = place[flip[known]]
    given = np.where(given < 0, np.arange(len(known)), given)
    # few poses, or a camera on one side, move the axis of symmetry a little off the middle
    mean = mean - [np.median((mean[:, 0] + mean[given, 0]) / 2), 0]
    apart = np.linalg.norm(mean[:, None] - (mean * [-1, 1])[None], axis=2)
    return apart / np.maximum((spread[:, None] + spread[None]) / 2, 1e-6), given


def _times(log_ratio: float) -> str:
    return f"{np.exp(log_ratio):.0f} times" if log_ratio < 7 else "over 1000 times"
