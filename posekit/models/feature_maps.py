"""Any other timm model as a backbone: the feature map of one of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from posekit.errors import ConfigError
from posekit.models.base import Backbone
from posekit.models.experts import Routes


class FeatureMapBackbone(Backbone):
    """One stage's map of a timm model; stages after it are cut off.

    Args:
        net: a timm model with `forward_intermediates`.
        stage: which of its feature maps.
        use_norm: apply the model's last norm to the map.
    """

    def __init__(self, net: nn.Module, stage: int, use_norm: bool):
        super().__init__()
        self.net, self.stage, self.use_norm = net, stage, use_norm
        info = _stages(net)[stage]
        self.channels, self.stride = int(info["num_chs"]), int(info["reduction"])
        matcher: Any = net.group_matcher
        self._layers: dict[str, int] = group_parameters(net, matcher(coarse=False), reverse=True)
        self.num_layers = max(self._layers.values(), default=0)
        self._sizes: dict[tuple[int, int], tuple[int, int]] = {}

    def map_size(self, input_size: tuple[int, int]) -> tuple[int, int]:
        """Return the (height, width) of the map, found by running an empty image once."""
        size = (int(input_size[0]), int(input_size[1]))
        if size not in self._sizes:
            like = next(self.net.parameters())
            training = self.net.training
            self.net.eval()
            with torch.no_grad():
                found = self(torch.zeros(1, 3, *size, device=like.device, dtype=like.dtype))
            self.net.train(training)
            self._sizes[size] = (found.shape[2], found.shape[3])
        return self._sizes[size]

    def layer_of(self, name: str) -> int:
        """Return a parameter's layer as timm groups them: 0 stem, then block by block."""
        return self._layers.get(name.removeprefix("net."), self.num_layers)

    def forward(self, images: Tensor, routes: Routes | None = None) -> Tensor:
        """Return the map (B, D, gh, gw)."""
        forward: Any = self.net.forward_intermediates
        maps = forward(
            images,
            indices=[self.stage],
            norm=self.use_norm,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        return maps[0]


def build_feature_maps(
    name: str,
    input_size: tuple[int, int],
    *,
    stride: int | None,
    pretrained: bool,
    drop_path: float,
    gradient_checkpointing: bool,
) -> FeatureMapBackbone:
    """Build a backbone from a timm model by name.

    Args:
        name: the timm model.
        input_size: (height, width) that position tables are made for.
        stride: pixels between the map's pixels; left out, 16 or the coarsest below it.
        pretrained: load timm's weights.
        drop_path: stochastic depth rate.
        gradient_checkpointing: recompute blocks in the backward pass.

    Raises:
        ConfigError: the model has no feature maps or none of that stride, lacks a setting, or
            does not take the input size; or its weights are not available.
    """
    settings: dict[str, Any] = {"pretrained": pretrained, "num_classes": 0}
    if drop_path:
        settings["drop_path_rate"] = drop_path
    net = _create(name, settings, input_size)
    if not hasattr(net, "forward_intermediates") or not hasattr(net, "group_matcher"):
        raise ConfigError(f"backbone '{name}': timm extracts no feature maps from it; take another")
    stages = _stages(net)
    stage = _choose_stage(name, [int(info["reduction"]) for info in stages], stride)
    last = stage == len(stages) - 1
    prune: Any = getattr(net, "prune_intermediate_layers", None)
    if prune is not None:
        prune([stage], prune_norm=not last, prune_head=True)
    if gradient_checkpointing:
        switch: Any = net.set_grad_checkpointing
        switch(True)
    backbone = FeatureMapBackbone(net, stage, last)
    try:
        backbone.map_size(input_size)
    except (AssertionError, RuntimeError, ValueError, TypeError) as error:
        raise ConfigError(
            f"backbone '{name}': it does not take images of {input_size[0]}x{input_size[1]} "
            f"({_first_line(error)}); choose an input size that fits it"
        ) from error
    return backbone


def _create(name: str, settings: Mapping[str, Any], input_size: tuple[int, int]) -> nn.Module:
    """Create the model by the first way of setting an input size that it accepts."""
    ways: tuple[dict[str, Any], ...] = (
        {"img_size": input_size, "dynamic_img_size": True, "global_pool": ""},
        {"img_size": input_size, "dynamic_img_size": True},
        {"img_size": input_size, "strict_img_size": False},
        {"img_size": input_size},
        {},
    )
    for way in ways:
        try:
            return timm.create_model(name, **settings, **way)
        except TypeError as error:
            if way:
                continue
            raise ConfigError(
                f"backbone '{name}': it lacks a setting: {_first_line(error)}"
            ) from error
        except (OSError, RuntimeError, ValueError, AssertionError) as error:
            raise ConfigError(f"backbone '{name}': {_first_line(error)}") from error
    raise ConfigError(f"backbone '{name}': it cannot be built")


def _stages(net: nn.Module) -> list[dict[str, Any]]:
    info: Any = getattr(net, "feature_info", [])
    return [dict(stage) for stage in (info.info if hasattr(info, "info") else info)]


def _choose_stage(name: str, strides: list[int], wanted: int | None) -> int:
    if not strides:
        raise ConfigError(f"backbone '{name}': timm extracts no feature maps from it; take another")
    fitting = [i for i, s in enumerate(strides) if (s <= 16 if wanted is None else s == wanted)]
    if not fitting:
        found = ", ".join(str(s) for s in sorted(set(strides)))
        raise ConfigError(
            f"backbone '{name}': it has no map of feature_stride {wanted or 16} (strides: {found})"
        )
    return fitting[-1]


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
