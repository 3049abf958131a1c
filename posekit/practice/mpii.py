"""Practice people in MPII's layout: JSON counted from 1, MATLAB ground truth with head boxes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from scipy.io import savemat

from posekit.practice.figures import Label, Scene
from posekit.practice.layout import Layout, Shot, split_offset, write_json
from posekit.practice.rng import generator
from posekit.practice.scenes import people_scene

KEYPOINTS = (
    "right_ankle",
    "right_knee",
    "right_hip",
    "left_hip",
    "left_knee",
    "left_ankle",
    "pelvis",
    "thorax",
    "upper_neck",
    "head_top",
    "right_wrist",
    "right_elbow",
    "right_shoulder",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
)
_MAT_NAMES = (
    "rank", "rkne", "rhip", "lhip", "lkne", "lank", "pelv", "thor",
    "neck", "head", "rwri", "relb", "rsho", "lsho", "lelb", "lwri",
)  # fmt: skip
_MAT_HEADER = b"MATLAB 5.0 MAT-file, posekit practice data"


class MpiiLayout(Layout):
    """annotations/mpii_{train,val}.json, annotations/mpii_gt_val.mat, images/."""

    name = "mpii"
    splits: ClassVar[dict[str, Literal["train", "eval"]]] = {"train": "train", "val": "eval"}
    figures_per_image = (1, 1, 1, 2)
    size = (256, 256)

    def draw(self, rng: np.random.Generator, shot: Shot) -> Scene:
        """Draw one person, now and then two."""
        return people_scene(rng, self.count_figures(shot.number), self.size)

    def image_file(self, shot: Shot) -> str:
        """Return images/{number:09}.jpg."""
        return f"images/{self._image_name(shot)}"

    def record(self, shot: Shot, scene: Scene) -> Any:
        """Return the people of the picture: the JSON's entry and the head's box of each."""
        rng = generator(shot.seed, self.name, "framing", shot.split, shot.number)
        name = self._image_name(shot)
        return [_person(label, name, rng) for label in scene.labels]

    def write_annotations(self, folder: Path, split: str, records: list[Any]) -> None:
        """Write mpii_{split}.json, and for val the MATLAB file beside it."""
        people = [person for record in records for person in record]
        entries = [person["entry"] for person in people]
        write_json(folder / f"annotations/mpii_{split}.json", entries)
        if split == "val":
            heads = [person["head_box"] for person in people]
            (folder / "annotations/mpii_gt_val.mat").write_bytes(_ground_truth(entries, heads))

    def _image_name(self, shot: Shot) -> str:
        return f"{split_offset(self, shot.split) + shot.number + 1:09d}.jpg"


def _person(label: Label, image: str, rng: np.random.Generator) -> dict[str, Any]:
    """Describe a person as MPII does: a rough centre and a height in units of 200 pixels."""
    points, visibility = label.select(KEYPOINTS)
    labelled = visibility > 0
    joints = np.where(labelled[:, None], np.rint(points) + 1.0, -1.0)
    x0, y0, x1, y1 = label.box_xyxy
    side = max(x1 - x0 + 1, y1 - y0 + 1)
    scale = round(side * rng.uniform(0.8, 1.15) / 200, 6)
    jitter = rng.normal(0, 0.06, 2).clip(-0.15, 0.15) * side
    # Users of the files move the centre down by 15 x scale, so it is given that much higher.
    center = (
        np.rint(0.5 * (x0 + x1) + jitter[0]),
        np.rint(0.5 * (y0 + y1) + jitter[1] - 15 * scale),
    )
    return {
        "entry": {
            "joints_vis": labelled.astype(int).tolist(),
            "joints": joints.tolist(),
            "image": image,
            "scale": scale,
            "center": [float(center[0]) + 1.0, float(center[1]) + 1.0],
        },
        "head_box": (np.rint(label.figure.extras["head_box_xyxy"]) + 1.0).tolist(),
    }


def _ground_truth(entries: list[dict[str, Any]], heads: list[list[float]]) -> bytes:
    """Return mpii_gt_val.mat: the arrays that PCKh needs, columns in the order of the JSON."""
    joints = np.array([entry["joints"] for entry in entries], dtype=np.float64)
    labelled = np.array([entry["joints_vis"] for entry in entries], dtype=np.float64)
    names = np.empty((1, len(_MAT_NAMES)), dtype=object)
    names[0] = list(_MAT_NAMES)
    file = io.BytesIO()
    savemat(
        file,
        {
            "dataset_joints": names,
            "jnt_missing": 1.0 - labelled.T,
            "pos_gt_src": joints.transpose(1, 2, 0),
            "headboxes_src": np.array(heads).reshape(-1, 2, 2).transpose(1, 2, 0),
        },
    )
    data = bytearray(file.getvalue())
    data[:116] = _MAT_HEADER.ljust(116)  # scipy writes the time of day there
    return bytes(data)
