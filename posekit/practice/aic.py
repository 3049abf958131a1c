"""Practice people in AI Challenger's original layout: its JSON with v 1, 2, 3."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from posekit.practice.figures import Label, Scene
from posekit.practice.layout import Layout, Shot, write_json
from posekit.practice.scenes import people_scene

KEYPOINTS = (
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
    "head_top",
    "neck",
)
_FOLDERS = {
    "train": ("ai_challenger_keypoint_train_20170902", "keypoint_train_images_20170902"),
    "val": ("ai_challenger_keypoint_validation_20170911", "keypoint_validation_images_20170911"),
}
_FILES = {
    "train": "keypoint_train_annotations_20170909.json",
    "val": "keypoint_validation_annotations_20170911.json",
}
_OFFICIAL_CODES = np.array([3, 2, 1])  # of 0 not labelled, 1 hidden, 2 visible


class AicLayout(Layout):
    """The two folders of the release, images named by 40 hexadecimal digits."""

    name = "aic"
    splits: ClassVar[dict[str, Literal["train", "eval"]]] = {"train": "train", "val": "eval"}
    figures_per_image = (2, 1, 3, 2)
    size = (240, 320)

    def draw(self, rng: np.random.Generator, shot: Shot) -> Scene:
        """Draw people."""
        return people_scene(rng, self.count_figures(shot.number), self.size)

    def image_file(self, shot: Shot) -> str:
        """Return FOLDER/IMAGES/{40 digits}.jpg."""
        folder, images = _FOLDERS[shot.split]
        return f"{folder}/{images}/{_image_id(shot)}.jpg"

    def record(self, shot: Shot, scene: Scene) -> Any:
        """Return the picture's entry of the official list."""
        people = {f"human{i + 1}": label for i, label in enumerate(scene.labels)}
        return {
            "url": "",
            "image_id": _image_id(shot),
            "keypoint_annotations": {name: _triples(label) for name, label in people.items()},
            "human_annotations": {
                name: [*label.box_xyxy[:2], label.box_xyxy[2] + 1, label.box_xyxy[3] + 1]
                for name, label in people.items()
            },
        }

    def write_annotations(self, folder: Path, split: str, records: list[Any]) -> None:
        """Write the split's JSON list."""
        write_json(folder / _FOLDERS[split][0] / _FILES[split], records)


def _image_id(shot: Shot) -> str:
    text = f"{shot.seed}/{shot.split}/{shot.number}"
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def _triples(label: Label) -> list[int]:
    points, visibility = label.select(KEYPOINTS)
    rounded = np.where(visibility[:, None] > 0, np.rint(points), 0.0)
    codes = _OFFICIAL_CODES[visibility]
    return np.column_stack([rounded, codes]).astype(int).ravel().tolist()
