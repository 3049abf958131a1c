"""Adds, drops, renames, merges and splits the heads of finished models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from posekit.errors import ConfigError, nearest
from posekit.models.build import build_model
from posekit.models.lora import LoraLinear, is_adapter
from posekit.models.pose_model import HeadSpec, PoseModel

_EXPERT = re.compile(r"(backbone\.vit\.blocks\.\d+\.mlp)\.experts\.(\d+)\.(weight|bias)")
_FC2 = re.compile(r"(backbone\.vit\.blocks\.\d+\.mlp)\.fc2\.(weight|bias)")

State = dict[str, Tensor]


def restore_model(
    backbone: Mapping[str, Any],
    heads: Mapping[str, HeadSpec],
    state: Mapping[str, Tensor],
    copy: bool = True,
    prototypes: Mapping[str, Any] | None = None,
) -> PoseModel:
    """Build a model around existing tensors, without spending time on random ones.

    Args:
        backbone: the settings as plain values.
        heads: name -> spec.
        state: all tensors of the model.
        copy: copy the tensors; without, the model changes them when it trains.
        prototypes: settings of keypoint prototypes, if there are any.

    Raises:
        ConfigError: the settings are wrong.
        RuntimeError: the tensors do not fit; names them.
    """
    settings = {**backbone, "pretrained": False}
    state = {name: tensor.clone() if copy else tensor for name, tensor in state.items()}
    with torch.device("meta"):
        model = build_model(settings, heads, prototypes)
    model.load_state_dict(state, strict=True, assign=True)
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        model = build_model(settings, heads, prototypes)
        model.load_state_dict(state, strict=True, assign=True)
    return model


def single_head(model: PoseModel, name: str) -> PoseModel:
    """Return a plain model with one head; expert and adapters, if any, are folded in.

    The output equals the joint model's up to rounding. Prototypes, which the head does not need,
    stay behind.
    """
    _check_has(model, name)
    model = merge_adapters(model)
    state = _only_heads(model, [name])
    backbone = {**model.backbone_config, "experts": None}
    if model.expert_of:
        state = _fold(state, model.expert_of[name])
    return restore_model(backbone, {name: model.head(name).spec}, state)


def drop_heads(model: PoseModel, names: Iterable[str], keep_experts: bool = False) -> PoseModel:
    """Return a model without some heads; experts that no head needs any more go with them.

    Args:
        model: the model.
        names: heads to drop.
        keep_experts: keep the experts that no head needs any more.
    """
    dropped = list(names)
    for name in dropped:
        _check_has(model, name)
    kept = [name for name in model.head_names if name not in dropped]
    if not kept:
        raise ConfigError("a model needs at least one head, so not all can be dropped")
    state = _only_heads(model, kept)
    if model.prototypes is not None:
        keys = [f"prototypes.vectors.{name}." for name in kept]
        chosen = ("prototypes.embed.", *keys)
        state |= {key: t for key, t in model.state_dict().items() if key.startswith(chosen)}
    backbone = dict(model.backbone_config)
    if model.expert_of:
        experts = model.backbone.experts
        needed = {model.expert_of[name] for name in kept}
        used = list(range(len(experts))) if keep_experts else sorted(needed)
        state = _renumber(state, {old: new for new, old in enumerate(used)})
        share = {name: experts[model.expert_of[name]] for name in kept}
        backbone["experts"] = _experts(backbone, [experts[i] for i in used], share)
    specs = {name: spec for name, spec in model.specs.items() if name in kept}
    return restore_model(backbone, specs, state, prototypes=model.prototype_config)


def rename_head(model: PoseModel, old: str, new: str) -> PoseModel:
    """Return a model whose head `old` is called `new`; its expert keeps its name."""
    _check_has(model, old)
    _check_new(model, new)
    names = {name: new if name == old else name for name in model.head_names}
    state = {_renamed(key, old, new): tensor for key, tensor in model.state_dict().items()}
    backbone = dict(model.backbone_config)
    if model.expert_of:
        experts = model.backbone.experts
        share = {names[name]: experts[i] for name, i in model.expert_of.items()}
        backbone["experts"] = _experts(backbone, experts, share)
    heads = {names[name]: spec for name, spec in model.specs.items()}
    return restore_model(backbone, heads, state, prototypes=model.prototype_config)


def add_head(
    model: PoseModel, name: str, spec: HeadSpec, *, expert_of: str | None = None
) -> PoseModel:
    """Return a model with one more, untrained head.

    Args:
        model: the model; its weights are kept.
        name: the new head's name.
        spec: what to make it from.
        expert_of: in a model with experts, the head whose expert the new head shares; left out,
            the head gets an expert of its own, a copy of the first one.
    """
    _check_new(model, name)
    state = dict(model.state_dict())
    backbone = dict(model.backbone_config)
    if model.expert_of:
        experts = list(model.backbone.experts)
        share = {head: experts[i] for head, i in model.expert_of.items()}
        if expert_of is not None:
            _check_has(model, expert_of)
            share[name] = share[expert_of]
        else:
            share[name] = _free_name(name, experts)
            state |= _copied(state, 0, len(experts))
            experts.append(share[name])
        backbone["experts"] = _experts(backbone, experts, share)
    heads = {**model.specs, name: spec}
    fresh = build_model({**backbone, "pretrained": False}, heads, model.prototype_config)
    own = (f"heads.{name}.", f"prototypes.vectors.{name}.")
    state |= {key: t for key, t in fresh.state_dict().items() if key.startswith(own)}
    fresh.load_state_dict(state)
    return fresh


def merge_models(first: PoseModel, second: PoseModel) -> PoseModel:
    """Return one model with the heads (and experts) of two that share a backbone.

    Prototypes stay behind: those of two models are not of one space.

    Raises:
        ConfigError: a head is in both, or a backbone tensor other than the experts differs.
    """
    both = set(first.head_names) & set(second.head_names)
    if both:
        raise ConfigError(f"both models have a head '{sorted(both)[0]}'; rename one first")
    if bool(first.expert_of) != bool(second.expert_of):
        raise ConfigError("one model has experts and the other has none, they cannot be merged")
    state, other = _only_heads(first, first.head_names), second.state_dict()
    _check_same_backbone(state, other)
    backbone = dict(first.backbone_config)
    if first.expert_of:
        count = len(first.backbone.experts)
        shift = {i: i + count for i in range(len(second.backbone.experts))}
        other = _renumber(dict(other), shift)
        names = list(first.backbone.experts)
        for name in second.backbone.experts:
            names.append(_free_name(name, names))
        share = {head: names[i] for head, i in first.expert_of.items()}
        share |= {head: names[i + count] for head, i in second.expert_of.items()}
        backbone["experts"] = _experts(backbone, names, share)
    state |= {k: t for k, t in other.items() if k.startswith("heads.") or _EXPERT.fullmatch(k)}
    return restore_model(backbone, {**first.specs, **second.specs}, state)


def without_prototypes(model: PoseModel) -> PoseModel:
    """Return the model without keypoint prototypes and their embedding head, if any."""
    if model.prototypes is None:
        return model
    state = _only_heads(model, model.head_names)
    return restore_model(model.backbone_config, model.specs, state)


def merge_adapters(model: PoseModel) -> PoseModel:
    """Return a model whose low-rank adapters are added into the weights; without any, the model."""
    layers = {name: m for name, m in model.named_modules() if isinstance(m, LoraLinear)}
    if not layers:
        return model
    state = {name: t for name, t in model.state_dict().items() if not is_adapter(name)}
    state |= {f"{name}.weight": layer.merged() for name, layer in layers.items()}
    backbone = {**model.backbone_config, "lora": None}
    return restore_model(backbone, model.specs, state, prototypes=model.prototype_config)


def _fold(state: State, expert: int) -> State:
    folded: State = {}
    for key, tensor in state.items():
        if match := _FC2.fullmatch(key):
            # ExpertMlp puts the expert's outputs behind the shared ones; so does the whole fc2.
            own = state[f"{match[1]}.experts.{expert}.{match[2]}"]
            folded[key] = torch.cat([tensor, own])
        elif not _EXPERT.fullmatch(key):
            folded[key] = tensor
    return folded


def _renumber(state: State, numbers: Mapping[int, int]) -> State:
    """Return the experts other numbers; those without one are left out."""
    result: State = {}
    for key, tensor in state.items():
        match = _EXPERT.fullmatch(key)
        if match is None:
            result[key] = tensor
        elif int(match[2]) in numbers:
            result[f"{match[1]}.experts.{numbers[int(match[2])]}.{match[3]}"] = tensor
    return result


def _copied(state: State, source: int, target: int) -> State:
    matches = [match for key in state if (match := _EXPERT.fullmatch(key))]
    return {
        f"{match[1]}.experts.{target}.{match[3]}": state[match[0]].clone()
        for match in matches
        if int(match[2]) == source
    }


def _only_heads(model: PoseModel, names: Iterable[str]) -> State:
    prefixes = ("backbone.", *(f"heads.{name}." for name in names))
    return {key: t for key, t in model.state_dict().items() if key.startswith(prefixes)}


def _renamed(key: str, old: str, new: str) -> str:
    for place in ("heads", "prototypes.vectors"):
        prefix = f"{place}.{old}."
        if key.startswith(prefix):
            return f"{place}.{new}.{key.removeprefix(prefix)}"
    return key


def _experts(
    backbone: Mapping[str, Any], names: Iterable[str], share: Mapping[str, str]
) -> dict[str, Any]:
    return {**(backbone["experts"] or {}), "names": list(names), "share": dict(share)}


def _check_has(model: PoseModel, name: str) -> None:
    if name not in model.heads:
        raise ConfigError(
            f"the model has no head '{name}'{nearest(name, model.head_names)} "
            f"(heads: {', '.join(model.head_names)})"
        )


def _check_new(model: PoseModel, name: str) -> None:
    if name in model.heads:
        raise ConfigError(f"the model has a head '{name}' already; choose another name")


def _check_same_backbone(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    def shared(state: Mapping[str, Tensor]) -> State:
        return {
            key: tensor
            for key, tensor in state.items()
            if key.startswith("backbone.") and not _EXPERT.fullmatch(key)
        }

    ours, theirs = shared(first), shared(second)
    for key in dict.fromkeys([*ours, *theirs]):
        if key not in ours or key not in theirs or not torch.equal(ours[key], theirs[key]):
            raise ConfigError(
                f"the models' backbones differ (tensor '{key}'), so their heads cannot stand on "
                "one; train them together, or add an untrained head instead"
            )


def _free_name(name: str, taken: Iterable[str]) -> str:
    names = set(taken)
    number = 2
    free = name
    while free in names:
        free, number = f"{name}_{number}", number + 1
    return free
