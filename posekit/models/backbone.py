"""Builds a backbone from its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
from timm.layers import LayerNorm, PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer

from posekit.config.model import BackboneConfig
from posekit.errors import ConfigError, nearest
from posekit.models.attention import WindowAttention
from posekit.models.base import Backbone
from posekit.models.experts import ExpertMlp
from posekit.models.feature_maps import build_feature_maps
from posekit.models.stems import ConvStem, PatchStem
from posekit.models.vit import PoseBlock, PoseViT, ViTBackbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ViTSizes:
    """Sizes of a plain ViT."""

    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    patch_size: int = 16
    patch_padding: int = 0


VITPOSE_SIZES = {
    "vitpose_small": ViTSizes(384, 12, 12, patch_padding=2),
    "vitpose_base": ViTSizes(768, 12, 12, patch_padding=2),
    "vitpose_large": ViTSizes(1024, 24, 16, patch_padding=2),
    "vitpose_huge": ViTSizes(1280, 32, 16, patch_padding=2),
}
_SIZE_KEYS = ("embed_dim", "depth", "num_heads", "mlp_ratio", "patch_size", "patch_padding")


def build_backbone(
    config: BackboneConfig, input_size: tuple[int, int], experts: Sequence[str] = ()
) -> Backbone:
    """Build a backbone with random or timm's own pretrained weights.

    Args:
        config: the settings; `pretrained` files are loaded by the caller.
        input_size: (height, width) that the position table is made for.
        experts: names of the experts, if config.experts is set.

    Raises:
        ConfigError: an unknown name (names the nearest), or settings that do not go together.
    """
    if config.name == "vit" or config.name in VITPOSE_SIZES:
        vit: VisionTransformer = _own_vit(config, input_size, len(experts))
    elif not timm.is_model(_architecture(config.name)):
        raise ConfigError(_unknown(config.name))
    elif _is_plain_vit(config.name):
        vit = _timm_vit(config, input_size, len(experts))
    else:
        return _feature_maps(config, input_size)
    _set_attention(config, vit)
    return ViTBackbone(vit, experts, config.gradient_checkpointing)


def normalisation(config: BackboneConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of RGB in 0..1: stated, the timm model's own, or ImageNet's."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    source = config.name if config.pretrained in (True, False) else str(config.pretrained)
    if timm.is_model(_architecture(source)):
        weights = timm.get_pretrained_cfg(source)
        if weights is not None:
            mean, std = weights.mean, weights.std
    return tuple(config.mean or mean), tuple(config.std or std)


def vit_sizes(config: BackboneConfig) -> ViTSizes:
    """Return all sizes of a ViT of our own; ConfigError names what a free `vit` leaves out."""
    base = VITPOSE_SIZES.get(config.name)
    given = {key: getattr(config, key) for key in _SIZE_KEYS if getattr(config, key) is not None}
    if base is None:
        missing = [key for key in ("embed_dim", "depth", "num_heads") if key not in given]
        if missing:
            raise ConfigError(f"backbone 'vit': {', '.join(missing)} must be given")
        sizes = ViTSizes(**given)
    else:
        sizes = ViTSizes(**{**base.__dict__, **given})
    if sizes.embed_dim % sizes.num_heads:
        raise ConfigError(
            f"backbone '{config.name}': embed_dim {sizes.embed_dim} cannot be shared out among "
            f"{sizes.num_heads} attention heads; take a number that divides it"
        )
    return sizes


def _own_vit(config: BackboneConfig, input_size: tuple[int, int], num_experts: int) -> PoseViT:
    if config.pretrained is True:
        raise ConfigError(
            f"backbone '{config.name}': timm has no weights of its own for it; set pretrained to "
            "a file or to a timm model of the same sizes"
        )
    sizes = vit_sizes(config)
    return PoseViT(
        img_size=input_size,
        patch_size=sizes.patch_size,
        embed_dim=sizes.embed_dim,
        depth=sizes.depth,
        num_heads=sizes.num_heads,
        mlp_ratio=sizes.mlp_ratio,
        norm_layer=partial(LayerNorm, eps=1e-6),
        drop_path_rate=config.drop_path,
        embed_layer=_stem(config, input_size, sizes.patch_size, sizes.patch_padding),
        **_block_settings(config, sizes.embed_dim, num_experts),
    )


def _timm_vit(
    config: BackboneConfig, input_size: tuple[int, int], num_experts: int
) -> VisionTransformer:
    named = [key for key in _SIZE_KEYS if getattr(config, key) is not None]
    if named:
        raise ConfigError(
            f"backbone '{config.name}': its sizes come with the name, leave out "
            f"{', '.join(named)} or take the name 'vit' with sizes of your own"
        )
    probe = _on_meta(config.name)
    patch = probe.patch_embed.patch_size[0]
    settings = _block_settings(config, probe.embed_dim, num_experts)
    if config.stem != "patch" or config.feature_stride not in (None, patch):
        settings["embed_layer"] = _stem(config, input_size, patch, 0)
    if config.pretrained is True and len(settings) > 1:
        raise ConfigError(
            f"backbone '{config.name}': pretrained weights fit only the plain model, without "
            "experts, another stem or another feature_stride; give the weights as a file instead"
        )
    try:
        vit: Any = timm.create_model(
            config.name,
            pretrained=config.pretrained is True,
            num_classes=0,
            global_pool="",
            img_size=input_size,
            dynamic_img_size=True,
            drop_path_rate=config.drop_path,
            **settings,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(_failed(config, error)) from error
    return vit


def _set_attention(config: BackboneConfig, vit: VisionTransformer) -> None:
    pattern = (config.attention,) if isinstance(config.attention, str) else config.attention
    if not pattern:
        raise ConfigError(f"backbone '{config.name}': attention is empty, expected kinds")
    block: Any
    for number, block in enumerate(vit.blocks):
        kind = pattern[number % len(pattern)]
        if kind != "full":
            block.window = WindowAttention(
                config.window,
                shifted=kind.startswith("shifted"),
                pooled=kind.endswith("pooled"),
                relative_bias=config.relative_bias,
                num_heads=block.attn.num_heads,
                prefix=vit.num_prefix_tokens,
            )


def _block_settings(config: BackboneConfig, embed_dim: int, num_experts: int) -> dict[str, Any]:
    settings: dict[str, Any] = {"block_fn": PoseBlock}
    if config.experts is not None:
        width = config.experts.width or embed_dim // 4
        if width >= embed_dim:
            raise ConfigError(
                f"backbone '{config.name}': experts.width is {width}, expected less than "
                f"embed_dim {embed_dim}"
            )
        settings["mlp_layer"] = partial(ExpertMlp, num_experts=num_experts, width=width)
    return settings


def _stem(config: BackboneConfig, input_size: tuple[int, int], patch: int, padding: int) -> Any:
    stride = config.feature_stride or patch
    if config.stem == "patch":
        kind: Any = partial(PatchStem, stride=stride, padding=padding)
        reach = patch
    else:
        if stride & (stride - 1):
            raise ConfigError(
                f"backbone '{config.name}': the conv stem halves step by step, so its stride "
                f"must be a power of 2, found {stride}; set feature_stride to 8 or 16"
            )
        kind, reach = partial(ConvStem, stride=stride), stride
    if min(input_size) < reach:
        raise ConfigError(
            f"backbone '{config.name}': input size {input_size[0]}x{input_size[1]} is smaller "
            f"than one patch of {reach} pixels"
        )
    return kind


def _feature_maps(config: BackboneConfig, input_size: tuple[int, int]) -> Backbone:
    fixed = [key for key in _SIZE_KEYS if getattr(config, key) is not None]
    plain_only = {
        "stem: conv": config.stem == "conv",
        "experts": config.experts is not None,
        "attention": config.attention != "full",
    }
    fixed += [key for key, is_set in plain_only.items() if is_set]
    if fixed:
        raise ConfigError(
            f"backbone '{config.name}': {', '.join(fixed)} cannot be set for it, only for plain "
            "ViTs; leave it out or take another backbone"
        )
    return build_feature_maps(
        config.name,
        input_size,
        stride=config.feature_stride,
        pretrained=config.pretrained is True,
        drop_path=config.drop_path,
        gradient_checkpointing=config.gradient_checkpointing,
    )


def _is_plain_vit(name: str) -> bool:
    """Return whether timm builds the name as a VisionTransformer of ordinary parts."""
    if timm.model_entrypoint(_architecture(name)).__module__ != VisionTransformer.__module__:
        return False
    probe = _on_meta(name)
    return (
        type(probe) is VisionTransformer
        and type(probe.patch_embed) is PatchEmbed
        and all(type(block) is Block for block in probe.blocks)
    )


def _architecture(name: str) -> str:
    return name.partition(".")[0]


def _on_meta(name: str) -> Any:
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False, num_classes=0)


def _unknown(name: str) -> str:
    known = [*VITPOSE_SIZES, "vit", *timm.list_models()]
    return f"unknown backbone '{name}'{nearest(name, known)}"


def _failed(config: BackboneConfig, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    wanted = "pretrained weights are not available" if config.pretrained else "it cannot be built"
    return f"backbone '{config.name}': {wanted}: {reason}"
