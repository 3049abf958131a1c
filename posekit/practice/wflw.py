"""Practice faces in WFLW's layout: one line of 207 columns a face."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from posekit.practice.figures import Label, Scene
from posekit.practice.layout import Layout, Shot, split_offset
from posekit.practice.scenes import face_scene

_LISTS = "WFLW_annotations/list_98pt_rect_attr_train_test"
_EVENTS = ("0--Parade", "7--Cheering", "9--Press_Conference", "20--Family_Group", "36--Football")


class WflwLayout(Layout):
    """WFLW_annotations/list_98pt_rect_attr_train_test/*.txt, WFLW_images/EVENT/."""

    name = "wflw"
    splits: ClassVar[dict[str, Literal["train", "eval"]]] = {"train": "train", "test": "eval"}
    figures_per_image = (1, 1, 1, 2)
    size = (224, 224)

    def draw(self, rng: np.random.Generator, shot: Shot) -> Scene:
        """Draw one face, now and then two."""
        return face_scene(rng, self.count_figures(shot.number), self.size)

    def image_file(self, shot: Shot) -> str:
        """Return WFLW_images/EVENT/NAME.jpg."""
        return f"WFLW_images/{self._image_name(shot)}"

    def record(self, shot: Shot, scene: Scene) -> Any:
        """Return the picture's lines."""
        name = self._image_name(shot)
        return [_line(label, name) for label in scene.labels]

    def write_annotations(self, folder: Path, split: str, records: list[Any]) -> None:
        """Write list_98pt_rect_attr_{split}.txt."""
        file = folder / _LISTS / f"list_98pt_rect_attr_{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [line for record in records for line in record]
        file.write_bytes("".join(f"{line}\n" for line in lines).encode())

    def _image_name(self, shot: Shot) -> str:
        event = _EVENTS[shot.number % len(_EVENTS)]
        number = split_offset(self, shot.split) + shot.number + 1
        return f"{event}/{event.replace('--', '_')}_{number}.jpg"


def _line(label: Label, image: str) -> str:
    points = label.figure.points
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    coordinates = [f"{value:.6f}" for value in points.ravel()]
    rectangle = [f"{int(value)}" for value in (*low, *high)]
    attributes = [f"{int(value)}" for value in label.figure.extras["attributes"]]
    return " ".join([*coordinates, *rectangle, *attributes, image])
