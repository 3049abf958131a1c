"""Further losses are divided by the samples of the whole step, however it is cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from posekit.engine.prepare_run import prepare_run
from posekit.training.events import Silent
from posekit.training.loop import Trainer, TrainingSet
from posekit.training.step import LossModule, LossScale, run_step


class FeatureSquares:
    """Twice the squared features of each sample; of the rings alone, and of everything."""

    names = ("rings.squares", ".squares")

    def step_begins(self, step):
        self.step = step

    def __call__(self, model, outputs):
        found = {".squares": 2 * outputs.features.square().sum()}
        for group in outputs.part.groups:
            if group.head == "rings":
                rows = outputs.features[group.start : group.stop]
                found["rings.squares"] = 2 * rows.square().sum()
        return found

    def without_rows(self, model, features):
        return {}

    def step_ends(self):
        self.ended = True


@pytest.fixture
def run(tiny):
    return prepare_run(tiny(batch_size=8))


def _gradients(run, module, batches, scale):
    run.model.zero_grad()
    terms = run_step(module, batches, scale, lambda loss, last: loss.backward())
    grads = [p.grad.clone() for p in run.model.backbone.parameters() if p.grad is not None]
    return terms, grads


def test_a_further_loss_is_the_mean_over_samples_and_adds_to_the_gradient(run):
    losses = run.trainer(None, None).data.losses
    module = LossModule(run.model.eval(), losses, [FeatureSquares()]).eval()
    batch = run.loader.batch(0)
    scale = LossScale("head", {"blobs": 0.0, "rings": 0.0}, {"blobs": 3, "rings": 2})
    terms, found = _gradients(run, module, [batch], scale)

    run.model.zero_grad()
    squares, everything, rings = FeatureSquares(), 0.0, 0.0
    for part in batch.parts:
        images = run.model.normalise(part.images)
        total = 2 * run.model.features(images).square().sum()
        everything = everything + total
        if part.groups[0].head == "rings":
            rings = rings + total
    (everything / 8 + rings / 4).backward()
    expected = [p.grad for p in run.model.backbone.parameters() if p.grad is not None]
    for first, second in zip(found, expected, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)
    logged = {name: float(total / weight) for name, (total, weight) in terms.items()}
    assert logged[".squares"] == pytest.approx(float(everything.detach()) / 8, rel=1e-5)
    assert set(squares.names) | {"blobs", "rings"} == set(terms)


def test_micro_batches_of_a_step_share_the_divisor_of_a_further_loss(run):
    losses = run.trainer(None, None).data.losses
    module = LossModule(run.model.eval(), losses, [FeatureSquares()]).eval()
    batch = run.loader.batch(0)
    scale = LossScale("head", {"blobs": 1.0, "rings": 1.0}, {"blobs": 3, "rings": 2})
    _, whole = _gradients(run, module, [batch], scale)
    _, parts = _gradients(run, module, [replace(batch, parts=(p,)) for p in batch.parts], scale)
    for first, second in zip(whole, parts, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_parameters_of_a_loss_are_trained_and_survive_a_resume_but_not_in_the_model(tiny, tmp_path):
    from posekit.training.losses import PointLoss  # noqa: PLC0415
    from posekit.training.run_folder import RunFolder  # noqa: PLC0415

    class Weighted(PointLoss):
        def __init__(self):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.ones(2, 2))

        def forward(self, codec, output, target, points):
            return (output.float() - target).square().flatten(2).mean(-1) * self.factor.sum()

    def trainer(folder=None):
        run = prepare_run(recipe)
        losses = {name: Weighted() for name in run.heads}
        data = TrainingSet(run.loader.batches, run.instances, losses)
        return Trainer(recipe, run.model, data, run.accelerator, Silent(), folder)

    recipe = tiny(steps=2)
    folder = RunFolder(tmp_path / "run", recipe)
    folder.start(resume=False)
    first = trainer(folder)
    first.run()
    trained = first.objective.losses["blobs"].factor
    assert (trained != 1).all()
    assert not any("factor" in name for name in first.model.state_dict())
    second = trainer()
    second.restore(folder.start(resume=True))
    assert torch.equal(second.objective.losses["blobs"].factor, trained)
