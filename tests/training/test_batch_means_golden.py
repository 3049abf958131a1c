"""`loss_scale: batch` gives ViTPose+'s own losses and gradients, by way of the training step."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from posekit.data.batch import Batch, Group, Part
from posekit.models import HeadSpec
from posekit.models.convert import convert
from posekit.schema import KeypointSchema
from posekit.training.losses import MapLoss, mse
from posekit.training.step import LossModule, LossScale, run_step

COUNTS = (17, 14, 21)


class GivenTargets:
    """A codec whose points are numbers of the golden file's samples."""

    channels_per_keypoint = 1

    def __init__(self, targets, weights):
        self.targets, self.weights = targets, weights

    def encode(self, points, labelled):
        rows = points[:, 0, 0].long()
        return self.targets[rows], self.weights[rows]


def _group(head, rows, start, keypoints):
    count = len(rows)
    points = torch.tensor(rows).float()[:, None, None].expand(-1, keypoints, 2)
    none = torch.zeros(count)
    visible = torch.full((count, keypoints), 2, dtype=torch.uint8)
    return Group(head, start, start + count, points, visible, none, none, none, none, none.bool())


@pytest.mark.shared
def test_losses_and_gradients_of_a_step_equal_the_reference(reference):
    folder = reference / "models"
    arrays = np.load(folder / "model_parity.npz")
    golden = json.loads((folder / "model_parity.json").read_text())["moe"]["loss_eval"]
    dataset = arrays["moe_dataset_idx"].tolist()
    order = sorted(range(len(dataset)), key=lambda row: dataset[row])
    specs = {
        f"set{i}": HeadSpec(
            KeypointSchema("points", tuple(f"point_{k}" for k in range(count))),
            {"kind": "classic", "channels": 24},
            {"kind": "msra"},
            (64, 48),
        )
        for i, count in enumerate(COUNTS)
    }
    model = convert(folder / "vitpose_plus_tiny.pth", specs, num_heads=4)[0]
    golden_input = torch.from_numpy(arrays["x"][order])
    model.normalise = lambda images: golden_input  # it is normalised already
    groups, start = [], 0
    for i, count in enumerate(COUNTS):
        rows = [row for row in order if dataset[row] == i]
        target = torch.from_numpy(arrays["moe_target"][:, :count])
        # The official code weighs maps before they are squared, posekit the squares: alike for
        # weights of 0 and 1, which is all that annotations give; the golden file has a 0.5.
        weight = torch.from_numpy(arrays["moe_target_weight"][:, :count, 0]).square()
        model.head(f"set{i}").codec = GivenTargets(target, weight)
        groups.append(_group(f"set{i}", rows, start, count))
        start += len(rows)
    pixels = torch.zeros(len(order), 64, 48, 3, dtype=torch.uint8)
    batch = Batch(0, (Part(pixels, tuple(groups)),))
    module = LossModule(model, {name: MapLoss(mse, 1.0) for name in specs}).eval()
    counts = dict(zip(specs, COUNTS, strict=True))
    scale = LossScale("batch", dict.fromkeys(specs, 1.0), counts)
    total = []

    def backward(loss, last):
        total.append(float(loss))
        loss.backward()

    terms = run_step(module, [batch], scale, backward)
    losses = [float(terms[head][0]) / (len(dataset) * counts[head]) for head in specs]
    assert losses == pytest.approx(golden["per_head"], rel=1e-5)
    assert total[0] == pytest.approx(golden["total"], rel=1e-5)
    norms = {_official(name): p.grad.norm().item() for name, p in model.named_parameters()}
    assert norms == pytest.approx(golden["grad_norm_per_parameter"], rel=1e-5)


def _official(name):
    name = name.replace("backbone.vit.norm.", "backbone.last_norm.").replace(".vit.", ".")
    name = name.replace("heads.set0.decoder.", "keypoint_head.")
    for i in (1, 2):
        name = name.replace(f"heads.set{i}.decoder.", f"associate_keypoint_heads.{i - 1}.")
    return name
