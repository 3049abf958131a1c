"""A step whose loss or gradient is not finite changes nothing, is told, and ends no good run."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from posekit.config.recipe import recipe_from_dict
from posekit.engine.prepare_run import prepare_run
from posekit.engine.train import train
from posekit.errors import TrainingError
from posekit.training.events import Silent
from posekit.training.guard import StepGuard
from posekit.training.loop import Trainer


def _spoil(trainer, steps, value=float("nan"), name="backbone.vit.blocks.0.attn.qkv.weight"):
    """Put a value into one gradient of the given steps (from 1)."""
    parameter = dict(trainer.model.named_parameters())[name]
    parameter.register_hook(
        lambda grad: torch.full_like(grad, value) if trainer.step + 1 in steps else grad
    )


def _changed(recipe, **parts):
    """Return a recipe with keys laid over its parts; `classic=True` gives it batch norms."""
    data = recipe.model_dump(mode="json")
    if parts.pop("classic", False):
        for head, kind in (("blobs", "classic_udp"), ("rings", "classic_msra")):
            own = data["heads"][head]
            own.update(
                head=kind, input_size=[32, 32], decoder={"channels": 8, "layers": 1}, codec={}
            )
    for part, values in parts.items():
        data[part].update(values)
    return recipe_from_dict(data)


def _everything(trainer):
    state = trainer.state()
    keys = ("model", "objective", "ema", "optimizer")
    return copy.deepcopy({key: state[key] for key in keys})


def _assert_equal(first, second, where=""):
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            _assert_equal(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        for number, pair in enumerate(zip(first, second, strict=True)):
            _assert_equal(*pair, f"{where}[{number}]")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_step_changes_nothing(tiny, optimizer, value):
    recipe = _changed(
        tiny(batch_size=8, ema_decay=0.9), classic=True, optimizer={"name": optimizer}
    )
    run = prepare_run(recipe)
    trainer = run.trainer()
    batches = run.loader.batches(0)
    trainer.train_step([next(batches)])
    _spoil(trainer, {2}, value)
    before = _everything(trainer)
    trainer.train_step([next(batches)])
    after = _everything(trainer)
    for group in (*before["optimizer"]["param_groups"], *after["optimizer"]["param_groups"]):
        del group["lr"]  # the schedule goes on
    _assert_equal(before, after)
    assert float(trainer.bad) == 1
    trainer.train_step([next(batches)])
    assert float(trainer.bad) == 0
    assert not torch.equal(
        before["model"]["backbone.vit.pos_embed"],
        trainer.state()["model"]["backbone.vit.pos_embed"],
    )


def test_a_bad_step_is_told_with_its_number_and_its_first_bad_tensor(tiny):
    run = prepare_run(tiny(batch_size=8, steps=6), listener=Silent())
    trainer = run.trainer()
    _spoil(trainer, {3})
    assert trainer.run()
    assert run.listener.warnings == [
        "step 3 was left out: the gradient of backbone.vit.blocks.0.attn.qkv.weight is nan"
    ]


def test_a_loss_that_is_not_finite_names_its_head(tiny, monkeypatch):
    run = prepare_run(tiny(batch_size=8, steps=3), listener=Silent())
    trainer = run.trainer()
    decoder = trainer.model.head("rings").decoder
    decoder.register_forward_hook(
        lambda m, i, out: out * float("inf") if trainer.step == 1 else out
    )
    assert trainer.run()
    (warning,) = run.listener.warnings
    assert warning.startswith("step 2 was left out: the loss of head 'rings' is ")


def test_the_log_of_a_bad_step_is_json_and_leaves_its_losses_out(tiny, tmp_path, monkeypatch):
    recipe = tiny(batch_size=8, steps=4)
    original = Trainer.run

    def spoiled(self):
        _spoil(self, {2})
        return original(self)

    monkeypatch.setattr(Trainer, "run", spoiled)
    result = train(recipe, evaluate=False)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    lines = (result.folder / "log.jsonl").read_text().splitlines()
    records = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [r["step"] for r in records if "left_out" in r] == [2]


def test_a_run_whose_steps_are_all_bad_ends_and_keeps_its_checkpoint(tiny):
    recipe = tiny(batch_size=8, steps=30, save_every=5, max_bad_steps=4)
    original = Trainer.run

    def spoiled(self):
        _spoil(self, set(range(8, 31)))
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run", spoiled)
        with pytest.raises(TrainingError, match=r"step 11: the gradient of .* 4 steps in a row"):
            train(recipe, evaluate=False)


def test_a_learning_rate_beyond_reason_ends_the_run(tiny):
    with pytest.raises(TrainingError, match=r"is nan|is inf|too large"):
        train(
            _changed(tiny(batch_size=8, steps=60, max_bad_steps=5), optimizer={"lr": 1e30}),
            evaluate=False,
        )


def test_the_verdict_is_read_two_steps_later_unless_waited_for():
    module = torch.nn.Linear(2, 2)
    guard = StepGuard(module, ["head"], max_bad_steps=5)
    found = []
    for step in (1, 2, 3):
        guard.begin()
        loss = module(torch.ones(1, 2)).sum() * (float("nan") if step == 1 else 1.0)
        loss.backward()
        guard.judge(step, {"head": (loss.detach(), torch.ones(()))})
        module.zero_grad()
        found.append([bad.step for bad in guard.found()])
    assert found == [[], [], [1]]
    assert guard.found(wait=True) == []


def test_gradients_are_clipped_as_torch_clips_them():
    torch.manual_seed(0)
    module = torch.nn.Linear(8, 8)
    module(torch.randn(4, 8)).square().sum().backward()
    expected = [p.grad.clone() for p in module.parameters()]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in module.parameters()]
    for parameter, gradient in zip(theirs, expected, strict=True):
        parameter.grad = gradient
    torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    guard = StepGuard(module, ["head"], max_bad_steps=5)
    guard.begin()
    guard.judge(1, {"head": (torch.ones(()), torch.ones(()))}, clip_norm=0.5)
    assert all(
        torch.equal(a.grad, b.grad) for a, b in zip(module.parameters(), theirs, strict=True)
    )
