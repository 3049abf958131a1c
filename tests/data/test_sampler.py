"""MixedSampler: exact quotas at any ratio, permutations, ranks, resume."""

from __future__ import annotations

import pickle
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.config.recipe import Sampling
from posekit.data.sampler import MixedSampler, Quotas, Source, shares
from posekit.errors import ConfigError

WEIGHTS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=10)
EQUAL = Sampling(strategy="equal")


def normalised(weights) -> list[Fraction]:
    total = sum(Fraction(weight) for weight in weights)
    return [Fraction(weight) / total for weight in weights]


def sampler(sizes=(7, 3, 20), sampling=EQUAL, batch_size=8, first_row=0, **more) -> MixedSampler:
    sources = [
        Source(f"head{i}", f"data{i}", np.arange(size) + first_row) for i, size in enumerate(sizes)
    ]
    return MixedSampler(sources, sampling, batch_size, **more)


@given(WEIGHTS, st.integers(1, 96), st.integers(0, 10**9))
def test_quotas_of_a_step_fill_the_batch_and_are_shares_rounded_up_or_down(weights, size, step):
    parts = normalised(weights)
    quotas = Quotas(parts, size).of_step(step)
    assert sum(quotas) == size
    for quota, part in zip(quotas, parts, strict=True):
        assert abs(quota - part * size) < 1 + 1e-9


@given(WEIGHTS, st.integers(1, 64), st.integers(0, 10**12))
def test_counts_stay_within_two_samples_of_the_shares_however_long_the_run(weights, size, steps):
    parts = normalised(weights)
    counts = Quotas(parts, size).before(steps)
    assert sum(counts) == steps * size
    for count, part in zip(counts, parts, strict=True):
        assert abs(count - part * size * steps) < 2.5


@settings(max_examples=30)
@given(WEIGHTS, st.integers(1, 32), st.integers(0, 10**6))
def test_counts_before_a_step_are_the_sum_of_the_quotas(weights, size, start):
    quotas = Quotas(normalised(weights), size)
    counts = np.array(quotas.before(start))
    for step in range(start, start + 20):
        counts += quotas.of_step(step)
    assert quotas.before(start + 20) == counts.tolist()


@given(WEIGHTS, st.integers(1, 96))
def test_at_most_as_many_batch_shapes_occur_as_heads(weights, size):
    assert len(Quotas(normalised(weights), size).patterns) <= len(weights)


def test_every_head_appears_even_if_there_are_more_heads_than_places():
    seen = Counter()
    many = sampler(sizes=(5,) * 9, batch_size=2)
    for step in range(9):
        seen.update(slot.head for slot in many.batch(step))
    assert set(seen) == {f"head{i}" for i in range(9)}


def test_one_to_a_billion_ends_and_gives_the_rare_head_its_samples():
    weights = Sampling(strategy="weights", weights={"head0": 1, "head1": 1e9})
    rare = sampler(sizes=(1, 1), sampling=weights, batch_size=24)
    assert rare.batch(0) == rare.batch(0)
    assert rare.plan(10**9)["head0"][0] == pytest.approx(24, abs=2)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [1 / 101, 100 / 101]),
        (EQUAL, [1 / 2, 1 / 2]),
        (Sampling(strategy="temperature", temperature=2), [1 / 11, 10 / 11]),
        (Sampling(strategy="temperature", temperature=1), [1 / 101, 100 / 101]),
        (Sampling(strategy="weights", weights={"a": 3, "b": 1}), [3 / 4, 1 / 4]),
    ],
)
def test_strategies_give_their_shares(sampling, expected):
    given_shares = shares(sampling, {"a": 10, "b": 1000})
    assert sum(given_shares.values()) == 1
    assert [float(part) for part in given_shares.values()] == pytest.approx(expected)


def test_every_epoch_shows_every_row_once_in_another_order():
    one = sampler(sizes=(30,), batch_size=10, first_row=100)
    orders = [
        [slot.row for step in range(e * 3, e * 3 + 3) for slot in one.batch(step)] for e in range(3)
    ]
    for order in orders:
        assert sorted(order) == list(range(100, 130))
    assert orders[0] != orders[1] != orders[2]
    assert {slot.epoch for slot in one.batch(3)} == {1}


