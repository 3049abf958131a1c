"""Practice animals in AP-10K's layout: COCO-style JSON with 54 species, split 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from posekit.practice.animal import ANIMAL_KEYPOINTS
from posekit.practice.figures import Label, Scene
from posekit.practice.layout import Layout, Shot, flat_triples, split_offset, write_json
from posekit.practice.scenes import animal_scene

_FAMILIES = (
    ("Bovidae", "antelope, argali sheep, bison, buffalo, cow, sheep"),
    ("Canidae", "arctic fox, dog, fox, wolf"),
    ("Castoridae", "beaver"),
    ("Cercopithecidae", "alouatta, monkey, noisy night monkey, spider monkey, uakari"),
    ("Cervidae", "deer, moose"),
    ("Cricetidae", "hamster"),
    ("Elephantidae", "elephant"),
    ("Equidae", "horse, zebra"),
    (
        "Felidae",
        "bobcat, cat, cheetah, jaguar, king cheetah, leopard, lion, panther, snow leopard, tiger",
    ),
    ("Giraffidae", "giraffe"),
    ("Hippopotamidae", "hippo"),
    ("Hominidae", "chimpanzee, gorilla, orangutan"),
    ("Leporidae", "rabbit"),
    ("Mephitidae", "skunk"),
    ("Muridae", "mouse, rat"),
    ("Mustelidae", "otter, weasel"),
    ("Procyonidae", "raccoon"),
    ("Rhinocerotidae", "rhino"),
    ("Sciuridae", "marmot, squirrel"),
    ("Suidae", "pig"),
    ("Talpidae", "mole"),
    ("Ursidae", "black bear, brown bear, panda, polar bear"),
    ("Vespertilionidae", "bat"),
)
_SPECIES = [(name, family) for family, names in _FAMILIES for name in names.split(", ")]
CATEGORY_IDS = {name: number for number, (name, _) in enumerate(_SPECIES, 1)}
"""The official category id of every species."""

_SKELETON = [
    [1, 2], [1, 3], [2, 3], [3, 4], [4, 5], [4, 6], [6, 7], [7, 8], [4, 9], [9, 10], [10, 11],
    [5, 12], [12, 13], [13, 14], [5, 15], [15, 16], [16, 17],
]  # fmt: skip


class Ap10kLayout(Layout):
    """annotations/ap10k-{train,val,test}-split1.json, data/."""

    name = "ap10k"
    splits: ClassVar[dict[str, Literal["train", "eval"]]] = {
        "train": "train",
        "val": "eval",
        "test": "eval",
    }
    figures_per_image = (1, 1, 1, 2)
    size = (240, 288)

    def draw(self, rng: np.random.Generator, shot: Shot) -> Scene:
        """Draw one animal, now and then two."""
        return animal_scene(rng, self.count_figures(shot.number), self.size)

    def image_file(self, shot: Shot) -> str:
        """Return data/{id:012}.jpg."""
        return f"data/{self._image_id(shot):012d}.jpg"

    def record(self, shot: Shot, scene: Scene) -> Any:
        """Return the image's entry and its annotations, still without ids."""
        height, width = scene.image.shape[:2]
        image_id = self._image_id(shot)
        image = {
            "license": 1,
            "id": image_id,
            "file_name": f"{image_id:012d}.jpg",
            "width": width,
            "height": height,
            "background": 1,
        }
        return {"image": image, "annotations": [_annotation(a, image_id) for a in scene.labels]}

    def write_annotations(self, folder: Path, split: str, records: list[Any]) -> None:
        """Write ap10k-{split}-split1.json."""
        annotations = [entry for record in records for entry in record["annotations"]]
        first = 1 + split_offset(self, split)
        data = {
            "info": {"description": "posekit practice animals", "version": "1.0", "year": 2021},
            "licenses": [{"id": 1, "name": "Apache-2.0", "url": ""}],
            "images": [record["image"] for record in records],
            "annotations": [{"id": first + i, **entry} for i, entry in enumerate(annotations)],
            "categories": [
                {
                    "id": CATEGORY_IDS[name],
                    "name": name,
                    "supercategory": family,
                    "keypoints": list(ANIMAL_KEYPOINTS),
                    "skeleton": _SKELETON,
                }
                for name, family in _SPECIES
            ],
        }
        write_json(folder / f"annotations/ap10k-{split}-split1.json", data)

    def _image_id(self, shot: Shot) -> int:
        return split_offset(self, shot.split) + shot.number + 1


def _annotation(label: Label, image_id: int) -> dict[str, Any]:
    points, visibility = label.select(ANIMAL_KEYPOINTS)
    x0, y0, x1, y1 = label.box_xyxy
    width, height = x1 - x0 + 1, y1 - y0 + 1
    return {
        "image_id": image_id,
        "category_id": CATEGORY_IDS[label.figure.category],
        "bbox": [x0, y0, width, height],
        "area": width * height,  # the official files hold the box's area, not the segment's
        "iscrowd": 0,
        "num_keypoints": int((visibility > 0).sum()),
        "keypoints": flat_triples(points, visibility),
    }
