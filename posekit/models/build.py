"""Joins backbone, decoders and codecs into a PoseModel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from posekit.codecs.registry import CODECS, build_codec
from posekit.config.base import validate
from posekit.config.model import BackboneConfig
from posekit.config.prototypes import PrototypeConfig
from posekit.errors import ConfigError
from posekit.models.backbone import build_backbone, normalisation
from posekit.models.base import Backbone
from posekit.models.decoders import DECODERS, build_decoder
from posekit.models.experts import expert_names
from posekit.models.lora import add_adapters
from posekit.models.pose_model import HeadSpec, PoseHead, PoseModel
from posekit.models.pretrained import load_pretrained
from posekit.models.prototypes import PrototypeSpace
from posekit.models.vit import KnowledgeToken, ViTBackbone

_HEAD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+-]*\Z")


def build_model(
    backbone: BackboneConfig | Mapping[str, Any],
    heads: Mapping[str, HeadSpec],
    prototypes: PrototypeConfig | Mapping[str, Any] | None = None,
) -> PoseModel:
    """Build a model with random (or timm's pretrained) backbone weights and fresh heads.

    Args:
        backbone: the settings, typed or as a mapping.
        heads: name -> spec. The position table is made for the backbone's input_size, by default
            the first head's, and resized for the others while running.
        prototypes: settings of keypoint prototypes; none if left out.

    Raises:
        ConfigError: no heads, a name that cannot be a head's, an unknown backbone, decoder or
            codec, or parts whose sizes do not fit together.
    """
    config = backbone
    if not isinstance(config, BackboneConfig):
        config = validate(BackboneConfig, dict(config), "backbone")
    if not heads:
        raise ConfigError("a model needs at least one head")
    for name in heads:
        check_head_name(name)
    experts = _experts(config, heads)
    base_size = config.input_size or next(iter(heads.values())).input_size
    net = build_backbone(config, base_size, experts)
    if isinstance(config.pretrained, str):
        load_pretrained(net, config.pretrained)
    if config.knowledge_token is not None:
        if not isinstance(net, ViTBackbone):
            raise ConfigError(
                f"backbone '{config.name}': knowledge_token cannot be set for it, only for plain "
                "ViTs; leave it out"
            )
        net.knowledge = KnowledgeToken(config.knowledge_token, net.channels)
    if config.lora is not None:
        add_adapters(net, config.lora)
    built = {name: build_head(name, spec, net) for name, spec in heads.items()}
    mean, std = normalisation(config)
    share = config.experts.share if config.experts else {}
    plain = {**config.model_dump(mode="json"), "mean": list(mean), "std": list(std)}
    plain["input_size"] = list(base_size)
    if config.experts is not None:
        plain["experts"]["names"] = list(experts)
    return PoseModel(
        net,
        built,
        expert_of={name: experts.index(share.get(name, name)) for name in heads} if experts else {},
        mean=mean,
        std=std,
        backbone_config=plain,
        prototypes=None if prototypes is None else _prototypes(prototypes, net, built),
    )


def build_head(name: str, spec: HeadSpec, backbone: Backbone) -> PoseHead:
    """Build one head for a backbone; ConfigError names the head."""
    where = f"head '{name}'"
    spec = replace(
        spec,
        decoder=DECODERS.pin_kind(spec.decoder, where),
        codec=CODECS.pin_kind(spec.codec, where),
    )
    codec = build_codec(spec.codec, spec.input_size, f"{where}, codec")
    decoder = build_decoder(
        spec.decoder,
        backbone.channels,
        len(spec.schema) * codec.channels_per_keypoint,
        backbone.map_size(spec.input_size),
        codec.heatmap_size,
        f"{where}, decoder",
    )
    return PoseHead(spec, codec, decoder)


def _prototypes(
    prototypes: PrototypeConfig | Mapping[str, Any], net: Backbone, heads: Mapping[str, PoseHead]
) -> PrototypeSpace:
    config = prototypes
    if not isinstance(config, PrototypeConfig):
        config = validate(PrototypeConfig, dict(config), "prototypes")
    for name, head in heads.items():
        rows, columns = net.map_size(head.input_size)
        reached = (rows * 2**config.layers, columns * 2**config.layers)
        if head.codec.channels_per_keypoint != 1 or reached != tuple(head.codec.heatmap_size):
            maps, size = head.codec.channels_per_keypoint, head.codec.heatmap_size
            raise ConfigError(
                f"posebh: the prototypes give head '{name}' one map of {reached[0]}x{reached[1]} "
                f"(h x w) a keypoint, its codec expects {maps} of {size[0]}x{size[1]}; take "
                "another codec, or change posebh.layers"
            )
    keypoints = {name: len(head.schema) for name, head in heads.items()}
    return PrototypeSpace(config, net.channels, keypoints)


def check_head_name(name: str) -> None:
    """Raise ConfigError unless a head may have this name."""
    if not isinstance(name, str) or not _HEAD_NAME.match(name) or hasattr(nn.ModuleDict, name):
        raise ConfigError(
            f"head name {name!r}: expected letters, digits, '_', '-' or '+', no dots or spaces, "
            "and no word that torch keeps for itself (such as 'keys' or 'type')"
        )


def _experts(config: BackboneConfig, heads: Mapping[str, HeadSpec]) -> tuple[str, ...]:
    if config.experts is None:
        return ()
    share, names = config.experts.share, config.experts.names
    for head in share:
        if head not in heads:
            raise ConfigError(
                f"backbone: experts.share names the head '{head}', which the model does not have "
                f"(heads: {', '.join(heads)})"
            )
    used = expert_names(tuple(heads), share)
    if names is None:
        return used
    for expert in used:
        if expert not in names:
            raise ConfigError(
                f"backbone: experts.names has no '{expert}', which a head needs; add it, or name "
                "the head's expert in experts.share"
            )
    return names
