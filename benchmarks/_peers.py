"""Peers that may be installed: imports them, or says in a sentence what is missing."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from types import ModuleType


def peer(name: str) -> ModuleType | None:
    """Import a peer's module; None, after a printed line, if it is not installed or broken."""
    warnings.filterwarnings("ignore")
    if name.startswith("mmpose"):
        _replace_broken_extension()
    try:
        return importlib.import_module(name)
    except Exception as error:
        print(f"  {name} cannot be imported ({type(error).__name__}: {error}); left out")
        return None


def _replace_broken_extension() -> None:
    """Let xtcocotools, which mmpose imports, use pycocotools' mask extension.

    Its own is built against NumPy 1. Nothing that is measured here calls it.
    """
    with contextlib.suppress(ImportError):
        sys.modules.setdefault("xtcocotools._mask", importlib.import_module("pycocotools._mask"))
