import math
from types import SimpleNamespace

import pytest
import torch

from posekit.config.recipe import Schedule
from posekit.training.events import ErrorBook, Silent
from posekit.training.schedule import build_scheduler, run_length


def _rates(schedule, steps, unit=1.0, lr=0.1):
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [
        {"params": [parameters[0]], "lr": lr, "lr_scale": 1.0},
        {"params": [parameters[1]], "lr": lr, "lr_scale": 0.25},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    scheduler = build_scheduler(optimizer, schedule, lr, steps, unit)
    rates = []
    for step in range(steps):
        scheduler.step_update(step)
        rates.append([group["lr"] for group in optimizer.param_groups])
    return rates


def test_steps_decay_exactly_at_their_milestones():
    schedule = Schedule(kind="step", milestones=(3, 5), gamma=0.1, warmup_steps=0)
    rates = [first for first, _ in _rates(schedule, 7)]
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_milestones_in_epochs_count_whole_epochs():
    schedule = Schedule(kind="step", milestones=(2,), gamma=0.5, warmup_steps=0)
    rates = [first for first, _ in _rates(schedule, 9, unit=3.0)]
    assert rates == pytest.approx([0.1] * 6 + [0.05] * 3)


def test_warm_up_is_linear_from_its_factor():
    schedule = Schedule(kind="constant", warmup_steps=4, warmup_factor=0.2)
    rates = [first for first, _ in _rates(schedule, 6)]
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])


def test_cosine_falls_to_its_final_factor():
    schedule = Schedule(kind="cosine", warmup_steps=0, final_factor=0.1)
    rates = [first for first, _ in _rates(schedule, 10)]
    expected = [0.01 + 0.045 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]
    assert rates == pytest.approx(expected)


def test_layer_decay_scales_every_step_once():
    schedule = Schedule(kind="cosine", warmup_steps=2)
    for first, second in _rates(schedule, 8):
        assert second == pytest.approx(first * 0.25)


def test_the_length_of_a_run_follows_from_epochs_batch_and_processes():
    training = SimpleNamespace(steps=None, epochs=3, batch_size=4, accumulate=2)
    recipe = SimpleNamespace(training=training)
    assert run_length(recipe, 80) == (30, 10.0)
    assert run_length(recipe, 80, world_size=2) == (15, 5.0)
    assert run_length(recipe, 1) == (1, 0.125)
    training.steps = 7
    assert run_length(recipe, 80) == (7, 1.0)


def test_broken_records_are_counted_and_each_message_is_reported_once():
    listener = Silent()
    book = ErrorBook(listener)
    book.note(["a is broken", "b is broken"])
    book.note(["a is broken", "a is broken"])
    assert book.counts == {"a is broken": 3, "b is broken": 1}
    assert listener.warnings == [
        f"{name} is broken (another sample took its place)" for name in "ab"
    ]
