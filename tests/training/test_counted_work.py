"""StepCost is counted, not timed: rows of heads and experts, calls, heatmaps, recompilations."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from posekit.codecs.heatmap import GaussianCodec
from posekit.config.recipe import Sampling
from posekit.data.batch import Batch, Group, Part
from posekit.data.sampler import MixedSampler, Source
from posekit.models import HeadSpec, PoseModel, build_model
from posekit.models.experts import ExpertMlp
from posekit.schema import KeypointSchema
from posekit.training.compiled import compile_parts
from posekit.training.losses import build_loss
from posekit.training.step import LossModule, LossScale, run_step
from posekit.training.utilisation import StepCost, measure_step_cost

_HEADS = {"people": 3, "faces": 5, "mice": 2}
_WEIGHTS = {"people": 1.0, "faces": 0.5, "mice": 2.0}
_SIZE = (32, 32)


def joint_model(**backbone: object) -> PoseModel:
    torch.manual_seed(0)
    specs = {
        name: HeadSpec(
            KeypointSchema(name, tuple(f"p{i}" for i in range(count))),
            {"kind": "classic", "channels": 8},
            {"kind": "udp"},
            _SIZE,
        )
        for name, count in _HEADS.items()
    }
    sizes = {"name": "vit", "embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 16}
    return build_model({**sizes, "experts": {}, **backbone}, specs)


def joint_batch(quotas: dict[str, int], dtype: torch.dtype = torch.float32) -> Batch:
    quotas = {name: n for name, n in quotas.items() if n}
    generator = torch.Generator().manual_seed(sum(quotas.values()))
    edges = [0, *np.cumsum(list(quotas.values())).tolist()]
    groups = []
    for (name, n), (start, stop) in zip(quotas.items(), pairwise(edges), strict=True):
        points = torch.rand(n, _HEADS[name], 2, generator=generator) * 31
        seen = torch.randint(0, 3, (n, _HEADS[name]), generator=generator).byte()
        some = torch.zeros(n, 2)
        groups.append(
            Group(name, start, stop, points, seen, some[:, 0], some, some, some[:, 0], some > 0)
        )
    images = torch.randint(0, 256, (edges[-1], *_SIZE, 3), generator=generator).byte()
    return Batch(0, (Part(images, tuple(groups)),))


def step_of(model: PoseModel, batch: Batch) -> Tensor:
    """Run posekit's step; gives the loss, gradients stay in the model."""
    losses = {n: build_loss({"kind": "mse"}, model.head(n).codec, n) for n in _HEADS}
    scale = LossScale("head", _WEIGHTS, _HEADS)
    total = []

    def backward(loss: Tensor, _: bool) -> None:
        total.append(loss.detach())
        loss.backward()

    run_step(LossModule(model, losses), [batch], scale, backward)
    return total[0]


