"""Pairs of 64-bit hashes that differ in a few bits, found without comparing all with all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_PARTS = 4
_PART_BITS = 16
_BLOCK = 2_000_000
_BITS_OF = np.array([value.bit_count() for value in range(1 << _PART_BITS)], np.uint8)
FARTHEST = 2 * _PARTS - 1
"""The largest distance for which the search is complete."""


def near_pairs(
    a: np.ndarray, b: np.ndarray, radius: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all pairs (i, j) with hash distance of a[i] and b[j] of at most `radius`.

    If two hashes differ in at most 7 bits, then one of their four 16-bit parts differs in at most
    one: so each part of `b`, with none and with each one bit turned, is looked up in the sorted
    parts of `a`. Cost: 68 look-ups a hash of `b`, and one comparison for each pair that shares a
    part: 200,000 by 200,000 random hashes take about a minute on one core and 100 MB. Many equal
    hashes make many pairs: pass unique ones.

    Args:
        a: uint64 (n,).
        b: uint64 (m,).
        radius: 0 to FARTHEST.

    Returns:
        int64 rows of `a`, int64 rows of `b`, uint8 distances; sorted by row of `b`, then distance.

    Raises:
        ValueError: the radius is larger.
    """
    if not 0 <= radius <= FARTHEST:
        raise ValueError(f"radius {radius}, expected 0 to {FARTHEST}")
    found = list(_pairs(np.asarray(a, np.uint64), np.asarray(b, np.uint64), radius))
    if not found:
        none = np.zeros(0, np.int64)
        return none, none, np.zeros(0, np.uint8)
    keys = np.unique(np.concatenate(found))
    rows_a, rows_b = keys % len(a), keys // len(a)
    apart = distances(a[rows_a], b[rows_b])
    order = np.lexsort((apart, rows_b))
    return rows_a[order], rows_b[order], apart[order]


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """uint8 (n,): number of bits in which the uint64 hashes a[i] and b[i] differ."""
    parts = np.ascontiguousarray(a ^ b).view(np.uint16).reshape(-1, _PARTS)
    return _BITS_OF[parts].sum(axis=1, dtype=np.uint8)


def _pairs(a: np.ndarray, b: np.ndarray, radius: int) -> Iterator[np.ndarray]:
    """Return arrays of keys, row of b times len(a) plus row of a; a pair may come several times."""
    turned = [0, *(1 << bit for bit in range(_PART_BITS))]
    if radius < _PARTS:
        turned = [0]  # then one part is equal
    for part in range(_PARTS):
        part_a, part_b = (_part(values, part) for values in (a, b))
        order = np.argsort(part_a, kind="stable")
        starts = np.searchsorted(part_a[order], np.arange((1 << _PART_BITS) + 1))
        for bit in turned:
            wanted = part_b ^ bit
            first, last = starts[wanted], starts[wanted + 1]
            yield from _within(a, b, radius, order, first, last - first)


def _within(
    a: np.ndarray,
    b: np.ndarray,
    radius: int,
    order: np.ndarray,
    first: np.ndarray,
    counts: np.ndarray,
) -> Iterator[np.ndarray]:
    """Compare each hash of b with its run of a, in blocks of bounded size."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(b):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _BLOCK, side="right")))
        run = counts[start:stop]
        rows_b = np.repeat(np.arange(start, stop), run)
        place = np.arange(len(rows_b)) - np.repeat(np.cumsum(run) - run, run)
        rows_a = order[first[rows_b] + place]
        near = distances(a[rows_a], b[rows_b]) <= radius
        if near.any():
            yield rows_b[near].astype(np.int64) * len(a) + rows_a[near]
        start = stop


def _part(values: np.ndarray, part: int) -> np.ndarray:
    shift = np.uint64(_PART_BITS * part)
    return ((values >> shift) & np.uint64(0xFFFF)).astype(np.int64)