def test_a_dataset_of_one_instance_is_shown_again_and_again():
    slots = sampler(sizes=(1, 9), batch_size=6).batch(1)
    lone = [slot for slot in slots if slot.head == "head0"]
    assert [slot.epoch for slot in lone] == [3, 4, 5]
    assert {slot.row for slot in lone} == {0}


def test_a_step_is_the_same_whatever_was_asked_before():
    walked, jumped = sampler(), sampler()
    for step in range(40):
        walked.batch(step)
    assert walked.batch(40) == jumped.batch(40)
    assert walked.batch(3) == sampler().batch(3)


def test_another_seed_is_another_order_with_the_same_quotas():
    one, other = sampler(seed=1), sampler(seed=2)
    assert one.batch(0) != other.batch(0)
    assert [slot.head for slot in one.batch(0)] == [slot.head for slot in other.batch(0)]


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=6),
    st.integers(1, 5),
    st.integers(1, 12),
    st.integers(0, 1000),
)
def test_ranks_together_get_what_one_process_gets(sizes, world_size, batch_size, step):
    alone = sampler(sizes, Sampling(), batch_size * world_size).batch(step)
    parts = [
        sampler(sizes, Sampling(), batch_size, world_size=world_size, rank=rank).batch(step)
        for rank in range(world_size)
    ]
    assert all(len(part) == batch_size for part in parts)
    assert Counter(slot for part in parts for slot in part) == Counter(alone)


@given(st.integers(2, 6), st.integers(0, 100))
def test_each_rank_gets_its_fair_part_of_every_head(world_size, step):
    parts = [
        Counter(
            slot.head
            for slot in sampler((9, 9, 9), EQUAL, 6, world_size=world_size, rank=rank).batch(step)
        )
        for rank in range(world_size)
    ]
    for head in ("head0", "head1", "head2"):
        counts = [part[head] for part in parts]
        assert max(counts) - min(counts) <= 1
        assert min(counts) >= 1


def test_batches_are_sorted_by_head_in_the_sources_order():
    heads = [slot.head for slot in sampler().batch(0)]
    assert heads == sorted(heads)


def test_plan_says_how_often_each_instance_is_shown():
    plan = sampler(sizes=(10, 40), batch_size=20).plan(100)
    assert plan["head0"] == (1000, 100.0)
    assert plan["head1"] == (1000, 25.0)


def test_substitutes_are_other_rows_of_the_same_dataset_and_epoch():
    one = sampler(sizes=(6,), batch_size=3)
    slot = one.batch(1)[2]
    rows = {one.substitute(slot, attempt).row for attempt in range(1, 6)}
    assert rows == set(range(6)) - {slot.row}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sampler(sizes=()), "nothing to sample from"),
        (lambda: sampler(sizes=(4, 0)), "head 'head1': dataset 'data1' has no instance"),
        (lambda: sampler(world_size=2, rank=2), "rank 2 of 2 processes"),
        (lambda: sampler(batch_size=0), "batch size 0"),
        (
            lambda: sampler(sampling=Sampling(strategy="weights", weights={"head0": 1})),
            "no weight for the head 'head1'",
        ),
        (
            lambda: MixedSampler([Source("a", "x", np.arange(2))] * 2, EQUAL, 4),
            "the head 'a' appears twice",
        ),
    ],
)
def test_impossible_settings_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_rows_of_a_mapped_file_travel_as_its_path(tmp_path):
    np.save(tmp_path / "rows.npy", np.arange(100_000))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    one = MixedSampler([Source("a", "x", rows)], EQUAL, 4)
    one.batch(0)
    data = pickle.dumps(one)
    assert len(data) < 2000
    assert pickle.loads(data).batch(5) == one.batch(5)  # noqa: S301


def test_a_million_rows_keep_two_orders_in_memory_at_most():
    one = sampler(sizes=(1_000_000,), batch_size=4)
    for epoch in range(4):
        one.batch(epoch * 250_000)
    kept = list(one._kept.values())
    assert len(kept) <= 2
    assert sum(order.nbytes for order in kept) <= 8_000_000


def test_the_quotas_of_the_documented_example_alternate_between_two_patterns():
    quotas = Quotas([Fraction(1, 2), Fraction(3, 8), Fraction(1, 8)], 4)
    assert [quotas.of_step(step) for step in range(4)] == [[2, 2, 0], [2, 1, 1]] * 2
    assert quotas.before(4) == [8, 6, 2]
