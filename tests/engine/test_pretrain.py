"""Pre-training runs on the loop that trains poses: logs, exact resume, the start of a pose run."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch

import posekit
from posekit.config.recipe import recipe_from_dict
from posekit.errors import ConfigError
from posekit.models import load_checkpoint
from posekit.training.events import Silent
from posekit.training.step import keyed_randomness


class StopAt(Silent):
    def logged(self, log):
        super().logged(log)
        if log.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def make(tiny):
    def recipe(out, **training):
        data = tiny(out, **training).model_dump(mode="json")
        data["pretraining"] = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
        data["augmentation"]["zoom"] = [0.2, 1.0]
        return recipe_from_dict(data)

    return recipe


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(make, accumulate):
    settings = {"ema_decay": 0.9, "accumulate": accumulate}
    whole = posekit.pretrain(make("whole", **settings))
    stopped = posekit.pretrain(make("parted", **settings), listener=StopAt())
    assert (stopped.complete, stopped.step) == (False, 2)
    resumed = posekit.pretrain(make("parted", **settings), resume=True)
    assert resumed.complete
    first, second = state_of(whole.model), state_of(resumed.model)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_error_falls_and_is_logged_for_each_dataset(make):
    listener = Silent()
    done = posekit.pretrain(make("run", steps=30, batch_size=8), listener=listener)
    assert done.complete
    first, last = listener.logs[0].loss, listener.logs[-1].loss
    assert set(first) == {"blobs", "rings"}
    assert all(last[head] < 0.9 * first[head] for head in first)
    line = json.loads((done.folder / "log.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 30


def test_a_recipe_that_reports_its_heads_gradients_pretrains_as_it_is(make):
    done = posekit.pretrain(make("run", steps=1, gradient_report_every=1))
    assert done.complete
    assert "gradients" not in (done.folder / "log.jsonl").read_text(encoding="utf-8")


def test_masks_are_a_function_of_seed_and_step(make):
    model = posekit.pretrain(make("run", steps=1)).model

    def hidden(seed, step):
        with keyed_randomness(seed, step, 0, torch.device("cpu")):
            return model(torch.zeros(4, 3, 64, 64))[1]

    torch.manual_seed(7)
    first = hidden(0, 3)
    torch.rand(5)
    assert torch.equal(first, hidden(0, 3))
    assert not torch.equal(first, hidden(0, 4))
    assert not torch.equal(first, hidden(1, 3))


def test_every_sample_weighs_the_same_whatever_its_dataset(make):
    """Equal error sums over unequal datasets: the loss is the mean over all hidden patches."""
    from posekit.training.pretraining import PretrainingSet  # noqa: PLC0415

    _, scale = PretrainingSet(lambda start: iter(()), 1).objective(
        posekit.pretrain(make("run", steps=1)).model, make("run")
    )
    weights = {"blobs": torch.tensor(30.0), "rings": torch.tensor(10.0)}
    factors = scale.factors(weights, {"blobs": 3.0, "rings": 1.0})
    assert [float(f) for f in factors.values()] == pytest.approx([1 / 40, 1 / 40])


def test_a_pose_run_starts_from_it(make, tiny):
    file = posekit.pretrain(make("mae")).checkpoint
    state, description = load_checkpoint(file)
    assert description["model"]["heads"] == {}
    start = posekit.train(tiny("pose", init=str(file), steps=1), evaluate=False)
    fresh = posekit.train(tiny("fresh", steps=1), evaluate=False)
    name = "backbone.vit.blocks.1.mlp.fc1.weight"

    def distance(done):
        return float((done.model.state_dict()[name] - state[name]).abs().max())

    assert distance(start) < 0.01 < distance(fresh)


def test_a_folder_with_a_run_is_not_written_over(make):
    posekit.pretrain(make("run", steps=1))
    with pytest.raises(ConfigError, match="holds a run already"):
        posekit.pretrain(make("run", steps=1))


def test_the_command_says_how_to_go_on(make, tmp_path):
    from typer.testing import CliRunner  # noqa: PLC0415

    from posekit.cli.base import app  # noqa: PLC0415

    file = tmp_path / "recipe.yaml"
    file.write_text(make("run").to_yaml(), encoding="utf-8")
    shown = CliRunner().invoke(app, ["pretrain", str(file), "training.steps=1"])
    assert shown.exit_code == 0
    checkpoint = tmp_path / "run" / "checkpoints" / "last.safetensors"
    assert f"training.init={checkpoint}" in shown.output.replace("\n", "")
    again = CliRunner().invoke(app, ["pretrain", str(file), "training.steps=1", "--json"])
    assert "holds a run already" in str(again.exception)


def test_the_published_recipe_has_maes_constants():
    from posekit.config.recipe import load_recipe  # noqa: PLC0415

    recipe = load_recipe("mae_base_coco")
    total = recipe.training.batch_total
    assert recipe.optimizer.lr == pytest.approx(1.5e-4 * total / 256)
    assert recipe.schedule.warmup_steps == round(40 * 149_813 / total)
    assert (recipe.optimizer.betas, recipe.optimizer.weight_decay) == ((0.9, 0.95), 0.05)
    assert (recipe.pretraining.mask, recipe.augmentation.zoom) == (0.75, (0.2, 1.0))
