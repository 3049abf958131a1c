"""Augmentation draws: keyed, bounded, and by ViTPose's rules."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from posekit.config.augmentation import NO_AUGMENTATION, AugmentationConfig
from posekit.data.augment import (
    Geometry,
    KeyedDraws,
    choose_half,
    draw_geometry,
    half_body_crop,
    stream_key,
)
from posekit.schema import KeypointSchema

UPPER = tuple(f"u{i}" for i in range(6))
LOWER = tuple(f"l{i}" for i in range(6))
SCHEMA = KeypointSchema("toy", UPPER + LOWER, upper_body=UPPER)
POINTS = np.stack([np.arange(12.0), np.arange(12.0) * 3], axis=1)
SEEN = np.full(12, 2, np.uint8)
BOX = Geometry(np.array([50.0, 60.0]), np.array([30.0, 40.0]))


def draw(config, row=0, epoch=0, seed=0, own=False, visibility=SEEN):
    return draw_geometry(
        config,
        SCHEMA,
        BOX,
        POINTS,
        visibility,
        box_size=np.array([20.0, 32.0]),
        aspect=0.75,
        has_own_center=own,
        draws=KeyedDraws(seed, "toy/train"),
        epoch=epoch,
        row=row,
    )


def as_numbers(drawn):
    geometry, pixels = drawn
    return [
        *geometry.center,
        *geometry.size,
        geometry.rotation_deg,
        geometry.flipped,
        pixels.brightness,
    ]


def test_the_same_key_gives_the_same_draw_and_any_other_another():
    config = AugmentationConfig(brightness=0.5)
    first = as_numbers(draw(config, row=5, epoch=2, seed=1))
    assert as_numbers(draw(config, row=5, epoch=2, seed=1)) == first
    for other in ({"row": 6}, {"epoch": 3}, {"seed": 2}):
        assert as_numbers(draw(config, **{"row": 5, "epoch": 2, "seed": 1, **other})) != first


def test_rows_beyond_32_bits_and_large_epochs_have_their_own_draws():
    draws = KeyedDraws(0, "toy/train")
    values = {draws.at(epoch, row).random() for epoch in (0, 2**40) for row in (0, 2**33)}
    assert len(values) == 4


def test_draws_are_those_of_a_new_philox_generator_with_the_same_key_and_counter():
    draws = KeyedDraws(5, "toy/train")
    draws.at(1, 2).standard_normal(7)
    draws.at(1, 2).integers(0, 9, dtype=np.uint32)
    key = np.array([stream_key(5, "toy/train"), 3], dtype=np.uint64)
    counter = np.array([0, 1, 9, 0], dtype=np.uint64)
    fresh = np.random.Generator(np.random.Philox(key=key, counter=counter))
    again = draws.at(3, 9)
    assert again.random(3).tolist() == fresh.random(3).tolist()
    assert again.standard_normal(5).tolist() == fresh.standard_normal(5).tolist()


def test_without_augmentation_the_crop_is_the_exact_one():
    for row in range(20):
        geometry, pixels = draw(NO_AUGMENTATION, row=row)
        assert geometry.center.tolist() == BOX.center.tolist()
        assert geometry.size.tolist() == BOX.size.tolist()
        assert (geometry.rotation_deg, geometry.flipped) == (0.0, False)
        assert not pixels.changes_colour
        assert pixels.erase is None


def test_default_draws_are_vitposes():
    config = AugmentationConfig(half_body=0)
    drawn = [draw(config, row=row)[0] for row in range(2000)]
    factors = np.array([one.size[0] / BOX.size[0] for one in drawn])
    angles = np.array([one.rotation_deg for one in drawn])
    moved = np.array([one.center - BOX.center for one in drawn])
    assert factors.min() == 0.5
    assert factors.max() == 1.5
    # A normal of standard deviation 0.5 clipped at 0.5 lies at each end with 15.9 %.
    assert np.mean(factors == 0.5) == pytest.approx(0.159, abs=0.03)
    assert np.mean(angles != 0) == pytest.approx(0.6, abs=0.04)
    assert np.abs(angles).max() == 80
    assert angles[angles != 0].std() == pytest.approx(36.9, abs=2.5)
    assert np.mean([one.flipped for one in drawn]) == pytest.approx(0.5, abs=0.04)
    assert np.mean((moved != 0).any(axis=1)) == pytest.approx(0.3, abs=0.04)
    assert (np.abs(moved).max(axis=0) <= [4.0, 6.4]).all()
    assert np.abs(moved).max(axis=0) == pytest.approx([4.0, 6.4], rel=0.05)


def test_truncated_draws_stay_inside_and_are_wider_than_clipped_normals():
    config = AugmentationConfig(
        half_body=0, rotation=80, rotation_draw="truncated", scale_draw="truncated"
    )
    drawn = [draw(config, row=row)[0] for row in range(1000)]
    angles = np.array([one.rotation_deg for one in drawn if one.rotation_deg])
    assert np.abs(angles).max() < 80
    # The standard deviation of a normal cut off at one is 0.5397.
    assert angles.std() == pytest.approx(80 * 0.5397, rel=0.08)


def test_full_turns_reach_all_directions():
    config = AugmentationConfig(rotation=180, rotation_draw="uniform", rotation_probability=1)
    angles = np.array([draw(config, row=row)[0].rotation_deg for row in range(400)])
    counts, _ = np.histogram(angles, bins=4, range=(-180, 180))
    assert (counts > 60).all()


def test_an_instance_is_moved_once_for_the_whole_run():
    config = AugmentationConfig(half_body=0, shift_probability=1)
    centers = np.array([draw(config, row=3, epoch=epoch)[0].center for epoch in range(5)])
    assert (centers == centers[0]).all()
    assert (centers[0] != BOX.center).all()
    each = config.model_copy(update={"shift_once": False})
    centers = np.array([draw(each, row=3, epoch=epoch)[0].center for epoch in range(5)])
    assert len(np.unique(centers, axis=0)) == 5


def test_own_centres_are_not_moved_by_the_rule_of_vitpose():
    config = AugmentationConfig(half_body=0, shift_probability=1)
    assert draw(config, own=True)[0].center.tolist() == BOX.center.tolist()
    each = config.model_copy(update={"shift_once": False})
    assert draw(each, own=True)[0].center.tolist() != BOX.center.tolist()


@pytest.mark.parametrize(
    ("seen_upper", "seen_lower", "prefer_upper", "expected"),
    [
        (6, 6, True, "upper"),
        (6, 6, False, "lower"),
        (2, 6, True, None),
        (3, 6, True, "upper"),
        (6, 2, False, None),
        (6, 3, False, "lower"),
    ],
)
def test_half_body_chooses_as_vitpose(seen_upper, seen_lower, prefer_upper, expected):
    visibility = np.zeros(12, np.uint8)
    visibility[:seen_upper] = 2
    visibility[6 : 6 + seen_lower] = 1
    chosen = choose_half(AugmentationConfig(), SCHEMA, visibility, prefer_upper)
    if expected is None:
        assert chosen is None
    else:
        first = 0 if expected == "upper" else 6
        count = seen_upper if expected == "upper" else seen_lower
        assert chosen.tolist() == list(range(first, first + count))


def test_half_body_falls_back_to_the_half_that_has_enough_points():
    config = AugmentationConfig(half_body_labelled=4)
    visibility = np.zeros(12, np.uint8)
    visibility[[0, 1, 2, 3, 6, 7]] = 2
    assert choose_half(config, SCHEMA, visibility, False).tolist() == [0, 1, 2, 3]


def test_half_body_needs_an_upper_body():
    schema = KeypointSchema("toy", UPPER + LOWER)
    assert choose_half(AugmentationConfig(), schema, SEEN, True) is None


def test_half_body_crop_is_the_padded_extent_in_the_inputs_aspect():
    center, size = half_body_crop(np.array([[0.0, 0.0], [30.0, 10.0], [30.0, 20.0]]), 0.75, 1.5)
    assert center.tolist() == [20, 10]
    assert size.tolist() == pytest.approx([45, 60])


def test_settings_are_checked():
    for wrong in ({"flip": 2}, {"rotation": 200}, {"erase_area": (0.5, 0.1)}, {"rotate": 3}):
        with pytest.raises(ValidationError):
            AugmentationConfig(**wrong)


def test_a_zoom_stays_inside_the_crop_and_has_its_share_of_the_area():
    from posekit.data.augment import _zoom  # noqa: PLC0415

    config = AugmentationConfig(zoom=(0.2, 0.5))
    center, size = np.array([50.0, 40.0]), np.array([60.0, 80.0])
    shares = []
    for seed in range(300):
        middle, part = _zoom(config, center, size, np.random.default_rng(seed))
        assert (np.abs(middle - center) + part / 2 <= size / 2 + 1e-9).all()
        shares.append(part.prod() / size.prod())
    assert 0.2 <= min(shares) < 0.23
    assert 0.46 < max(shares) <= 0.5


def test_a_zoom_leaves_all_other_draws_alone():
    plain, zoomed = AugmentationConfig(), AugmentationConfig(zoom=(0.3, 0.3), zoom_aspect=1)
    first, second = draw(plain), draw(zoomed)
    assert first[1] == second[1]
    assert (first[0].rotation_deg, first[0].flipped) == (second[0].rotation_deg, second[0].flipped)
    np.testing.assert_allclose(second[0].size, first[0].size * 0.3**0.5)
