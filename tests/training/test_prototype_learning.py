"""PoseBH's losses in their intended form: the head's own indices, both axes, both decodings."""

from __future__ import annotations

import math
import signal

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import posekit
from posekit.config.prototypes import PosebhConfig
from posekit.config.recipe import recipe_from_dict
from posekit.engine.prepare_run import prepare_run
from posekit.errors import ConfigError
from posekit.models import load_model
from posekit.training.events import Silent
from posekit.training.prototypes import (
    KeypointPixels,
    PrototypeLearning,
    assign,
    directions,
    keypoint_pixels,
    pixel_losses,
    running_statistics,
)
from posekit.training.step import LossModule, LossScale, run_step

SPACE = {"per_keypoint": 2, "width": 8, "channels": 12, "layers": 1}
STRONG = {"contrast": 0.1, "distance": 0.1, "map_loss": 1.0, "momentum": 0.9}


@pytest.fixture
def posebh(tiny):
    """Give a recipe whose two heads share prototypes and an input size."""

    def make(out="run", settings=None, phases=(), **training):
        data = tiny(out, **training).model_dump(mode="json")
        data["heads"]["rings"]["input_size"] = [32, 32]
        data["posebh"] = {**SPACE, **STRONG, **(settings or {})}
        data["phases"] = list(phases)
        return recipe_from_dict(data)

    return make


def _unit(*shape, seed=0):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_keypoint_pixels_are_those_above_the_threshold_with_their_likeliest_keypoint():
    target = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    target[target < 0.8] = 0
    embedded = _unit(2, 4, 5, 8).permute(0, 3, 1, 2)
    found = keypoint_pixels(embedded, target, 0.85, 1000)
    expected = [
        (int(target[n, :, y, x].argmax()), float(target[n, :, y, x].max()), embedded[n, :, y, x])
        for n in range(2)
        for y in range(4)
        for x in range(5)
        if target[n, :, y, x].max() > 0.85
    ]
    assert found.keypoint.tolist() == [keypoint for keypoint, _, _ in expected]
    assert found.target.tolist() == pytest.approx([value for _, value, _ in expected])
    assert torch.equal(found.embedded, torch.stack([vector for _, _, vector in expected]))
    assert len(keypoint_pixels(embedded, target, 0.85, 4).keypoint) == 4


def test_assignment_is_sinkhorns_of_each_keypoint_alone():
    config = PosebhConfig(temperature=0.05, iterations=3)
    prototypes = _unit(4, 3, 8, seed=1)
    vectors = _unit(60, 8, seed=2)
    keypoint = torch.randint(0, 4, (60,), generator=torch.Generator().manual_seed(3))
    cosines = torch.einsum("pd,kmd->pkm", vectors, prototypes)
    found = assign(cosines, keypoint, config)
    for k in range(4):
        mine = (keypoint == k).numpy()
        share = np.exp(np.abs(vectors.numpy()[mine] @ prototypes[k].numpy().T) / 0.05)
        for _ in range(3):
            share /= share.sum(0, keepdims=True)
            share /= share.sum(1, keepdims=True)
        assert found.numpy()[mine].tolist() == share.argmax(1).tolist()


def test_sinkhorn_leaves_no_prototype_without_pixels():
    """Nearest-prototype assignment would give every pixel to the first one here."""
    prototypes = normalize(torch.tensor([[[1.0, 0.05], [1.0, -1.0]]]), dim=-1)
    angles = torch.linspace(-0.2, 0.2, 40)
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    cosines = torch.einsum("pd,kmd->pkm", vectors, prototypes)
    assert set(cosines[:, 0].argmax(1).tolist()) == {0}
    chosen = assign(cosines, torch.zeros(40, dtype=torch.long), PosebhConfig())
    assert 10 < int(chosen.sum()) < 30


