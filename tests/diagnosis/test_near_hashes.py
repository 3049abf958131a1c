"""The search for near hashes finds what comparing all with all finds."""

from __future__ import annotations

import numpy as np
import pytest

from posekit.diagnosis.near_hashes import FARTHEST, distances, near_pairs


def hashes(seed: int, count: int) -> np.ndarray:
    """Random hashes, half of them a few bits from one of a few seeds, so that many are near."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**64, count, dtype=np.uint64)
    seeds = np.random.default_rng(99).integers(0, 2**64, 8, dtype=np.uint64)
    for i in range(0, count, 2):
        value = int(seeds[rng.integers(8)])
        for bit in rng.choice(64, rng.integers(0, 7), replace=False):
            value ^= 1 << int(bit)
        values[i] = value
    return values


@pytest.mark.parametrize("radius", range(FARTHEST + 1))
def test_all_pairs_within_the_radius_are_found(radius: int):
    a, b = hashes(1, 200), hashes(2, 150)
    rows_a, rows_b, apart = near_pairs(a, b, radius)
    slow = {(i, j): (int(x) ^ int(y)).bit_count() for i, x in enumerate(a) for j, y in enumerate(b)}
    expected = {pair: bits for pair, bits in slow.items() if bits <= radius}
    found = dict(
        zip(zip(rows_a.tolist(), rows_b.tolist(), strict=True), apart.tolist(), strict=True)
    )
    assert found == expected
    assert radius < 2 or len(found) > 10


def test_the_nearest_comes_first_for_each_hash():
    _, rows_b, apart = near_pairs(hashes(1, 200), hashes(2, 150), 7)
    keys = list(zip(rows_b.tolist(), apart.tolist(), strict=True))
    assert keys == sorted(keys)


def test_no_hashes_give_no_pairs():
    none = np.zeros(0, np.uint64)
    assert [len(part) for part in near_pairs(none, none, 7)] == [0, 0, 0]
    assert [len(part) for part in near_pairs(hashes(1, 5), none, 7)] == [0, 0, 0]


def test_a_radius_beyond_the_guarantee_is_refused():
    with pytest.raises(ValueError, match="radius 8, expected 0 to 7"):
        near_pairs(hashes(1, 2), hashes(2, 2), 8)


def test_the_distance_is_the_number_of_differing_bits():
    a = np.array([0, 0b1011, 2**64 - 1], np.uint64)
    assert distances(a, np.zeros(3, np.uint64)).tolist() == [0, 3, 64]
