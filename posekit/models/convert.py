"""Whole pose models from other projects' files, and files from one project's form to another's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from posekit.errors import CheckpointError, ConfigError
from posekit.models.backbone import VITPOSE_SIZES
from posekit.models.build import build_model
from posekit.models.checkpoint import load_model, save_checkpoint
from posekit.models.checkpoint_file import read_description
from posekit.models.foreign import ForeignWeights, read_foreign
from posekit.models.foreign_export import export_official, export_transformers
from posekit.models.ledger import Ledger
from posekit.models.pose_model import HeadSpec, PoseModel
from posekit.models.pretrained import count_blocks, fit_backbone


def convert(
    source: str | Path, heads: Mapping[str, HeadSpec], *, num_heads: int | None = None
) -> tuple[PoseModel, Ledger]:
    """Build a model from a ViTPose or ViTPose+ file or a transformers folder.

    Args:
        source: the file or folder.
        heads: name -> schema, codec and input size for the heads of the file, in its order; the
            decoder is read off the file. Heads of the file beyond these are left out. ViTPose+
            experts go with their heads; the others stay in the backbone without a head.
        num_heads: attention heads, where neither the width nor the file tells.

    Returns:
        The model, and what became of each tensor of the file.

    Raises:
        CheckpointError: the file cannot be read, a tensor is not accounted for or missing, or a
            head's keypoints do not fit.
    """
    foreign = read_foreign(source)
    if foreign.layout in ("plain", "posekit"):
        kind = "a bare backbone" if foreign.layout == "plain" else "a posekit checkpoint already"
        raise CheckpointError(f"{source}: {kind}, so there is no foreign pose model to convert")
    specs = {}
    for position, (name, spec) in enumerate(heads.items()):
        if position not in foreign.heads:
            raise CheckpointError(
                f"{source}: there is no head number {position} for '{name}' "
                f"(the file has {len(foreign.heads)})"
            )
        specs[name] = replace(spec, decoder=_decoder_of(foreign.heads[position]))
    backbone = infer_backbone(foreign, tuple(heads), num_heads)
    model = build_model(backbone, specs)
    state = {
        f"backbone.{name}": tensor for name, tensor in fit_backbone(foreign, model.backbone).items()
    }
    for position, tensors in foreign.heads.items():
        state.update(_fit_head(foreign, model, position, tensors))
    foreign.ledger.check(foreign.sources, model.state_dict())
    model.load_state_dict(state, strict=False)
    return model.eval(), foreign.ledger


def convert_file(
    source: str | Path,
    target: str | Path,
    heads: Mapping[str, HeadSpec] | None = None,
    *,
    head: str | None = None,
    num_heads: int | None = None,
    keep_experts: bool = False,
) -> Ledger:
    """Bring another project's weights to posekit, or a posekit checkpoint to another project.

    Args:
        source: a posekit checkpoint, a ViTPose, ViTPose+ or PoseBH file, or a transformers folder.
        target: `NAME.safetensors` from a foreign source; from a checkpoint `NAME.pth` (ViTPose's
            form) or a folder (transformers').
        heads: from a foreign source: its heads in order, see `convert`.
        head: to transformers: which head, if there are several.
        num_heads: attention heads, where a foreign source does not tell.
        keep_experts: to transformers: keep the experts apart.

    Returns:
        What became of every tensor.

    Raises:
        CheckpointError, ConfigError: as `convert`, `export_official` and `export_transformers`.
    """
    source, target = Path(source), Path(target)
    if _is_checkpoint(source):
        if target.suffix == ".safetensors":
            raise ConfigError(f"{source}: it is a posekit checkpoint already; copy it")
        model = load_model(source)
        if target.suffix in (".pth", ".pt"):
            return export_official(model, target)
        return export_transformers(model, target, head, keep_experts)
    if target.suffix != ".safetensors":
        raise ConfigError(f"{target}: a posekit checkpoint's name ends in .safetensors")
    if not heads:
        raise ConfigError(f"{source}: say what its heads are (name, schema, codec, input size)")
    model, ledger = convert(source, heads, num_heads=num_heads)
    account = {"source": source.name, "tensors": ledger.counts()}
    save_checkpoint(target, model, {"converted": account})
    return ledger


def infer_backbone(
    foreign: ForeignWeights, heads: tuple[str, ...], num_heads: int | None = None
) -> dict[str, Any]:
    """Read a backbone's settings off its tensors."""
    tensors = foreign.backbone
    for name in ("patch_embed.proj.weight", "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight"):
        if name not in tensors:
            raise CheckpointError(f"{foreign.ledger.source_file}: it has no tensor '{name}'")
    embed_dim = len(tensors["patch_embed.proj.weight"])
    depth = count_blocks(tensors)
    experts = _expert_settings(tensors, embed_dim, heads)
    for name, sizes in VITPOSE_SIZES.items():
        patch = tensors["patch_embed.proj.weight"].shape[-1]
        if (sizes.embed_dim, sizes.depth, sizes.patch_size) == (embed_dim, depth, patch):
            return {"name": name, "experts": experts}
    stated = foreign.config.get("backbone_config", {}).get("num_attention_heads")
    attention_heads = num_heads or stated
    if attention_heads is None:
        raise CheckpointError(
            f"{foreign.ledger.source_file}: the number of attention heads of a ViT with width "
            f"{embed_dim} and depth {depth} is not in the file; give num_heads"
        )
    return {
        "name": "vit",
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": attention_heads,
        "mlp_ratio": len(tensors["blocks.0.mlp.fc1.weight"]) / embed_dim,
        "patch_size": tensors["patch_embed.proj.weight"].shape[-1],
        "patch_padding": 2,
        "experts": experts,
    }


def _expert_settings(
    tensors: Mapping[str, Tensor], embed_dim: int, heads: tuple[str, ...]
) -> dict[str, Any] | None:
    shared = len(tensors["blocks.0.mlp.fc2.weight"])
    if shared == embed_dim:
        return None
    found = [re.fullmatch(r"blocks\.0\.mlp\.experts\.(\d+)\.weight", name) for name in tensors]
    count = len([match for match in found if match])
    names = [heads[i] if i < len(heads) else f"expert_{i}" for i in range(count)]
    return {"width": embed_dim - shared, "names": names}


def _decoder_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    widths = [
        tensor.shape[1]
        for name, tensor in tensors.items()
        if name.startswith("deconv_layers.") and tensor.ndim == 4
    ]
    return {"kind": "classic", "channels": widths} if widths else {"kind": "simple"}


def _fit_head(
    foreign: ForeignWeights,
    model: PoseModel,
    position: int,
    tensors: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    name = model.head_names[position] if position < len(model.heads) else None
    fitted: dict[str, Tensor] = {}
    shapes = (
        {key: t.shape for key, t in model.head(name).decoder.state_dict().items()} if name else {}
    )
    for key, tensor in tensors.items():
        origin = foreign.origin[position, key][0]
        target = f"heads.{name}.decoder.{key}"
        if name is None:
            foreign.ledger.leave(origin, f"no head was asked for at position {position}")
        elif key not in shapes:
            continue
        elif key.startswith("final_layer.") and len(tensor) > shapes[key][0]:
            channels = shapes[key][0]
            fitted[target] = tensor[:channels].clone()
            foreign.ledger.add("resized", origin, target, f"the first {channels} channels")
        elif tensor.shape != shapes[key]:
            raise CheckpointError(
                f"{foreign.ledger.source_file}: head '{name}' does not fit: tensor '{origin}' is "
                f"{tuple(tensor.shape)}, its schema and codec need {tuple(shapes[key])}"
            )
        else:
            fitted[target] = tensor
            foreign.ledger.add("used", origin, target)
    return fitted


def _is_checkpoint(path: Path) -> bool:
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        read_description(path)
    except CheckpointError:
        return False
    return True
