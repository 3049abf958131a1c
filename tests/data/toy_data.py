"""Small datasets made in the test: images with a bright dot at each labelled keypoint."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from posekit.adapters.base import Instance
from posekit.config.cards import DatasetCard, dataset_card_from_dict

KEYPOINTS = ["nose", "left_hand", "right_hand", "left_foot", "right_foot"]


def make_card(name: str = "toy", **changes) -> DatasetCard:
    data = {
        "name": name,
        "source": "made here",
        "licence": "none",
        "subject": "person",
        "adapter": "tests:read",
        "evaluator": "pck",
        "splits": {"train": {"annotations": "annotations.txt", "images": "images"}},
        "schema": {"keypoints": KEYPOINTS, "upper_body": KEYPOINTS[:3]},
        **changes,
    }
    return dataset_card_from_dict(data, "toy card")


def make_instance(number: int = 0, **changes) -> Instance:
    """A 20 x 40 box with its five keypoints inside, moved a little with the number."""
    x, y = 20.0 + number % 7, 10.0 + number % 5
    offsets = np.array([[10, 4], [2, 16], [18, 18], [6, 37], [14, 38]], np.float32)
    points = offsets + np.array([x, y], np.float32)
    values = {
        "image": f"images/{number}.png",
        "image_id": number,
        "instance_id": number + 1,
        "keypoints": points.astype(np.float32),
        "visibility": np.array([2, 2, 1, 2, 2], np.uint8),
        "box_xywh": np.array([x, y, 20.0, 40.0]),
        "area": 500.0,
        "image_size": (64, 96),
        **changes,
    }
    return Instance(**values)


def paint(instance: Instance) -> np.ndarray:
    """Noise with a dot at each keypoint, red for visible, green for occluded ones (RGB)."""
    noise = np.random.default_rng(instance.image_id if isinstance(instance.image_id, int) else 0)
    image = noise.integers(0, 90, (64, 96, 3), dtype=np.uint8)
    for (x, y), seen in zip(instance.keypoints, instance.visibility, strict=True):
        if seen:
            cv2.circle(
                image, (round(x), round(y)), 1, (255, 0, 0) if seen == 2 else (0, 255, 0), -1
            )
    return image


def write_image(file: Path, rgb: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), rgb[:, :, ::-1])
