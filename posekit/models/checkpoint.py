"""Checkpoints that describe themselves: safetensors with the model's description in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from posekit.codecs.registry import CODECS
from posekit.config.plug_ins import is_unpinned_file
from posekit.errors import CheckpointError, ConfigError
from posekit.models.checkpoint_file import (
    FORMAT,
    HEADER,
    checkpoint_file,
    load_checkpoint,
    read_description,
)
from posekit.models.decoders import DECODERS
from posekit.models.lora import is_adapter
from posekit.models.pose_model import HeadSpec, PoseModel
from posekit.models.surgery import restore_model
from posekit.models.vit import ViTBackbone, resize_positions
from posekit.schema import KeypointSchema
from posekit.version import __version__

__all__ = [
    "check_schema",
    "load_checkpoint",
    "load_into",
    "load_model",
    "read_description",
    "save_checkpoint",
]


def save_checkpoint(
    path: str | Path,
    model: PoseModel,
    description: Mapping[str, Any] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Save a model so that the file alone is enough to build it again.

    The file is replaced only once the new one is whole and on disk.

    Args:
        path: the file, usually with the ending .safetensors.
        model: the model; its backbone settings and every head's schema, decoder and codec go into
            the header.
        description: further JSON values for the header, such as the recipe and the step.
        state: tensors to save instead of the model's own, such as averaged weights.

    Raises:
        CheckpointError: the file cannot be written; the file from before is intact.
    """
    header = {**(description or {}), "format": FORMAT, "posekit_version": __version__}
    header["model"] = model.describe().to_dict()
    text = json.dumps(header)
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in (model.state_dict() if state is None else state).items()
    }
    with checkpoint_file(path) as temporary:
        save_file(tensors, temporary, metadata={HEADER: text})


def load_model(path: str | Path, device: str | torch.device = "cpu") -> PoseModel:
    """Build the model that a checkpoint describes and load its weights, in evaluation mode.

    Raises:
        CheckpointError: as load_checkpoint, a head names code that may not run, or the tensors do
            not fit the description.
    """
    state, description = load_checkpoint(path)
    backbone, heads = _model_parts(Path(path), description)
    if not heads:
        raise CheckpointError(
            f"{path}: a pre-trained backbone without heads; start a run from it with "
            "training.init=FILE"
        )
    _check_code(path, heads)
    prototypes = description["model"].get("prototypes")
    try:
        model = restore_model(backbone, heads, state, copy=False, prototypes=prototypes)
    except (ConfigError, RuntimeError) as error:
        reason = str(error).splitlines()
        raise CheckpointError(
            f"{path}: its tensors do not fit its description: {' '.join(reason[:2])}"
        ) from None
    return model.to(device).eval()


def load_into(
    model: PoseModel, path: str | Path, heads: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Load a checkpoint's backbone and the heads (and prototypes) that both have into a model.

    The position table is resized if the two were built for different input sizes.

    Args:
        model: the model; heads of its own that the checkpoint lacks keep their weights.
        path: the checkpoint.
        heads: heads to take; all that both have if left out.

    Returns:
        Names of the heads that were loaded.

    Raises:
        CheckpointError: a head's keypoints differ from the checkpoint's (names the head and the
            first difference), a wanted head is missing, or a tensor has another shape.
    """
    state, description = load_checkpoint(path)
    backbone, stored = _model_parts(Path(path), description)
    wanted = [name for name in model.head_names if name in stored] if heads is None else heads
    for name in wanted:
        if name not in stored or name not in model.head_names:
            where = "the checkpoint" if name not in stored else "the model"
            raise CheckpointError(f"{path}: {where} has no head '{name}'")
        check_schema(path, name, stored[name].schema, model.head(name).schema)
    prefixes = ("backbone.", *(f"heads.{name}." for name in wanted))
    if model.prototypes is not None and "prototypes" in description["model"]:
        names = [f"prototypes.vectors.{name}." for name in wanted]
        prefixes = (*prefixes, "prototypes.embed.", *names)
    chosen = {name: tensor for name, tensor in state.items() if name.startswith(prefixes)}
    own = {name: t for name, t in model.state_dict().items() if name.startswith(prefixes)}
    _resize_positions(model, backbone, chosen)
    _check_fit(path, chosen, own)
    model.load_state_dict(chosen, strict=False)
    return tuple(wanted)


def check_schema(
    path: str | Path, head: str, stored: KeypointSchema, wanted: KeypointSchema
) -> None:
    """Raise CheckpointError with the first difference if two schemas' keypoints differ."""
    if stored.keypoints == wanted.keypoints:
        return
    pairs = zip(stored.keypoints, wanted.keypoints, strict=False)
    for channel, (theirs, ours) in enumerate(pairs):
        if theirs != ours:
            difference = f"channel {channel} is '{theirs}' there and '{ours}' here"
            break
    else:
        difference = f"it has {len(stored)} keypoints there and {len(wanted)} here"
    raise CheckpointError(
        f"{path}: head '{head}' does not fit its schema: {difference}; "
        "give the head another name to train it afresh, or use the schema it was trained with"
    )


def _model_parts(
    path: Path, description: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, HeadSpec]]:
    try:
        stored = description["model"]
        heads = {name: HeadSpec.from_dict(head) for name, head in stored["heads"].items()}
        backbone = dict(stored["backbone"])
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(
            f"{path}: its description of the model is incomplete ({error})"
        ) from None
    return backbone, heads


def _check_code(path: str | Path, heads: Mapping[str, HeadSpec]) -> None:
    """Raise CheckpointError unless the code that heads name may run and is what was trained."""
    for name, spec in heads.items():
        for parts, config in ((DECODERS, spec.decoder), (CODECS, spec.codec)):
            kind = str(config.get("kind"))
            if is_unpinned_file(kind):
                raise CheckpointError(
                    f"{path}: head '{name}' names the code {kind} without its SHA-256, so nobody "
                    "can say whether it is the code that was trained; it is not run"
                )
            if ":" in kind:
                try:
                    parts.get(kind, f"{path}: head '{name}'")
                except ConfigError as error:
                    raise CheckpointError(str(error)) from None


def _resize_positions(
    model: PoseModel, stored: Mapping[str, Any], chosen: dict[str, Tensor]
) -> None:
    """Resize a position table that was made for another input size than the model's."""
    name = "backbone.vit.pos_embed"
    size = stored.get("input_size")
    if not isinstance(model.backbone, ViTBackbone) or name not in chosen or size is None:
        return
    old = model.backbone.map_size((size[0], size[1]))
    vit: Any = model.backbone.vit
    prefix = chosen[name].shape[1] - old[0] * old[1]
    new = vit.patch_embed.grid_size
    chosen[name] = resize_positions(chosen[name], old, new, max(prefix, 0))


def _check_fit(path: str | Path, chosen: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    adapters = {name for name in own if is_adapter(name)}  # initially a no-op
    for name in dict.fromkeys([*own, *chosen]):  # in the model's order, so always the same fault
        if name in adapters and name not in chosen:
            continue
        if name not in chosen or name not in own:
            where = "the checkpoint" if name not in chosen else "the model"
            raise CheckpointError(f"{path}: {where} has no tensor '{name}'")
        if chosen[name].shape != own[name].shape:
            raise CheckpointError(
                f"{path}: tensor '{name}' is {tuple(chosen[name].shape)} there and "
                f"{tuple(own[name].shape)} here; build the model with the same sizes"
            )
