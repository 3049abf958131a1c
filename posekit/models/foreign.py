"""Read other projects' weight files under timm's names.

Known layouts: ViTPose, ViTPose+ (and what its split tool writes) and PoseBH, MAE pre-training and
timm files, transformers folders, and posekit's own checkpoints.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from posekit.errors import CheckpointError
from posekit.models.checkpoint_file import check_is_file, load_checkpoint, read_description
from posekit.models.ledger import Ledger

Layout = Literal["official", "plain", "transformers", "posekit"]


@dataclass
class ForeignWeights:
    """Tensors of a foreign file under timm's names, each with the names that it comes from.

    Attributes:
        layout: 'official' (ViTPose), 'plain' (a bare ViT: MAE or timm), 'transformers', 'posekit'.
        backbone: name within the ViT -> tensor; last_norm is `norm`.
        heads: position in the file -> name within the decoder -> tensor.
        origin: ('backbone' or head position, name) -> names in the file.
        ledger: what has been left out so far.
        sources: all names in the file.
        config: settings that came along (transformers' config.json, posekit's backbone).
    """

    layout: Layout
    ledger: Ledger
    sources: tuple[str, ...]
    backbone: dict[str, Tensor] = field(default_factory=dict)
    heads: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    origin: dict[tuple[str | int, str], tuple[str, ...]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def put(self, place: str | int, name: str, tensor: Tensor, *sources: str) -> None:
        """Store a tensor of the backbone or of head number `place`."""
        group = self.backbone if place == "backbone" else self.heads.setdefault(int(place), {})
        group[name] = tensor.float() if tensor.is_floating_point() else tensor
        self.origin[place, name] = sources


def read_foreign(path: str | Path) -> ForeignWeights:
    """Read a weight file or a transformers folder.

    Raises:
        CheckpointError: no such file, truncated, a pickle that holds code, or no known layout.
    """
    path = Path(path)
    if path.is_dir():
        return _read_transformers(path)
    check_is_file(path)
    if path.suffix != ".safetensors":
        return sort_tensors(path, _unwrap(path, _load_pickle(path)))
    found = sort_tensors(path, _load_safetensors(path))
    if found.layout == "posekit":
        found.config = read_description(path)["model"]["backbone"]
    return found


def sort_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> ForeignWeights:
    """Sort tensors of ViTPose's, a bare ViT's or posekit's layout by their names."""
    names = tuple(tensors)
    ledger = Ledger(str(path))
    if any(name.startswith("backbone.vit.") for name in names):
        found = ForeignWeights("posekit", ledger, names)
    elif any(name.startswith("backbone.") for name in names):
        found = ForeignWeights("official", ledger, names)
    elif any(name.startswith("blocks.") for name in names):
        found = ForeignWeights("plain", ledger, names)
    else:
        raise CheckpointError(
            f"{path}: no known layout (first tensor '{names[0] if names else 'none'}'); known are "
            "ViTPose, ViTPose+, MAE and timm files, transformers folders and posekit checkpoints"
        )
    for name, tensor in tensors.items():
        _place(found, name, tensor)
    return found


_ASSOCIATE = re.compile(r"associate_keypoint_heads\.(\d+)\.(.+)")
_NOT_NEEDED = {
    "head": "the classifier of its pre-training",
    "fc_norm": "norm of the classifier of its pre-training",
    "mask_token": "only for masked pre-training",
    "decoder_pos_embed": "only for masked pre-training",
    "decoder_embed": "only for masked pre-training",
    "decoder_blocks": "only for masked pre-training",
    "decoder_norm": "only for masked pre-training",
    "decoder_pred": "only for masked pre-training",
}


def input_size_of(found: ForeignWeights) -> tuple[int, int] | None:
    """Return the (height, width) that the position table was made for, if the file states it."""
    stated = found.config.get("input_size")
    stated = stated or found.config.get("backbone_config", {}).get("image_size")
    return None if stated is None else (int(stated[0]), int(stated[1]))


