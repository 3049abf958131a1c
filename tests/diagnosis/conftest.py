"""Practice data, rendered once for all tests of the checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from posekit.config.cards import load_dataset_card
from posekit.data.index import PoseIndex, build_index
from posekit.practice import PracticeSizes, write_practice_data

PRACTICE = ("coco", "ap10k", "wflw")


@pytest.fixture(scope="session")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with clean practice datasets."""
    folder = tmp_path_factory.mktemp("practice")
    write_practice_data(folder, 3, PracticeSizes(110, 30), PRACTICE)
    return folder


@pytest.fixture(scope="session")
def practice_index(
    practice: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., PoseIndex]:
    """Give a function that opens a split of the practice data."""
    cache = tmp_path_factory.mktemp("cache")

    def open_split(name: str, split: str = "train") -> PoseIndex:
        return build_index(load_dataset_card(name), practice / name, split, cache)

    return open_split
