"""The joint training step of six heads: posekit's, and a stand-in for the official ViTPose+ step.

The stand-in has the same parameters and does what the official code does where posekit does not:
every expert and every head computes on every sample, and a mask picks the rows that count; its
attention is the plain product of matrices; AdamW goes parameter by parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from posekit.data.batch import Batch, Group, Part
from posekit.models import HeadSpec, PoseModel, build_model
from posekit.models.experts import ExpertMlp
from posekit.schema import KeypointSchema
from posekit.training.losses import build_loss
from posekit.training.step import LossModule, LossScale, run_step

HEADS = {"coco": 17, "aic": 14, "mpii": 16, "ap10k": 17, "apt36k": 17, "wholebody": 133}
SIZE = (256, 192)


def schema(count: int) -> KeypointSchema:
    """Return a schema of `count` keypoints."""
    return KeypointSchema("points", tuple(f"p{i}" for i in range(count)))


def joint_model(backbone: str) -> PoseModel:
    """Build a backbone with six experts and six classic heads; random weights from a seed."""
    torch.manual_seed(0)
    decoder, codec = {"kind": "classic"}, {"kind": "udp"}
    specs = {name: HeadSpec(schema(k), decoder, codec, SIZE) for name, k in HEADS.items()}
    return build_model({"name": backbone, "experts": {}}, specs).train()


def joint_batch(size: int) -> Batch:
    """Draw a micro-batch with about as many samples of each head."""
    generator = torch.Generator().manual_seed(1)
    edges = [size * i // len(HEADS) for i in range(len(HEADS) + 1)]
    groups = []
    for (name, count), (start, stop) in zip(HEADS.items(), pairwise(edges), strict=True):
        n = stop - start
        points = torch.rand(n, count, 2, generator=generator) * torch.tensor(SIZE[::-1])
        zeros = torch.zeros(n)
        groups.append(
            Group(
                head=name,
                start=start,
                stop=stop,
                points=points,
                visibility=torch.full((n, count), 2, dtype=torch.uint8),
                rows=torch.arange(n),
                center=torch.zeros(n, 2),
                size=torch.ones(n, 2),
                rotation=zeros,
                flipped=zeros.bool(),
            )
        )
    images = torch.randint(0, 256, (size, *SIZE, 3), dtype=torch.uint8, generator=generator)
    return Batch(0, (Part(images, tuple(groups)),))


def posekit_step(
    model: PoseModel, batch: Batch, bf16: bool, *, optimize: bool = True
) -> Callable[[], None]:
    """Return posekit's step: forward, backward and, unless told not to, fused AdamW."""
    losses = {name: build_loss({"kind": "mse"}, model.head(name).codec, name) for name in HEADS}
    module = LossModule(model, losses)
    scale = LossScale("batch", dict.fromkeys(HEADS, 1.0), dict(HEADS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    set_attention(model, fused=not bf16)  # as the training loop chooses on CPUs

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            run_step(module, [batch], scale, lambda loss, _: loss.backward())
        if optimize:
            optimizer.step()
        optimizer.zero_grad()

    return step


def stand_in_step(
    model: PoseModel, batch: Batch, bf16: bool, *, optimize: bool = True
) -> Callable[[], None]:
    """Return the stand-in's step on the same kind of model; its modules are changed for it."""
    set_attention(model, fused=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, foreach=False)
    [part] = batch.parts
    source = torch.cat([torch.full((len(g),), i) for i, g in enumerate(part.groups)])
    for module in model.modules():
        if isinstance(module, ExpertMlp):
            module.forward = _everywhere(module, source)  # type: ignore[method-assign]

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            features = model.backbone(model.normalise(part.images), _one_route(part))
            total = torch.zeros(())
            for number, group in enumerate(part.groups):
                maps = model.head(group.head)(features).float()
                total = total + _masked_error(model, group, maps, source == number)
        total.backward()
        if optimize:
            optimizer.step()
        optimizer.zero_grad()

    return step


def set_attention(model: nn.Module, *, fused: bool) -> None:
    """Choose between torch's fused attention and the plain product."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused


def _one_route(part: Part) -> tuple[tuple[int, int, int], ...]:
    return ((0, 0, len(part.images)),)


def _everywhere(mlp: ExpertMlp, source: Tensor) -> Callable[..., Tensor]:
    def forward(tokens: Tensor, routes: object = None) -> Tensor:
        hidden = mlp.act(mlp.fc1(tokens))
        shared = mlp.fc2(hidden)
        own = torch.zeros_like(shared[..., :1])
        for number, expert in enumerate(mlp.experts):
            own = own + expert(hidden) * (source == number)[:, None, None]
        return torch.cat([shared, own.to(shared.dtype)], dim=-1)

    return forward


def _masked_error(model: PoseModel, group: Group, maps: Tensor, mine: Tensor) -> Tensor:
    target, weights = model.head(group.head).codec.encode(
        group.points, torch.ones(group.points.shape[:2])
    )
    wanted = torch.zeros_like(maps)
    wanted[mine] = target
    weight = torch.zeros(maps.shape[:2])
    weight[mine] = weights
    return ((maps - wanted).square().mean((2, 3)) * weight).mean()
