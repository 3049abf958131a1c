"""A small COCO-style dataset of noise photographs, one person each, written to a folder."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from posekit.config.cards import DatasetCard, dataset_card_from_dict


def write_scenes(folder: Path, images: int, keypoints: int) -> DatasetCard:
    """Write `images` JPEGs of 640x480 with annotations of one person each; gives their card.

    The noise is smoothed at several scales so that a JPEG of quality 90 has about 100 kB, as a
    COCO photograph of this size has.
    """
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    records, people = [], []
    for number in range(images):
        picture = sum(
            cv2.resize(rng.normal(0, gain, (h, w, 3)), (640, 480), interpolation=cv2.INTER_CUBIC)
            for gain, h, w in ((60, 6, 8), (30, 48, 64), (14, 240, 320), (7, 480, 640))
        )
        pixels = np.clip(picture + 128, 0, 255).astype(np.uint8)
        file = folder / "images" / f"{number}.jpg"
        cv2.imwrite(str(file), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
        width, height = rng.uniform(80, 200), rng.uniform(150, 330)
        x, y = rng.uniform(0, 640 - width), rng.uniform(0, 480 - height)
        points = rng.uniform(0, 1, (keypoints, 2)) * (width, height) + (x, y)
        flat = np.column_stack([points, np.full(keypoints, 2)]).ravel()
        records.append({"id": number, "file_name": file.name, "width": 640, "height": 480})
        people.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "bbox": [x, y, width, height],
                "keypoints": flat.tolist(),
                "num_keypoints": keypoints,
                "area": width * height,
                "iscrowd": 0,
            }
        )
    names = [f"p{i}" for i in range(keypoints)]
    category = {"id": 1, "name": "person", "keypoints": names, "skeleton": []}
    data = {"images": records, "annotations": people, "categories": [category]}
    (folder / "train.json").write_text(json.dumps(data), encoding="utf-8")
    return dataset_card_from_dict(
        {
            "name": f"scenes{keypoints}",
            "source": "made here",
            "licence": "none",
            "subject": "person",
            "adapter": "coco_json",
            "evaluator": "pck",
            "splits": {"train": {"annotations": "train.json", "images": "images"}},
            "schema": {"keypoints": names, "upper_body": names[: keypoints // 2]},
        },
        "benchmark card",
    )
