"""Fixtures that find the shared reference material, or skip saying so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Tests run side by side (pytest -n); more threads than cores make all of them slow.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


def shared_folder() -> Path:
    """Give the folder with `data/` and `reference/` (POSEKIT_SHARED, or beside the checkout)."""
    named = os.environ.get("POSEKIT_SHARED")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_folder()
    if not (folder / "reference").is_dir():
        pytest.skip(f"no reference material in {folder}; set POSEKIT_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def reference(shared: Path) -> Path:
    return shared / "reference"


@pytest.fixture(scope="session")
def shared_data(shared: Path) -> Path:
    return shared / "data"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two tiny datasets with cards; gives a function from training settings to a Recipe."""
    from tiny import SCHEMAS, tiny_recipe, write_card, write_dataset  # noqa: PLC0415

    from posekit.config.recipe import recipe_from_dict  # noqa: PLC0415

    monkeypatch.setenv("POSEKIT_CARDS", str(tmp_path / "cards"))
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path / "cache"))
    for name in SCHEMAS:
        write_dataset(tmp_path / "data", name)
        write_card(tmp_path / "cards", name)

    def make(out: str = "run", **training):
        return recipe_from_dict(tiny_recipe(tmp_path / "data", tmp_path / out, **training))

    return make
