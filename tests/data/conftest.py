"""A fixture that writes small datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toy_data import make_card, make_instance, paint, write_image

from posekit.adapters.base import Instance
from posekit.config.cards import DatasetCard
from posekit.data.index import PoseIndex, build_index


@pytest.fixture
def make_index(tmp_path: Path) -> Callable[..., PoseIndex]:
    """Give a function that writes a dataset and opens its index."""

    def make(
        count: int = 8,
        name: str = "toy",
        *,
        instances: list[Instance] | None = None,
        images: bool = True,
        card: DatasetCard | None = None,
        exclude: tuple[str | int, ...] = (),
    ) -> PoseIndex:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        made = instances if instances is not None else [make_instance(i) for i in range(count)]
        (root / "annotations.txt").write_text(name * (len(made) + 1))
        for one in made if images else ():
            if not (root / one.image).exists():
                write_image(root / one.image, paint(one))

        def read(*_) -> Iterator[Instance]:
            return iter(made)

        return build_index(
            card or make_card(name),
            root,
            "train",
            tmp_path / "cache",
            exclude=exclude,
            adapter=read,
        )

    return make
