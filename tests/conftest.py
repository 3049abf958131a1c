"""Fixtures that find the shared reference material, or skip saying so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
