"""The file form of a checkpoint: safetensors with a JSON description in the header."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from posekit.errors import CheckpointError
from posekit.output import atomic_file

FORMAT = 1
HEADER = "posekit"


def read_description(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint's description without its tensors; CheckpointError if it is none."""
    return _open(Path(path), with_tensors=False)[1]


def checkpoint_file(path: str | Path) -> AbstractContextManager[Path]:
    """Yield a temporary file that replaces `path` once it is whole and on disk.

    Raises:
        CheckpointError: the file cannot be written; the file from before is intact.
    """
    # torch reports a full disk as RuntimeError, safetensors in an error of its own.
    return atomic_file(path, error=CheckpointError, also=(SafetensorError, RuntimeError))


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load a checkpoint's tensors (on the CPU) and its description.

    Raises:
        CheckpointError: there is no such file, it is truncated, or no posekit checkpoint.
    """
    return _open(Path(path), with_tensors=True)


def _open(path: Path, with_tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    check_is_file(path)
    state: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(HEADER)
            if with_tensors and text is not None:
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(_unreadable(path, error)) from None
    if text is None:
        raise CheckpointError(
            f"{path}: a safetensors file without a posekit description, so from another project; "
            "bring it over with `posekit convert`"
        )
    return state, _parse(path, text)


def check_is_file(path: Path) -> None:
    """Raise CheckpointError unless there is a file of some length."""
    if not path.is_file():
        found = "a folder, not a file" if path.is_dir() else "there is no such file"
        raise CheckpointError(f"{path}: {found}")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path}: the file is empty")


def _unreadable(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        return (
            f"{path}: a PyTorch pickle file, not a posekit checkpoint; "
            "bring it over with `posekit convert`"
        )
    return (
        f"{path}: not a whole safetensors file ({str(error).splitlines()[0]}); "
        "it may be truncated, copy it again or take an earlier checkpoint"
    )


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        description = json.loads(text)
        version = description["format"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path}: its description cannot be read") from None
    if version > FORMAT:
        raise CheckpointError(
            f"{path}: written by posekit {description.get('posekit_version')} in format "
            f"{version}, this posekit reads up to {FORMAT}; update posekit"
        )
    return description
