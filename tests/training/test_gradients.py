"""The heads' gradients are measured without a trace in the run, and add up to the step's."""

from __future__ import annotations

import json
import math

import pytest
import torch
from tiny import tiny_recipe

import posekit
from posekit.config.model import FreezeConfig, Phase
from posekit.config.recipe import recipe_from_dict
from posekit.engine.prepare_run import prepare_run
from posekit.errors import ConfigError
from posekit.training.gradients import (
    check_measurable,
    measure_gradients,
    measured_parameters,
)
from posekit.training.loop import check_same_run
from posekit.training.step import LossModule, LossScale, run_step

SCALE = LossScale("head", {"blobs": 1.0, "rings": 2.0}, {"blobs": 3, "rings": 2})


def with_batch_norm(tmp_path, out, **training):
    """The tiny recipe with batch norm in one head and experts in the backbone."""
    data = tiny_recipe(tmp_path / "data", tmp_path / out, batch_size=8, **training)
    data["heads"]["rings"] |= {"head": "classic_msra", "decoder": {"channels": 8, "layers": 1}}
    data["backbone"]["experts"] = {"width": 4}
    return recipe_from_dict(data)


def lines(folder):
    text = (folder / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def module_of(recipe):
    run = prepare_run(recipe)
    module = LossModule(run.model, run.trainer(None, None).data.losses)
    return run, module.train()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_measuring_changes_no_bit_of_the_run(tiny, tmp_path, accumulate):
    tiny()  # writes data and cards
    settings = {"accumulate": accumulate, "ema_decay": 0.9}
    plain = posekit.train(with_batch_norm(tmp_path, "plain", **settings), evaluate=False)
    measured = posekit.train(
        with_batch_norm(tmp_path, "measured", gradient_report_every=1, **settings), evaluate=False
    )
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, measured.model.state_dict()[name]), name
    assert any("running_mean" in name for name in plain.model.state_dict())
    assert [line["loss"] for line in lines(plain.folder) if "loss" in line] == [
        line["loss"] for line in lines(measured.folder) if "loss" in line
    ]


def test_the_log_tells_share_and_cosine_at_the_steps_asked_for(tiny):
    done = posekit.train(tiny(gradient_report_every=2), evaluate=False)
    found = {line["step"]: line["gradients"] for line in lines(done.folder) if "gradients" in line}
    assert list(found) == [2, 4]
    for report in found.values():
        assert set(report["share"]) == {"blobs", "rings"}
        assert sum(report["share"].values()) == pytest.approx(1)
        ((a, b, cosine),) = report["cosine"]
        assert {a, b} == {"blobs", "rings"}
        assert -1 <= cosine <= 1
        assert report["layer"] == 2
    silent = posekit.train(tiny("silent"), evaluate=False)
    assert not any("gradients" in line for line in lines(silent.folder))


def test_the_heads_gradients_add_up_to_the_steps(tiny, tmp_path):
    """|g|^2 of the step is the sum of |g_i|^2 and 2 |g_i| |g_j| cos over the pairs."""
    tiny()
    run, module = module_of(with_batch_norm(tmp_path, "run"))
    module.eval()  # the same drop path and batch norm in both passes
    batches = [run.loader.batch(0), run.loader.batch(1)]
    report = measure_gradients(module, batches, SCALE)
    run_step(module, batches, SCALE, lambda loss, last: loss.backward())
    layer, weights = measured_parameters(run.model)
    assert layer == report.layer == 2
    squared = sum(float(weight.grad.double().square().sum()) for weight in weights)
    expected = sum(norm**2 for norm in report.norm.values())
    for (a, b), cosine in report.cosine.items():
        expected += 2 * report.norm[a] * report.norm[b] * cosine
    assert squared == pytest.approx(expected, rel=1e-4)
    names = {id(p): name for name, p in run.model.named_parameters()}
    assert not any("experts" in names[id(weight)] for weight in weights)


def test_each_norm_is_that_of_the_heads_own_backward_pass(tiny):
    run, module = module_of(tiny(batch_size=8))
    module.eval()
    batch = run.loader.batch(0)
    report = measure_gradients(module, [batch], SCALE, factor=1024.0)
    block = run.model.backbone.vit.blocks[1]
    gradients = {}
    for head, (total, weight) in module(batch).items():
        run.model.zero_grad()
        (SCALE.weights[head] * total / weight).backward(retain_graph=True)
        gradients[head] = torch.cat([p.grad.flatten() for p in block.parameters()])
    whole = sum(float(g.norm()) for g in gradients.values())
    for head, gradient in gradients.items():
        assert report.norm[head] == pytest.approx(float(gradient.norm()), rel=1e-4)
        assert report.share[head] == pytest.approx(float(gradient.norm()) / whole, rel=1e-4)
    cosine = torch.cosine_similarity(gradients["blobs"], gradients["rings"], dim=0)
    assert report.cosine["blobs", "rings"] == pytest.approx(float(cosine), abs=1e-5)


def test_a_head_that_moves_nothing_has_no_cosine(tiny):
    run, module = module_of(tiny(batch_size=8))
    scale = LossScale("head", {"blobs": 0.0, "rings": 1.0}, SCALE.keypoints)
    report = measure_gradients(module, [run.loader.batch(0)], scale)
    assert report.share == {"blobs": 0.0, "rings": 1.0}
    assert math.isnan(report.cosine["blobs", "rings"])
    assert report.to_dict()["cosine"] == [["blobs", "rings", None]]


def test_a_frozen_backbone_is_one_sentence(tiny):
    recipe = tiny(gradient_report_every=1)
    frozen = recipe.model_copy(
        update={"freeze": recipe.freeze.model_copy(update={"backbone": True})}
    )
    with pytest.raises(ConfigError, match=r"gradient_report_every: the backbone is frozen"):
        posekit.train(frozen, evaluate=False)


def test_a_phase_that_rests_the_backbone_is_not_measured(tiny):
    recipe = tiny(gradient_report_every=1)
    phase = Phase(start=2, freeze=FreezeConfig(backbone=True))
    done = posekit.train(recipe.model_copy(update={"phases": (phase,)}), evaluate=False)
    assert [line["step"] for line in lines(done.folder) if "gradients" in line] == [1, 2]


class Counting:
    """A loss beside the heads' own that keeps a state."""

    names = (".counting",)

    def __init__(self):
        self.calls = 0

    def step_begins(self, step):
        pass

    def without_rows(self, model, features):
        return {}

    def step_ends(self):
        pass

    def __call__(self, model, outputs):
        self.calls += 1
        return {".counting": outputs.features.square().sum()}


def test_losses_beside_the_heads_own_are_left_alone(tiny):
    run, module = module_of(tiny(batch_size=8))
    module.eval()
    plain = measure_gradients(module, [run.loader.batch(0)], SCALE)
    counting = Counting()
    module.extras = (counting,)
    again = measure_gradients(module, [run.loader.batch(0)], SCALE)
    assert again == plain
    assert counting.calls == 0
    assert module.extras == (counting,)


def test_a_run_without_heads_is_one_sentence():
    with pytest.raises(ConfigError, match="trains no heads that could be compared"):
        check_measurable(torch.nn.Linear(1, 1))


def test_a_run_may_be_resumed_with_and_without_measuring(tiny):
    state = {"step": 2, "world_size": 1, "model": {}, "ema": None, "optimizer": {}, "best": {}}
    state["recipe"] = tiny().model_dump(mode="json")
    del state["recipe"]["training"]["gradient_report_every"]  # as an older version saved it
    check_same_run(state, tiny(gradient_report_every=5), 1, "state")
