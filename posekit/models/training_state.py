"""The state that exact resume needs beside the weights: optimiser, averages, generators."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from posekit.errors import CheckpointError
from posekit.models.checkpoint_file import check_is_file, checkpoint_file

_PLAIN = (type(None), bool, int, float, str, torch.Tensor)


def save_training_state(
    path: str | Path, state: Mapping[str, Any], previous: str | Path | None = None
) -> None:
    """Save nested dicts, lists and tuples of tensors and plain values, atomically.

    Args:
        path: the file.
        state: what is saved.
        previous: where the file that stood at `path` moves, once the new one is written.

    Raises:
        TypeError: another kind of value, which a safe load would refuse; names its place.
        CheckpointError: the file cannot be written; the file from before is intact.
    """
    _check_plain(state, "state")
    with checkpoint_file(path) as temporary:
        torch.save(dict(state), temporary)
        if previous is not None and Path(path).exists():
            os.replace(path, previous)


def load_training_state(path: str | Path) -> dict[str, Any]:
    """Load what save_training_state wrote, on the CPU, without running code from the file.

    Raises:
        CheckpointError: there is no such file, it is truncated, or holds code.
    """
    check_is_file(Path(path))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError) as error:
        found = "holds objects that could run code" if "nsupported" in str(error) else "is damaged"
        raise CheckpointError(f"{path}: this training state {found}; nothing loaded") from None
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path}: not a whole training state ({reason}); take an earlier checkpoint"
        ) from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: found {type(state).__name__}, expected a training state")
    return state


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_plain(inner, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            _check_plain(inner, f"{where}[{position}]")
    elif type(value) not in _PLAIN and not isinstance(value, torch.Tensor):
        raise TypeError(f"{where} is a {type(value).__name__}, expected tensors and plain values")