def test_losses_equal_a_loop_over_pixels():
    cosines = torch.rand(7, 4, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    keypoint, chosen = torch.tensor([0, 1, 2, 3, 3, 0, 1]), torch.tensor([0, 2, 1, 0, 2, 2, 1])
    contrast, distance = pixel_losses(cosines, keypoint, chosen)
    entropies, squares = [], []
    for p in range(7):
        logits = [abs(float(c)) for c in cosines[p].reshape(-1)]
        own = abs(float(cosines[p, keypoint[p], chosen[p]]))
        entropies.append(math.log(sum(math.exp(v) for v in logits)) - own)
        squares.append((1 - own) ** 2)
    assert float(contrast) == pytest.approx(sum(entropies) / 7, rel=1e-5)
    assert float(distance) == pytest.approx(sum(squares) / 7, rel=1e-5)


def test_directions_take_right_pixels_only_turn_opposite_ones_and_weigh_by_squared_target():
    prototypes = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]])
    vectors = normalize(
        torch.tensor([[1.0, 0.1, 0], [-1.0, 0.1, 0.2], [0.1, 1.0, 0], [1.0, 0, 0]]), dim=1
    )
    keypoint = torch.tensor([0, 0, 0, 1])  # the last two lie nearer the other keypoint
    target = torch.tensor([1.0, 0.5, 1.0, 1.0])
    cosines = torch.einsum("pd,kmd->pkm", vectors, prototypes)
    found = directions(KeypointPixels(vectors, keypoint, target), cosines, torch.zeros(4).long())
    torch.testing.assert_close(found[0, 0], vectors[0] - 0.25 * vectors[1])
    assert float(found[1].abs().sum()) == 0


def _learning(run):
    losses = run.trainer(None, None).data.losses
    return PrototypeLearning(run.model, run.recipe.posebh, losses, 1.0), losses


def _peaks(size, places, heights):
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    maps = [
        height * torch.exp(-((x - px) ** 2 + (y - py) ** 2) / 8)
        for (px, py), height in zip(places, heights, strict=True)
    ]
    return torch.stack(maps)[None]


def test_pseudo_points_average_both_decodings_by_height_where_both_axes_agree(posebh):
    run = prepare_run(posebh())
    learning, _ = _learning(run)
    head = run.model.head("rings")
    head.codec.__dict__["activation"] = "none"
    size, stride = head.codec.heatmap_size, 4
    places = [(3.0, 3.0), (3.0, 3.0)]
    output = _peaks(size, places, [0.9, 0.9])
    points, weights = learning.pseudo_points(head, output, _peaks(size, places, [0.3, 0.9]))
    assert weights[0].tolist() == pytest.approx([0.3, 0.9], abs=1e-5)
    torch.testing.assert_close(points[0, 0] / stride, torch.tensor([3.0, 3.0]), atol=0.3, rtol=0)
    # apart in y alone: the released code would compare x with x and y
    apart = _peaks(size, [(3.0, 6.0), (3.0, 4.0)], [0.9, 0.3])
    points, weights = learning.pseudo_points(head, output, apart)
    assert float(weights[0, 0]) == 0
    assert float(weights[0, 1]) > 0
    one, other = (head.codec.decode(maps)[0][0, 1] for maps in (output, apart))
    torch.testing.assert_close(points[0, 1], (0.9 * one + 0.3 * other) / 1.2)
    # a low peak is not trusted
    _, weights = learning.pseudo_points(head, output, _peaks(size, places, [0.2, 0.2]))
    assert float(weights.sum()) == 0


def test_every_heads_pixels_are_pulled_to_its_own_prototypes(posebh):
    run = prepare_run(posebh(batch_size=8))
    learning, losses = _learning(run)
    module = LossModule(run.model, losses, [learning])
    before = {name: run.model.prototypes.of(name) for name in run.model.head_names}
    learning.step_begins(0)
    module(run.loader.batch(0))
    assert {name: tuple(t.shape) for name, t in learning._moved.items()} == {
        "blobs": (3, 2, 8),
        "rings": (2, 2, 8),
    }
    assert all(float(moved.abs().sum()) > 0 for moved in learning._moved.values())
    learning.step_ends()
    for name, old in before.items():
        assert not torch.equal(run.model.prototypes.of(name), old)


