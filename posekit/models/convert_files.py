"""From one file to another: whichever way the two ends ask for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from posekit.errors import CheckpointError, ConfigError
from posekit.models.checkpoint import load_model, save_checkpoint
from posekit.models.checkpoint_file import read_description
from posekit.models.convert import convert
from posekit.models.foreign_export import export_official, export_transformers
from posekit.models.ledger import Ledger
from posekit.models.pose_model import HeadSpec


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
    made = convert(source, heads, num_heads=num_heads)
    account = {"source": source.name, "tensors": made.ledger.counts()}
    save_checkpoint(target, made.model, {"converted": account})
    return made.ledger


def _is_checkpoint(path: Path) -> bool:
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        read_description(path)
    except CheckpointError:
        return False
    return True