def _place(found: ForeignWeights, name: str, tensor: Tensor) -> None:
    if found.layout == "posekit":
        if name.startswith("backbone.vit."):
            found.put("backbone", name.removeprefix("backbone.vit."), tensor, name)
        else:
            found.ledger.leave(name, "no part of the backbone")
    elif found.layout == "plain":
        reason = _NOT_NEEDED.get(name.split(".", maxsplit=1)[0])
        if reason:
            found.ledger.leave(name, reason)
        else:
            found.put("backbone", name, tensor, name)
    elif name.startswith("backbone."):
        inside = name.removeprefix("backbone.").replace("last_norm.", "norm.")
        found.put("backbone", inside, tensor, name)
    elif name.startswith("keypoint_head."):
        found.put(0, name.removeprefix("keypoint_head."), tensor, name)
    elif name.startswith("proto_head."):
        found.ledger.leave(name, "PoseBH's embedding head: maps come from the keypoint heads alone")
    elif match := _ASSOCIATE.fullmatch(name):
        found.put(int(match[1]) + 1, match[2], tensor, name)


def _load_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: this pickle holds objects other than tensors, which could run code; "
            "nothing is loaded (save its state_dict alone, on a machine that trusts it)"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{path}: not a whole PyTorch file ({reason}); it may be truncated, fetch it again"
        ) from None


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError):
        return load_checkpoint(path)[0]  # fails again, with the sentence for it


def _unwrap(path: Path, loaded: Any) -> dict[str, Tensor]:
    for key in ("state_dict", "model", "module"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"{path}: found {type(loaded).__name__}, expected named tensors")
    strange = [name for name, value in loaded.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(
            f"{path}: '{strange[0]}' is a {type(loaded[strange[0]]).__name__}, expected a tensor"
        )
    tensors = {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}
    if min(tensors).startswith("encoder."):
        tensors = {name.removeprefix("encoder."): tensor for name, tensor in tensors.items()}
    return tensors


TRANSFORMERS_BACKBONE = (
    ("pos_embed", "embeddings.position_embeddings"),
    ("patch_embed.proj.*", "embeddings.patch_embeddings.projection.*"),
    ("blocks.*.attn.proj.*", "encoder.layer.*.attention.output.dense.*"),
    ("blocks.*.norm1.*", "encoder.layer.*.layernorm_before.*"),
    ("blocks.*.norm2.*", "encoder.layer.*.layernorm_after.*"),
    ("blocks.*.mlp.*", "encoder.layer.*.mlp.*"),
    ("norm.*", "layernorm.*"),
)
"""Names of the backbone's tensors here and in transformers; a * is the same text in both."""
TRANSFORMERS_HEAD = (
    ("final_layer.*", "conv.*"),
    ("deconv_layers.0.*", "deconv1.*"),
    ("deconv_layers.1.*", "batchnorm1.*"),
    ("deconv_layers.3.*", "deconv2.*"),
    ("deconv_layers.4.*", "batchnorm2.*"),
)
_QUERY = re.compile(r"backbone\.encoder\.layer\.(\d+)\.attention\.attention\.query\.(\w+)")


def _read_transformers(folder: Path) -> ForeignWeights:
    config_file, weights = folder / "config.json", folder / "model.safetensors"
    for file in (config_file, weights):
        if not file.is_file():
            raise CheckpointError(f"{folder}: not a transformers folder, it has no {file.name}")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError:
        raise CheckpointError(f"{config_file}: not valid JSON") from None
    if config.get("model_type") != "vitpose":
        raise CheckpointError(
            f"{config_file}: model_type is {config.get('model_type')!r}, expected 'vitpose'"
        )
    tensors = _load_safetensors(weights)
    found = ForeignWeights("transformers", Ledger(str(folder)), tuple(tensors), config=config)
    for name, tensor in tensors.items():
        _place_transformers(found, tensors, name, tensor)
    return found


def _place_transformers(
    found: ForeignWeights, tensors: Mapping[str, Tensor], name: str, tensor: Tensor
) -> None:
    if match := _QUERY.fullmatch(name):
        names = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in tensors for part in names):
            joined = torch.cat([tensors[part] for part in names])
            found.put("backbone", f"blocks.{match[1]}.attn.qkv.{match[2]}", joined, *names)
        return
    kind, _, rest = name.partition(".")
    place, table = (0, TRANSFORMERS_HEAD) if kind == "head" else ("backbone", TRANSFORMERS_BACKBONE)
    if target := translate(rest, [(theirs, ours) for ours, theirs in table]):
        found.put(place, target, tensor, name)


def translate(name: str, patterns: Iterable[tuple[str, str]]) -> str | None:
    """Return a name by the first of some (old, new) patterns that fits; None if none does."""
    for old, new in patterns:
        if match := re.fullmatch(re.escape(old).replace(r"\*", "(.+?)"), name):
            return new.replace("*", "{}").format(*match.groups())
    return None
