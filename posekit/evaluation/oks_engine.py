"""Average precision and recall by object keypoint similarity, vectorised over all images.

The numbers are those of pycocotools and xtcocotools, digit by digit: the same sums in the same
order, the same greedy matching, the same interpolation (protocol: pycocotools' cocoeval, keypoints;
unmatched is -1 as in xtcocotools, so that ids play no part). What differs is the order of the
loops: references walk image by image, threshold by threshold and pair by pair; here a round takes
the next best detection of every image at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREA_RANGES = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
_PAIRS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class OksTruth:
    """G annotated instances: image and category are dense numbers from 0, ids play no part."""

    image: np.ndarray
    category: np.ndarray
    keypoints: np.ndarray
    labelled: np.ndarray
    box_xywh: np.ndarray
    area: np.ndarray
    is_ignored: np.ndarray
    is_crowd: np.ndarray

    def take(self, rows: np.ndarray) -> OksTruth:
        """Return the chosen rows."""
        return replace(self, **{name: value[rows] for name, value in vars(self).items()})

    def of_keypoints(self, columns: slice) -> OksTruth:
        """Return the truth of some keypoints; who has none of them labelled is ignored."""
        labelled = self.labelled[:, columns]
        return replace(
            self,
            keypoints=self.keypoints[:, columns],
            labelled=labelled,
            is_ignored=self.is_crowd | ~labelled.any(axis=1),
        )


@dataclass(frozen=True)
class OksDetections:
    """D detections, in the order that decides between equal scores."""

    image: np.ndarray
    category: np.ndarray
    keypoints: np.ndarray
    score: np.ndarray
    area: np.ndarray

    def take(self, rows: np.ndarray) -> OksDetections:
        """Return the chosen rows."""
        return replace(self, **{name: value[rows] for name, value in vars(self).items()})

    def of_keypoints(self, columns: slice) -> OksDetections:
        """Return the detections of some keypoints."""
        return replace(self, keypoints=self.keypoints[:, columns])


@dataclass(frozen=True)
class Matches:
    """What became of every detection that took part.

    Attributes:
        rows: int64 (D,): rows of the detections given, sorted by category, image, falling score.
        is_matched, is_ignored: bool (A, T, D), by area range and threshold.
        partner: int64 (T, D): matched row of the truth in the range 'all', -1 if none.
        truth_is_ignored: bool (A, G).
    """

    rows: np.ndarray
    is_matched: np.ndarray
    is_ignored: np.ndarray
    partner: np.ndarray
    truth_is_ignored: np.ndarray


@dataclass(frozen=True)
class OksResult:
    """precision (T, R, C, A) and recall (T, C, A), -1 where a category has nothing to find."""

    precision: np.ndarray
    recall: np.ndarray

    def average(self, area: str = "all", threshold: float | None = None) -> float:
        """Mean precision over thresholds (or at one), recalls and categories with ground truth."""
        return self._mean(self.precision, area, threshold)

    def average_recall(self, area: str = "all", threshold: float | None = None) -> float:
        """Mean of the highest recalls, likewise."""
        return self._mean(self.recall, area, threshold)

    def of_category(self, category: int) -> OksResult:
        """Return the result of one category (dense number)."""
        pick = slice(category, category + 1)
        return OksResult(self.precision[:, :, pick], self.recall[:, pick])

    @staticmethod
    def _mean(values: np.ndarray, area: str, threshold: float | None) -> float:
        values = values[..., list(AREA_RANGES).index(area)]
        if threshold is not None:
            values = values[np.flatnonzero(threshold == THRESHOLDS)]
        values = values[values > -1]
        return float(np.mean(values)) if values.size else -1.0


def match(
    truth: OksTruth, found: OksDetections, sigmas: np.ndarray, max_detections: int = 20
) -> Matches:
    """Match detections to the truth greedily within each image and category.

    Args:
        sigmas: float64 (K,).
        max_detections: the best so many of an image and category take part.

    Cost: O(pairs x K) time; pairs are the detections times the instances of the same image and
    category. Memory is bounded by blocks of pairs.
    """
    groups = int(max(truth.image.max(initial=-1), found.image.max(initial=-1))) + 1
    group_truth = truth.category.astype(np.int64) * groups + truth.image
    group_found = found.category.astype(np.int64) * groups + found.image
    # Stable: among equal scores of a group the detections' order decides, as in the reference.
    rows = np.lexsort((-found.score, group_found))
    rows = rows[_rank(group_found[rows]) < max_detections]
    group_found = group_found[rows]

    ranges = np.asarray(list(AREA_RANGES.values()))
    outside_truth = _outside(truth.area, ranges)
    truth_is_ignored = truth.is_ignored[None] | outside_truth
    shape = (len(ranges), len(THRESHOLDS), len(rows))
    partner = np.full(shape[1:], -1, np.int64)
    matches = Matches(rows, np.zeros(shape, bool), np.zeros(shape, bool), partner, truth_is_ignored)

    # All pairs of a detection and an instance of its group, detection by detection: `first` is
    # where the group's instances begin in `by_group`, `position` counts within each run.
    by_group = np.argsort(group_truth, kind="stable")
    sorted_groups = group_truth[by_group]
    first = np.searchsorted(sorted_groups, group_found, "left")
    count = np.searchsorted(sorted_groups, group_found, "right") - first
    detection = np.repeat(np.arange(len(rows)), count)
    position = np.arange(len(detection)) - np.repeat(np.cumsum(count) - count, count)
    instance = by_group[np.repeat(first, count) + position]
    oks = similarities(truth, found.keypoints, instance, rows[detection], sigmas)

    pairs = _Pairs(group_found, count, detection, instance, oks)
    for table in _tables(pairs):
        _match_table(table, truth, matches)
    outside = _outside(found.area[rows], ranges)
    matches.is_ignored[:] |= ~matches.is_matched & outside[:, None]
    return matches


def accumulate(
    truth: OksTruth,
    found: OksDetections,
    matches: Matches,
    num_categories: int,
    images: np.ndarray | None = None,
) -> OksResult:
    """Turn matches into precision at 101 recalls and the highest recall.

    Args:
        images: bool (M,), the images that count; all if left out.
    """
    ranges, thresholds = len(AREA_RANGES), len(THRESHOLDS)
    precision = -np.ones((thresholds, len(RECALLS), num_categories, ranges))
    recall = -np.ones((thresholds, num_categories, ranges))
    category = found.category[matches.rows]
    counted = np.ones(len(category), bool) if images is None else images[found.image[matches.rows]]
    expectable = np.ones(len(truth.image), bool) if images is None else images[truth.image]
    for c in range(num_categories):
        columns = np.flatnonzero((category == c) & counted)
        columns = columns[np.argsort(-found.score[matches.rows[columns]], kind="stable")]
        of_category = (truth.category == c) & expectable
        for a in range(ranges):
            expected = int(np.count_nonzero(of_category & ~matches.truth_is_ignored[a]))
            if expected == 0:
                continue
            counts = ~matches.is_ignored[a][:, columns]
            hit = matches.is_matched[a][:, columns]
            _curve(hit, counts, expected, precision[:, :, c, a], recall[:, c, a])
    return OksResult(precision, recall)


def similarities(
    truth: OksTruth,
    keypoints: np.ndarray,
    instance: np.ndarray,
    detection: np.ndarray,
    sigmas: np.ndarray,
) -> np.ndarray:
    """Return the OKS of pairs (row of the truth, row of `keypoints` (D, K, 2)) as float64 (P,).

    Unlabelled keypoints of the truth are left out. An instance without any is compared with the
    rectangle twice as large as its box on each side (it is ignored in the scores anyway).
    """
    result = np.empty(len(instance))
    num = truth.keypoints.shape[1]
    num_labelled = truth.labelled.sum(axis=1)
    # Labelled keypoints first: sums then run over the same numbers in the reference's order.
    order = np.argsort(~truth.labelled, axis=1, kind="stable")
    variances = ((sigmas * 2) ** 2)[order]
    true = np.take_along_axis(_as_complex(truth.keypoints), order, axis=1)
    found = _as_complex(keypoints).ravel()
    scale = truth.area + np.spacing(1)
    pair_labelled = num_labelled[instance]
    for k in np.unique(pair_labelled):
        of_count = np.flatnonzero(pair_labelled == k)
        for start in range(0, len(of_count), _PAIRS_AT_ONCE):
            pairs = of_count[start : start + _PAIRS_AT_ONCE]
            g, d = instance[pairs], detection[pairs, None] * num
            if k:
                offset = found[d + order[g, :k]]
                offset -= true[g, :k]
                error, spread = offset.real**2 + offset.imag**2, variances[g, :k]
            else:
                points = found[d + np.arange(num)]
                dx, dy = _outside_rectangle(truth.box_xywh[g], points.real, points.imag)
                error, spread = dx**2 + dy**2, (sigmas * 2) ** 2
            error /= spread
            error /= scale[g, None]
            error /= 2
            np.negative(error, out=error)
            np.exp(error, out=error)
            result[pairs] = np.sum(error, axis=1) / error.shape[1]
    return result


@dataclass(frozen=True)
class _Pairs:
    """Detections with their groups and numbers of instances (D), and all pairs in order (P)."""

    group: np.ndarray
    count: np.ndarray
    detection: np.ndarray
    instance: np.ndarray
    oks: np.ndarray


@dataclass(frozen=True)
class _Table:
    """Images with the same number of instances: `oks` (n, R, G) of their matchable detections."""

    oks: np.ndarray
    detection: np.ndarray
    instance: np.ndarray


def _tables(pairs: _Pairs) -> Iterator[_Table]:
    """Lay the pairs of matchable detections out as tables, one for each number of instances."""
    # A detection below the lowest threshold everywhere can match nothing, so it takes no round.
    best, count = np.zeros(len(pairs.count)), pairs.count
    np.maximum.at(best, pairs.detection, pairs.oks)
    chosen = np.flatnonzero(best >= THRESHOLDS[0])
    round_ = _rank(pairs.group[chosen])
    owner = np.cumsum(round_ == 0) - 1
    rounds = np.bincount(owner)
    pair_start = np.cumsum(count) - count
    for size in np.unique(count[chosen]):
        mine = np.flatnonzero(count[chosen] == size)
        owners = np.unique(owner[mine])
        owners = owners[np.argsort(-rounds[owners], kind="stable")]
        # Groups with most rounds come first; `local` is a group's row in this table.
        local = np.full(len(rounds), -1)
        local[owners] = np.arange(len(owners))
        n, most = len(owners), int(rounds[owners[0]])
        place = (local[owner[mine]], round_[mine])
        wanted = pair_start[chosen[mine]][:, None] + np.arange(size)
        table = np.full((n, most, size), -1.0)
        table[place] = pairs.oks[wanted]
        who = np.full((n, most), -1, np.int64)
        who[place] = chosen[mine]
        instances = np.empty((n, size), np.int64)
        instances[place[0]] = pairs.instance[wanted]
        yield _Table(table, who, instances)


def _match_table(table: _Table, truth: OksTruth, matches: Matches) -> None:
    """Run the greedy matching on one table, a round for each rank of detection."""
    least = np.minimum(THRESHOLDS, 1 - 1e-10)[None, None, :, None]
    ignored = matches.truth_is_ignored[:, table.instance].transpose(1, 0, 2)[:, :, None, :]
    crowd = truth.is_crowd[table.instance][:, None, None, :]
    n, rounds, size = table.oks.shape
    free = np.ones((n, len(AREA_RANGES), len(THRESHOLDS), size), bool)
    for r in range(rounds):
        # Images come by falling number of rounds, so those that still take part are the first.
        active = int(np.count_nonzero(table.detection[:, r] >= 0))
        who = table.detection[:active, r]
        oks = table.oks[:active, r][:, None, None, :]
        good = (free[:active] | crowd[:active]) & (oks >= least)
        regular = good & ~ignored[:active]
        good = np.where(regular.any(axis=-1, keepdims=True), regular, good)
        # Among equal similarities the last instance wins, as in the reference's loop.
        best = size - 1 - np.argmax(np.where(good, oks, -1.0)[..., ::-1], axis=-1)
        image, area, threshold = np.nonzero(good.any(axis=-1))
        chosen = best[image, area, threshold]
        free[image, area, threshold, chosen] = False
        matches.is_matched[area, threshold, who[image]] = True
        matches.is_ignored[area, threshold, who[image]] = ignored[image, area, 0, chosen]
        whole = area == 0
        matches.partner[threshold[whole], who[image[whole]]] = table.instance[
            image[whole], chosen[whole]
        ]


def _curve(
    is_hit: np.ndarray,
    counts: np.ndarray,
    expected: int,
    precision: np.ndarray,
    recall: np.ndarray,
) -> None:
    """Fill precision (T, R) and recall (T,) from hits (T, D) in order of falling score.

    Only hits matter: between two of them recall stands still and precision falls.
    """
    for t in range(len(THRESHOLDS)):
        at = np.flatnonzero(is_hit[t] & counts[t])
        true_positives = np.arange(1.0, len(at) + 1)
        all_positives = np.cumsum(counts[t])[at]
        recalls = true_positives / expected
        # The sum is written as the reference writes it, false + true + spacing.
        false_positives = all_positives - true_positives
        precisions = true_positives / (false_positives + true_positives + np.spacing(1))
        precisions = np.maximum.accumulate(precisions[::-1])[::-1]
        recall[t] = recalls[-1] if len(at) else 0.0
        place = np.searchsorted(recalls, RECALLS, side="left")
        reached = place < len(at)
        precision[t] = 0.0
        precision[t, reached] = precisions[place[reached]]


def _rank(groups: np.ndarray) -> np.ndarray:
    """Number the members of each run of equal values from 0."""
    if not len(groups):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))


def _outside(area: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    return (area[None] < ranges[:, :1]) | (area[None] > ranges[:, 1:])


def _as_complex(points: np.ndarray) -> np.ndarray:
    """(N, K, 2) float64 as (N, K) x + iy, so that one look-up fetches both."""
    return np.ascontiguousarray(points, dtype=np.float64).view(np.complex128)[..., 0]


def _outside_rectangle(box, x, y):
    zero = np.zeros_like(x)
    left, top = box[:, 0] - box[:, 2], box[:, 1] - box[:, 3]
    right, bottom = box[:, 0] + box[:, 2] * 2, box[:, 1] + box[:, 3] * 2
    dx = np.maximum(zero, left[:, None] - x) + np.maximum(zero, x - right[:, None])
    dy = np.maximum(zero, top[:, None] - y) + np.maximum(zero, y - bottom[:, None])
    return dx, dy