def test_self_supervision_is_a_mean_over_all_samples_and_reaches_every_head(posebh):
    recipe = posebh(settings={"self_from": 0, "self_supervision": 1.0, "min_score": 0.0,
                              "max_distance": 1e9})  # fmt: skip
    run = prepare_run(recipe)
    learning, losses = _learning(run)
    module = LossModule(run.model, losses, [learning]).train()
    batch = run.loader.batch(0)
    learning.step_begins(0)
    terms = module(batch)
    assert float(terms[".self_supervision"][0].detach()) > 0
    assert float(terms[".self_supervision"][1]) == len(batch)
    run.model.zero_grad()
    terms[".self_supervision"][0].backward()
    for name in run.model.head_names:
        assert any(p.grad is not None for p in run.model.head(name).parameters())
    learning.config = learning.config.model_copy(update={"self_from": None})
    learning.step_begins(0)
    assert ".self_supervision" not in module(batch)


def test_accumulated_micro_batches_move_prototypes_as_one(posebh):
    run = prepare_run(posebh(batch_size=8))
    learning, losses = _learning(run)
    module = LossModule(run.model.eval(), losses, [learning]).eval()
    scale = LossScale("head", {"blobs": 1.0, "rings": 1.0}, {"blobs": 3, "rings": 2})
    batches = [run.loader.batch(0), run.loader.batch(1)]
    alone = []
    for batch in batches:
        learning.step_begins(0)
        module(batch)
        alone.append(learning._moved["blobs"])
    learning.step_begins(0)
    run_step(module, batches, scale, lambda loss, last: loss.backward())
    torch.testing.assert_close(learning._moved["blobs"], alone[0] + alone[1])


PHASES = [
    {"start": 0, "freeze": {"backbone": True, "heads": True}},
    {"start": 2, "freeze": {"backbone": True}},
    {"start": 4},
]


def test_phases_freeze_exactly_what_they_name_when_they_name_it(posebh):
    recipe = posebh(settings={"update_until": 2, "self_from": 2}, phases=PHASES, steps=6)
    run = prepare_run(recipe)
    trainer = run.trainer(None, None)
    changed = []
    for number in range(6):
        before = {n: t.clone() for n, t in run.model.state_dict().items()}
        trainer.train_step([run.loader.batch(number)])
        after = run.model.state_dict()
        names = {n for n in before if not torch.equal(before[n], after[n])}
        kinds = {"backbone", "heads", "prototypes.embed", "prototypes.vectors"}
        changed.append({k for k in kinds if any(n.startswith(k) for n in names)})
    first = {"prototypes.embed", "prototypes.vectors"}
    second = {"heads", "prototypes.embed"}
    assert changed == [first, first, second, second, *[second | {"backbone"}] * 2]


@pytest.mark.parametrize("stop", [2, 3])
def test_a_run_that_stops_at_a_phase_resumes_bit_for_bit(posebh, stop):
    settings = {"update_until": 3, "self_from": 2, "min_score": 0.0, "max_distance": 99.0}
    more = {"settings": settings, "phases": PHASES, "steps": 6, "ema_decay": 0.9}
    whole = posekit.train(posebh("whole", **more), evaluate=False)

    class Stop(Silent):
        def logged(self, log):
            if log.step == stop:
                signal.raise_signal(signal.SIGTERM)

    parted = posebh("parted", **more)
    assert posekit.train(parted, evaluate=False, listener=Stop()).step == stop
    resumed = posekit.train(parted, evaluate=False, resume=True)
    before, after = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    saved = load_model(resumed.folder / "checkpoints" / "last.safetensors")
    assert torch.equal(saved.prototypes.of("rings"), resumed.model.prototypes.of("rings"))


def test_freezing_an_embedding_that_there_is_not_is_one_sentence(tiny):
    data = tiny().model_dump(mode="json")
    data["freeze"]["embedding"] = True
    with pytest.raises(ConfigError, match=r"freeze\.embedding: the model has no prototypes"):
        posekit.train(recipe_from_dict(data), evaluate=False)


def test_foreign_samples_use_a_heads_running_statistics_and_leave_them():
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3)).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    images = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    with running_statistics(module):
        found = module(images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    torch.testing.assert_close(found, module[0](images) / math.sqrt(1 + 1e-5))
    assert module[1].training