class Everywhere:
    """The official step's way: every expert and every head on every row, masks pick what counts."""

    def __init__(self, model: PoseModel, batch: Batch):
        self.model, [self.part] = model, batch.parts
        groups = self.part.groups
        self.source = torch.cat([torch.full((len(g),), i) for i, g in enumerate(groups)])

    def ffn(self, mlp: ExpertMlp, tokens: Tensor) -> Tensor:
        hidden = nn.functional.gelu(mlp.fc1(tokens))
        own: Tensor = torch.zeros(())
        for number, expert in enumerate(mlp.experts):
            own = own + expert(hidden) * (self.source == number)[:, None, None]
        return torch.cat([mlp.fc2(hidden), own], -1)

    def attention(self, attn: nn.Module, tokens: Tensor) -> Tensor:
        rows, count, width = tokens.shape
        heads = attn.num_heads
        q, k, v = attn.qkv(tokens).reshape(rows, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
        shares = (q @ k.transpose(-1, -2) * (width // heads) ** -0.5).softmax(-1)
        return attn.proj((shares @ v).transpose(1, 2).reshape(rows, count, width))

    def loss(self) -> Tensor:
        model, total = self.model, torch.zeros((), dtype=torch.float64)
        tokens, grid = model.backbone.embed(model.normalise(self.part.images))
        for block in model.backbone.vit.blocks:
            tokens = tokens + self.attention(block.attn, block.norm1(tokens))
            tokens = tokens + self.ffn(block.mlp, block.norm2(tokens))
        tokens = model.backbone.vit.norm(tokens)
        features = tokens.transpose(1, 2).unflatten(2, grid)
        for number, group in enumerate(self.part.groups):
            maps = model.head(group.head)(features)
            mine = self.source == number
            targets = torch.zeros(maps.shape)
            weights = torch.zeros(maps.shape[:2])
            labelled = (group.visibility > 0).float()
            targets[mine], weights[mine] = model.head(group.head).codec.encode(
                group.points, labelled
            )
            error = (maps - targets).square().mean((2, 3)) * weights
            total = total + _WEIGHTS[group.head] * error.sum() / weights.sum()
        return total


def test_the_grouped_step_equals_the_everything_everywhere_step():
    """In float64, batch norm in evaluation mode (in training mode each head sees its own rows)."""
    batch = joint_batch({"people": 3, "faces": 1, "mice": 2})
    grouped, everywhere = joint_model().double().eval(), joint_model().double().eval()
    for model in (grouped, everywhere):
        generator = torch.Generator().manual_seed(5)
        for parameter in model.parameters():
            parameter.data.add_(torch.randn(parameter.shape, generator=generator).double() * 0.1)
    found = step_of(grouped, batch)
    expected = Everywhere(everywhere, batch).loss()
    expected.backward()
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=0, check_dtype=False)
    for (name, ours), theirs in zip(
        grouped.named_parameters(), everywhere.parameters(), strict=True
    ):
        assert theirs.grad.abs().max() > 1e-9, name
        # the loss is taken in float32 in training, which is all the difference there is
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7, msg=name)


def test_heads_and_experts_compute_their_own_rows_in_one_backbone_pass():
    model, rows, calls = joint_model(), Counter(), Counter()
    for name in _HEADS:
        model.head(name).decoder.register_forward_hook(
            lambda _, given, __, name=name: rows.update({name: len(given[0])})
        )
    for block in model.backbone.vit.blocks:
        for number, expert in enumerate(block.mlp.experts):
            expert.register_forward_hook(
                lambda _, given, __, number=number: rows.update({number: len(given[0])})
            )
    model.backbone.register_forward_hook(lambda *_: calls.update(["backbone"]))
    step_of(model.train(), joint_batch({"people": 4, "faces": 3, "mice": 1}))
    depth = len(model.backbone.vit.blocks)
    assert rows == {"people": 4, "faces": 3, "mice": 1, 0: 4 * depth, 1: 3 * depth, 2: depth}
    assert calls == {"backbone": 1}


def test_each_labelled_group_draws_its_heatmaps_once(monkeypatch):
    drawn: list[int] = []
    encode = GaussianCodec.encode
    monkeypatch.setattr(
        GaussianCodec, "encode", lambda self, p, w: (drawn.append(len(p)), encode(self, p, w))[1]
    )
    step_of(joint_model().train(), joint_batch({"people": 4, "faces": 3, "mice": 1}))
    assert drawn == [4, 3, 1]


def quotas_over(steps: int) -> list[dict[str, int]]:
    sources = [Source(n, n, np.arange(size)) for n, size in zip(_HEADS, (70, 21, 9), strict=True)]
    sampler = MixedSampler(sources, Sampling(strategy="proportional"), 6)
    return [sampler.quotas(step) for step in range(steps)]


def test_there_are_at_most_as_many_batch_shapes_as_heads():
    shapes = {tuple(quotas.values()) for quotas in quotas_over(300)}
    assert 1 < len(shapes) <= len(_HEADS)


def test_a_compiled_model_does_not_recompile_when_quotas_alternate():
    torch._dynamo.reset()
    counter = CompileCounter()
    model = joint_model().train()
    assert compile_parts(model, backend=counter) == 2 + len(_HEADS)
    quotas = quotas_over(20)
    shapes = {tuple(one.values()) for one in quotas}
    for one in [q for i, q in enumerate(quotas) if q not in quotas[:i]]:
        step_of(model, joint_batch(one))
    first = counter.frame_count
    assert first <= len(shapes) * (1 + len(_HEADS))
    for one in quotas[:8]:
        step_of(model, joint_batch(one))
    assert counter.frame_count == first


def test_compiled_parts_give_the_same_numbers():
    torch._dynamo.reset()
    plain, compiled = joint_model(), joint_model()
    compile_parts(compiled, backend="eager")
    batch = joint_batch({"people": 2, "faces": 2, "mice": 2})
    torch.testing.assert_close(step_of(plain, batch), step_of(compiled, batch))
    assert list(plain.state_dict()) == list(compiled.state_dict())


def test_counted_operations_are_those_of_the_layers():
    model = joint_model(experts=None, depth=1)
    work = measure_step_cost(model, torch.device("cpu"), "fp32")
    tokens, width = 4, 16
    macs = tokens * 3 * 16 * 16 * width  # stem
    macs += tokens * (4 + 8) * width**2 + 2 * tokens**2 * width  # projections, FFN, attention
    assert work.backbone["people"] == pytest.approx(3 * 2 * macs)
    transposed = 16 * (4 * width * 8 + 16 * 8 * 8)  # each input pixel meets the 4x4 kernel
    last = 8 * 8 * 8 * _HEADS["faces"]
    assert work.heads["faces"] == pytest.approx(3 * 2 * (transposed + last))
    assert work.speed > 0
    assert model.training


def test_frozen_parts_and_cached_maps_cost_less():
    model = joint_model()
    model.backbone.requires_grad_(False)
    trained = measure_step_cost(joint_model(), torch.device("cpu"), "fp32")
    frozen = measure_step_cost(model, torch.device("cpu"), "fp32")
    assert frozen.backbone["mice"] * 3 == trained.backbone["mice"]
    work = StepCost({"a": 10.0}, {"a": 1.0}, 1.0)
    part = SimpleNamespace(groups=[_Rows("a", 3)], is_cached=False)
    cached = SimpleNamespace(groups=[_Rows("a", 3)], is_cached=True)
    assert work.of([SimpleNamespace(parts=[part, cached])]) == 3 * 11 + 3 * 1


class _Rows:
    def __init__(self, head: str, rows: int):
        self.head, self.rows = head, rows

    def __len__(self) -> int:
        return self.rows
