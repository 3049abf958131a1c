"""Saves pose models in the forms of other projects: ViTPose's own and transformers'."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from posekit.errors import CheckpointError, ConfigError
from posekit.models.checkpoint_file import checkpoint_file
from posekit.models.decoders.heatmap import ClassicDecoder, SimpleDecoder
from posekit.models.foreign import TRANSFORMERS_BACKBONE, TRANSFORMERS_HEAD, translate
from posekit.models.ledger import Action, Ledger
from posekit.models.pose_model import PoseModel
from posekit.models.stems import PatchStem
from posekit.models.surgery import drop_heads, merge_adapters, single_head, without_prototypes
from posekit.models.vit import PoseViT, resize_positions
from posekit.output import write_json

_TRANSFORMERS_WIDTH = 256
_TRANSFORMERS_PADDING = 2


def export_official(model: PoseModel, path: str | Path) -> Ledger:
    """Save a model as a ViTPose (one head) or ViTPose+ (several heads) file.

    The first head becomes keypoint_head, the others associate_keypoint_heads in order.

    Returns:
        What became of every tensor.

    Raises:
        ConfigError: the model has parts that ViTPose does not know.
        CheckpointError: the file cannot be written.
    """
    model = merge_adapters(model)
    _check_plain_vitpose(model)
    if model.expert_of and [model.expert_of[n] for n in model.head_names] != list(
        range(len(model.backbone.experts))
    ):
        raise ConfigError(
            "ViTPose+ gives every head its own expert in the heads' order; this model's experts "
            "are shared or more than the heads; split it into single heads first"
        )
    ledger = Ledger("the model")
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("prototypes."):
            ledger.leave(name, "ViTPose has no keypoint prototypes")
            continue
        target = _official_name(name, model.head_names)
        value, action = _for_input_of(model, model.head_names[0], name, tensor)
        state[target] = value.contiguous()
        ledger.add(action, name, target)
    with checkpoint_file(path) as temporary:
        torch.save({"meta": {}, "state_dict": state}, temporary)
    return ledger


def export_transformers(
    model: PoseModel, folder: str | Path, head: str | None = None, keep_experts: bool = False
) -> Ledger:
    """Save one head's model as a folder that transformers' VitPoseForPoseEstimation loads.

    Args:
        model: the model.
        folder: where `config.json`, `preprocessor_config.json` and `model.safetensors` go.
        head: which head; may be left out if there is one.
        keep_experts: save the experts as they are, to be chosen by `dataset_index`; by default
            the head's own is folded in.

    Returns:
        What became of every tensor.

    Raises:
        ConfigError: the model has parts that transformers' ViTPose does not know.
        CheckpointError: the folder cannot be written.
    """
    model = merge_adapters(model)
    name = _only_head(model, head)
    others = [other for other in model.head_names if other != name]
    if keep_experts and model.expert_of:
        chosen = without_prototypes(drop_heads(model, others, keep_experts=True))
    else:
        chosen = single_head(model, name)
    _check_plain_vitpose(chosen)
    config = _transformers_config(chosen, name)
    ledger = Ledger("the model")
    for key in model.state_dict():
        if key.startswith(tuple(f"heads.{other}." for other in others)):
            ledger.leave(key, "a folder of transformers holds one head")
        elif key.startswith("prototypes."):
            ledger.leave(key, "transformers has no keypoint prototypes")
    state = _transformers_state(chosen, name, ledger)
    path = Path(folder)
    with checkpoint_file(path / "model.safetensors") as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    files = {"config.json": config, "preprocessor_config.json": _processor(chosen, name)}
    for file, content in files.items():
        write_json(path / file, content, indent=2, error=CheckpointError)
    return ledger


def _official_name(name: str, heads: tuple[str, ...]) -> str:
    if name.startswith("backbone.vit."):
        inside = name.removeprefix("backbone.vit.")
        return "backbone." + ("last_" + inside if inside.startswith("norm.") else inside)
    _, head, _, inside = name.split(".", 3)
    place = heads.index(head)
    return (
        f"keypoint_head.{inside}"
        if place == 0
        else (f"associate_keypoint_heads.{place - 1}.{inside}")
    )


def _only_head(model: PoseModel, head: str | None) -> str:
    if head is None and len(model.heads) == 1:
        return model.head_names[0]
    if head is None or head not in model.heads:
        raise ConfigError(
            f"which head shall be saved? found {head!r}, heads: {', '.join(model.head_names)}"
        )
    return head


def _check_plain_vitpose(model: PoseModel) -> None:
    vit = getattr(model.backbone, "vit", None)
    problem = None
    if not isinstance(vit, PoseViT) or not isinstance(vit.patch_embed, PatchStem):
        problem = "its backbone is not ViTPose's ViT"
    elif vit.patch_embed.padding != _TRANSFORMERS_PADDING:
        problem = f"its patch_padding is {vit.patch_embed.padding}, ViTPose's is 2"
    elif vit.patch_embed.stride != vit.patch_embed.patch_size[0]:
        problem = "its patches overlap"
    elif any(getattr(block, "window", None) is not None for block in vit.blocks):
        problem = "it has window attention"
    elif getattr(model.backbone, "knowledge", None) is not None:
        problem = "it has a knowledge token"
    for name in model.head_names:
        if not isinstance(model.head(name).decoder, ClassicDecoder | SimpleDecoder):
            problem = f"head '{name}' has neither a classic nor a simple decoder"
    if problem:
        raise ConfigError(f"the model cannot be saved in ViTPose's form: {problem}")


def _transformers_config(model: PoseModel, name: str) -> dict[str, Any]:
    vit: Any = model.backbone.vit
    head = model.head(name)
    labels = dict(enumerate(head.schema.keypoints))
    depth = len(vit.blocks)
    stages = ["stem", *(f"stage{i + 1}" for i in range(depth))]
    first = vit.blocks[0]
    experts = len(model.backbone.experts)
    backbone = {
        "model_type": "vitpose_backbone",
        "hidden_size": vit.embed_dim,
        "num_hidden_layers": depth,
        "num_attention_heads": first.attn.num_heads,
        "mlp_ratio": first.mlp.fc1.out_features // vit.embed_dim,
        "image_size": list(head.input_size),
        "patch_size": list(vit.patch_embed.patch_size),
        "num_channels": 3,
        "hidden_act": "gelu",
        "layer_norm_eps": vit.norm.eps,
        "qkv_bias": True,
        "num_experts": max(experts, 1),
        "part_features": first.mlp.experts[0].out_features if experts else 0,
        "stage_names": stages,
        "out_features": stages[-1:],
        "out_indices": [depth],
    }
    if first.mlp.fc1.out_features % vit.embed_dim:
        raise ConfigError("transformers knows only whole numbers as mlp_ratio")
    return {
        "architectures": ["VitPoseForPoseEstimation"],
        "model_type": "vitpose",
        "backbone_config": backbone,
        "id2label": {str(i): label for i, label in labels.items()},
        "label2id": {label: i for i, label in labels.items()},
        "edges": head.schema.skeleton_indices.tolist(),
        "scale_factor": _scale(head.decoder, name),
        "use_simple_decoder": isinstance(head.decoder, SimpleDecoder),
        "dtype": "float32",
    }


def _scale(decoder: Any, name: str) -> int:
    if isinstance(decoder, SimpleDecoder):
        if decoder.final_layer.kernel_size != (3, 3) or decoder.upsample != int(decoder.upsample):
            raise ConfigError(
                f"head '{name}': transformers' simple decoder enlarges by a whole number and has "
                "a 3x3 convolution"
            )
        return int(decoder.upsample)
    widths = [layer.out_channels for layer in decoder.deconv_layers[::3]]
    if widths != [_TRANSFORMERS_WIDTH] * 2:
        raise ConfigError(
            f"head '{name}': transformers' classic decoder has two layers of 256 channels, found "
            f"{widths}"
        )
    return 4


_QKV = re.compile(r"blocks\.(\d+)\.attn\.qkv\.(\w+)")


def _transformers_state(model: PoseModel, name: str, ledger: Ledger) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for key, tensor in model.state_dict().items():
        value, action = _for_input_of(model, name, key, tensor)
        parts = _transformers_names(key, name)
        if len(parts) > 1:
            action = "merged"
        for part, piece in zip(
            parts, value.chunk(len(parts)) if value.ndim else [value], strict=True
        ):
            state[part] = piece.clone().contiguous()
            ledger.add(action, key, part, "cut up" if len(parts) > 1 else "")
    return state


def _for_input_of(model: PoseModel, head: str, name: str, tensor: Tensor) -> tuple[Tensor, Action]:
    """Return a tensor on the CPU; the position table in the size of a head's input."""
    value = tensor.detach().cpu()
    grid = model.backbone.map_size(model.head(head).input_size)
    vit: Any = model.backbone.vit
    old = vit.patch_embed.grid_size
    if name == "backbone.vit.pos_embed" and tuple(old) != grid:
        return resize_positions(value, old, grid), "resized"
    return value, "used"


def _transformers_names(key: str, head: str) -> list[str]:
    inside = key.removeprefix("backbone.vit.")
    if inside == key:
        inside = key.removeprefix(f"heads.{head}.decoder.")
        return [f"head.{translate(inside, TRANSFORMERS_HEAD)}"]
    if match := _QKV.fullmatch(inside):
        start = f"backbone.encoder.layer.{match[1]}.attention.attention"
        return [f"{start}.{part}.{match[2]}" for part in ("query", "key", "value")]
    if target := translate(inside, TRANSFORMERS_BACKBONE):
        return [f"backbone.{target}"]
    raise CheckpointError(f"the model's tensor '{key}' has no place in transformers' ViTPose")


def _processor(model: PoseModel, name: str) -> dict[str, Any]:
    height, width = model.head(name).input_size
    return {
        "image_processor_type": "VitPoseImageProcessor",
        "do_affine_transform": True,
        "size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": model.mean.flatten().tolist(),
        "image_std": model.std.flatten().tolist(),
    }
