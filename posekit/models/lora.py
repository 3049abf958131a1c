"""Low-rank adapters on a ViT's linear layers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from posekit.config.model import LoraConfig
from posekit.errors import ConfigError
from posekit.models.base import Backbone
from posekit.models.vit import ViTBackbone

_LAYERS = {"attention": (".attn.",), "ffn": (".mlp.",)}


class LoraLinear(nn.Linear):
    """A linear layer with a trainable product of two thin matrices beside its frozen weight.

    Initially a no-op: B is zero.

    Source: Hu et al., LoRA (ICLR 2022), section 4.1.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float):
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        placed: Any = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(torch.empty(rank, linear.in_features, **placed))
        self.lora_b = nn.Parameter(torch.zeros(linear.out_features, rank, **placed))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the layer's output with the adapter's added."""
        low = nn.functional.linear(nn.functional.linear(inputs, self.lora_a), self.lora_b)
        return super().forward(inputs) + self.scale * low

    def merged(self) -> Tensor:
        """Return the weight with the adapter added into it."""
        return (self.weight + self.scale * self.lora_b @ self.lora_a).detach()


def add_adapters(backbone: Backbone, config: LoraConfig) -> None:
    """Put adapters on a backbone's linear layers and freeze everything else in it.

    Raises:
        ConfigError: the backbone is no plain ViT.
    """
    if not isinstance(backbone, ViTBackbone):
        raise ConfigError(
            "backbone: lora is for plain ViTs; take another backbone, or leave it out"
        )
    backbone.requires_grad_(False)
    marks = tuple(mark for target in config.targets for mark in _LAYERS[target])
    chosen = [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and any(mark in name for mark in marks)
    ]
    for name in chosen:
        parent, _, child = name.rpartition(".")
        linear = backbone.get_submodule(name)
        assert isinstance(linear, nn.Linear)  # noqa: S101 - chosen as such above
        backbone.get_submodule(parent).register_module(
            child, LoraLinear(linear, config.rank, config.alpha)
        )


def is_adapter(name: str) -> bool:
    """Return whether a parameter's name is an adapter's."""
    return name.rpartition(".")[2] in ("lora_a", "lora_b")
