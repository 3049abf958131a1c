"""What the writers of the practice datasets have in common."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from posekit.practice.figures import Scene
from posekit.practice.rng import generator


@dataclass(frozen=True)
class Shot:
    """Which picture of which split: the key of everything that is drawn for it."""

    seed: int
    split: str
    number: int


class Layout(ABC):
    """A dataset's official folder layout and file format.

    Attributes:
        name: the dataset's name, which is also its folder.
        splits: split -> whether it takes its size from training or evaluation.
        figures_per_image: figures of one picture after another, repeated.
        size: (height, width) of the pictures.
    """

    name: ClassVar[str]
    splits: ClassVar[dict[str, Literal["train", "eval"]]]
    figures_per_image: ClassVar[tuple[int, ...]]
    size: ClassVar[tuple[int, int]]

    def shots(self, seed: int, split: str, instances: int) -> list[Shot]:
        """Return the pictures that together show at least `instances` figures."""
        shots: list[Shot] = []
        shown = 0
        while shown < instances:
            shown += self.count_figures(len(shots))
            shots.append(Shot(seed, split, len(shots)))
        return shots

    def count_figures(self, number: int) -> int:
        """Return how many figures picture `number` of any split shows."""
        return self.figures_per_image[number % len(self.figures_per_image)]

    def render(self, shot: Shot) -> Scene:
        """Draw one picture, from its key alone."""
        rng = generator(shot.seed, self.name, shot.split, shot.number)
        return self.draw(rng, shot)

    @abstractmethod
    def draw(self, rng: np.random.Generator, shot: Shot) -> Scene:
        """Draw the picture with its own generator."""

    @abstractmethod
    def image_file(self, shot: Shot) -> str:
        """Return the picture's path below the dataset's folder."""

    @abstractmethod
    def record(self, shot: Shot, scene: Scene) -> Any:
        """Return the annotations of one picture as plain numbers, lists and dictionaries."""

    @abstractmethod
    def write_annotations(self, folder: Path, split: str, records: list[Any]) -> None:
        """Write a split's annotation files from the records of its pictures, in order."""


def write_json(file: Path, data: Any) -> None:
    """Write compact JSON, making the folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data, separators=(",", ":")), encoding="utf-8")


def split_offset(layout: Layout, split: str) -> int:
    """Return a number that keeps image numbers of different splits apart."""
    return 100_000 * list(layout.splits).index(split)


def flat_triples(points: np.ndarray, visibility: np.ndarray) -> list[int]:
    """Return x1, y1, v1, x2, ... in whole pixels, zeros where v is 0, as COCO files hold them."""
    rounded = np.where(visibility[:, None] > 0, np.rint(points), 0.0)
    return np.column_stack([rounded, visibility]).astype(int).ravel().tolist()
