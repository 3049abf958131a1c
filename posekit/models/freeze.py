"""Switch off the training of parts of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from posekit.config.model import FreezeConfig
from posekit.errors import ConfigError, nearest
from posekit.models.pose_model import PoseModel
from posekit.models.vit import ViTBackbone


def freeze(model: PoseModel, config: FreezeConfig) -> int:
    """Freeze parts of a model; frozen modules stay in evaluation mode while the rest trains.

    Freezing adds up; `thaw` undoes it.

    Returns:
        Number of parameters that still train.

    Raises:
        ConfigError: an unknown head, or parts that the backbone does not have.
    """
    for module in _modules(model, config):
        module.requires_grad_(False)
        model.held_in_eval.append(module)
    if config.stem:
        for name, parameter in model.backbone.named_parameters():
            if model.backbone.layer_of(name) == 0:
                parameter.requires_grad_(False)
    if config.batch_norm:
        model.held_in_eval += [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    model.train(model.training)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


_MARKS = {
    "adapters": (".lora_a", ".lora_b"),
    "experts": (".mlp.experts.",),
    "attention": (".attn.", ".norm1.", ".window.", ".ls1."),
    "ffn": (".mlp.", ".norm2.", ".ls2."),
}
"""Part of a block -> what the names of its parameters hold; the first that fits counts."""


def parameter_counts(model: PoseModel) -> dict[str, tuple[int, int]]:
    """Return part -> (trainable parameters, all parameters), in the order of the model.

    The parts of a plain ViT are stem, attention, ffn, experts, adapters and the last norm; norms
    count with what they stand before. Other backbones are one part. Then come the heads.
    """
    counts: dict[str, tuple[int, int]] = {}
    for name, parameter in model.named_parameters():
        part = _part_of(model, name)
        trains, total = counts.get(part, (0, 0))
        size = parameter.numel()
        counts[part] = (trains + size * parameter.requires_grad, total + size)
    return counts


def _part_of(model: PoseModel, name: str) -> str:
    first, _, inside = name.partition(".")
    if first != "backbone":
        return f"head {inside.partition('.')[0]}" if first == "heads" else "prototype embedding"
    if not isinstance(model.backbone, ViTBackbone):
        return "backbone"
    if model.backbone.layer_of(inside) == 0:
        return "stem"
    found = [part for part, marks in _MARKS.items() if any(mark in name for mark in marks)]
    return found[0] if found else "last norm"


def thaw(model: PoseModel) -> None:
    """Let every parameter of a model train again."""
    model.requires_grad_(True)
    model.held_in_eval.clear()
    model.train(model.training)


def _modules(model: PoseModel, config: FreezeConfig) -> Iterator[nn.Module]:
    if config.backbone:
        yield model.backbone
    yield from _parts_of_blocks(model, config)
    for name in _head_names(model, config):
        yield model.heads[name]
    if config.embedding:
        if model.prototypes is None:
            raise ConfigError("freeze.embedding: the model has no prototypes; set posebh")
        yield model.prototypes.embed


def _parts_of_blocks(model: PoseModel, config: FreezeConfig) -> Iterator[nn.Module]:
    if not (config.blocks or config.attention or config.ffn):
        return
    if not isinstance(model.backbone, ViTBackbone):
        raise ConfigError(
            "freeze: blocks, attention and ffn can be frozen in plain ViTs only; set "
            "freeze.backbone for the whole backbone"
        )
    blocks: list[Any] = list(model.backbone.vit.blocks)
    if config.blocks > len(blocks):
        raise ConfigError(f"freeze.blocks is {config.blocks}, the backbone has {len(blocks)}")
    yield from blocks[: config.blocks]
    for block in blocks:
        if config.attention:
            yield from (block.attn, block.norm1)
            if block.window is not None:
                yield block.window
        if config.ffn:
            yield from (block.mlp, block.norm2)


def _head_names(model: PoseModel, config: FreezeConfig) -> tuple[str, ...]:
    if isinstance(config.heads, bool):
        return model.head_names if config.heads else ()
    for name in config.heads:
        if name not in model.heads:
            raise ConfigError(
                f"freeze.heads: the model has no head '{name}'{nearest(name, model.head_names)}"
            )
    return config.heads
