"""Practice people in COCO's layout: person_keypoints JSON, several people and crowd regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np

from posekit.practice.figures import Label, Scene
from posekit.practice.layout import Layout, Shot, flat_triples, split_offset, write_json
from posekit.practice.scenes import people_scene

KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    *(
        f"{side}_{joint}"
        for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ),
)
_SKELETON = [
    [16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9],
    [8, 10], [9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7],
]  # fmt: skip


class CocoLayout(Layout):
    """annotations/person_keypoints_{train,val}2017.json, train2017/, val2017/."""

    name = "coco"
    splits: ClassVar[dict[str, Literal["train", "eval"]]] = {"train": "train", "val": "eval"}
    figures_per_image = (1, 2, 3, 2)
    size = (240, 320)

    def draw(self, rng: np.random.Generator, shot: Shot) -> Scene:
        """Draw people; every ninth picture also shows a crowd."""
        crowd = shot.number % 9 == 4
        return people_scene(rng, self.count_figures(shot.number), self.size, crowd=crowd)

    def image_file(self, shot: Shot) -> str:
        """Return {split}2017/{id:012}.jpg."""
        return f"{shot.split}2017/{self._image_id(shot):012d}.jpg"

    def record(self, shot: Shot, scene: Scene) -> Any:
        """Return the image's entry and its annotations, still without ids."""
        height, width = scene.image.shape[:2]
        image_id = self._image_id(shot)
        image = {
            "license": 1,
            "file_name": f"{image_id:012d}.jpg",
            "coco_url": "",
            "height": height,
            "width": width,
            "date_captured": "2017-01-01 00:00:00",
            "flickr_url": "",
            "id": image_id,
        }
        annotations = [_annotation(label, image_id) for label in scene.labels]
        if scene.crowd_mask is not None:
            annotations.append(_crowd_annotation(scene.crowd_mask, image_id))
        return {"image": image, "annotations": annotations}

    def write_annotations(self, folder: Path, split: str, records: list[Any]) -> None:
        """Write person_keypoints_{split}2017.json."""
        annotations = [entry for record in records for entry in record["annotations"]]
        first = 1 + split_offset(self, split)
        category = {
            "supercategory": "person",
            "id": 1,
            "name": "person",
            "keypoints": list(KEYPOINTS),
            "skeleton": _SKELETON,
        }
        data = {
            "info": {"description": "posekit practice people", "version": "1.0", "year": 2017},
            "licenses": [{"url": "", "id": 1, "name": "Apache-2.0"}],
            "images": [record["image"] for record in records],
            "annotations": [{**entry, "id": first + i} for i, entry in enumerate(annotations)],
            "categories": [category],
        }
        write_json(folder / f"annotations/person_keypoints_{split}2017.json", data)

    def _image_id(self, shot: Shot) -> int:
        return split_offset(self, shot.split) + shot.number + 1


def _annotation(label: Label, image_id: int) -> dict[str, Any]:
    points, visibility = label.select(KEYPOINTS)
    x0, y0, x1, y1 = label.box_xyxy
    return {
        "segmentation": _polygons(label),
        "num_keypoints": int((visibility > 0).sum()),
        "area": float(label.area),
        "iscrowd": 0,
        "keypoints": flat_triples(points, visibility),
        "image_id": image_id,
        "bbox": [float(x0), float(y0), float(x1 - x0 + 1), float(y1 - y0 + 1)],
        "category_id": 1,
    }


def _crowd_annotation(mask: np.ndarray, image_id: int) -> dict[str, Any]:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    x0, y0, x1, y1 = (int(v) for v in (columns[0], rows[0], columns[-1], rows[-1]))
    return {
        "segmentation": run_lengths(mask),
        "num_keypoints": 0,
        "area": float(np.count_nonzero(mask)),
        "iscrowd": 1,
        "keypoints": [0] * (3 * len(KEYPOINTS)),
        "image_id": image_id,
        "bbox": [float(x0), float(y0), float(x1 - x0 + 1), float(y1 - y0 + 1)],
        "category_id": 1,
    }


def _polygons(label: Label) -> list[list[float]]:
    contours, _ = cv2.findContours(
        label.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    polygons = [c[:, 0].astype(float).ravel().tolist() for c in contours if len(c) >= 3]
    x0, y0, x1, y1 = (float(v) for v in label.box_xyxy)
    return polygons or [[x0, y0, x1, y0, x1, y1, x0, y1]]


def run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """Return COCO's uncompressed run lengths of a mask: columns first, starting with zeros."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], changes, [mask.size]]))
    return {"counts": counts.tolist(), "size": list(mask.shape)}
