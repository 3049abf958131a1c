"""The official folder layouts and annotation files in which the practice pictures are written."""

from __future__ import annotations

import hashlib
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from scipy.io import savemat

from posekit.practice.animal import ANIMAL_KEYPOINTS
from posekit.practice.figures import Label, Scene, tight_box
from posekit.practice.scenes import animal_scene, face_scene, people_scene


def generator(seed: int, *keys: str | int) -> np.random.Generator:
    """Return the generator that belongs to (seed, keys) alone, whatever was drawn before."""
    text = "\x1f".join([str(seed), *(str(key) for key in keys)])
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def _both(*joints: str) -> tuple[str, ...]:
    return tuple(f"{side}_{joint}" for joint in joints for side in ("left", "right"))


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
        image: template of their paths, of {split} and {id}.
        scene: draws a picture.
    """

    name: ClassVar[str]
    splits: ClassVar[dict[str, Literal["train", "eval"]]] = {"train": "train", "val": "eval"}
    figures_per_image: ClassVar[tuple[int, ...]] = (1, 1, 1, 2)
    size: ClassVar[tuple[int, int]]
    image: ClassVar[str]
    scene: ClassVar[Callable[..., Scene]] = staticmethod(people_scene)

    def shots(self, seed: int, split: str, instances: int) -> list[Shot]:
        """Return the pictures that together show at least `instances` figures."""
        shown = np.cumsum([self.count_figures(number) for number in range(instances)])
        needed = 1 + int(np.searchsorted(shown, instances))
        return [Shot(seed, split, number) for number in range(needed)]

    def count_figures(self, number: int) -> int:
        """Return how many figures picture `number` of any split shows."""
        return self.figures_per_image[number % len(self.figures_per_image)]

    def image_id(self, shot: Shot) -> int:
        """Return the picture's number, from 1, which no other split uses."""
        return 100_000 * list(self.splits).index(shot.split) + shot.number + 1

    def render(self, shot: Shot, **options: bool) -> Scene:
        """Draw one picture, from its key alone."""
        rng = generator(shot.seed, self.name, shot.split, shot.number)
        return self.scene(rng, self.count_figures(shot.number), self.size, **options)

    def image_file(self, shot: Shot) -> str:
        """Return the picture's path below the dataset's folder."""
        return self.image.format(split=shot.split, id=self.image_id(shot))

    @abstractmethod
    def record(self, shot: Shot, scene: Scene) -> Any:
        """Return the annotations of one picture as plain numbers, lists and dictionaries."""

    @abstractmethod
    def write_annotations(self, folder: Path, split: str, records: list[Any]) -> None:
        """Write a split's annotation files from the records of its pictures, in order."""


class CocoStyleLayout(Layout):
    """JSON with images, annotations and categories, as COCO and AP-10K have it."""

    keypoints: ClassVar[tuple[str, ...]]
    annotation_file: ClassVar[str]
    image_extras: ClassVar[dict[str, Any]]
    description: ClassVar[str]
    year: ClassVar[int]
    categories: ClassVar[Sequence[tuple[str, str]]]
    skeleton: ClassVar[list[list[int]]]

    def record(self, shot: Shot, scene: Scene) -> Any:
        """Return the image's entry and its annotations, still without ids."""
        height, width = scene.image.shape[:2]
        image_id = self.image_id(shot)
        name = Path(self.image_file(shot)).name
        image = {"license": 1, "id": image_id, "file_name": name, "width": width, "height": height}
        annotations = [self.annotation(label) for label in scene.labels]
        if scene.crowd_mask is not None:
            annotations.append(self.crowd(scene.crowd_mask))
        annotations = [{"image_id": image_id, **entry} for entry in annotations]
        return {"image": {**image, **self.image_extras}, "annotations": annotations}

    def annotation(self, label: Label) -> dict[str, Any]:
        """Return what both datasets say of a figure; the area is that of its box."""
        points, visibility = label.select(self.keypoints)
        return {
            "category_id": 1 + [name for name, _ in self.categories].index(label.figure.category),
            **_box_entries(label.box_xyxy),
            "iscrowd": 0,
            "num_keypoints": int((visibility > 0).sum()),
            "keypoints": _flat_triples(points, visibility, visibility),
        }

    def crowd(self, mask: np.ndarray) -> dict[str, Any]:
        """Return the annotation of a crowd that is marked as a region."""
        return {
            "category_id": 1,
            **_box_entries(tight_box(mask)),
            "area": float(np.count_nonzero(mask)),
            "iscrowd": 1,
            "num_keypoints": 0,
            "keypoints": [0] * (3 * len(self.keypoints)),
            "segmentation": _run_lengths(mask),
        }

    def write_annotations(self, folder: Path, split: str, records: list[Any]) -> None:
        """Write the split's JSON, with annotations numbered on."""
        annotations = [entry for record in records for entry in record["annotations"]]
        first = self.image_id(Shot(0, split, 0))  # as large as the first picture's number
        data = {
            "info": {"description": self.description, "version": "1.0", "year": self.year},
            "licenses": [{"id": 1, "name": "Apache-2.0", "url": ""}],
            "images": [record["image"] for record in records],
            "annotations": [{"id": first + i, **entry} for i, entry in enumerate(annotations)],
            "categories": [
                {
                    "id": number,
                    "name": name,
                    "supercategory": family,
                    "keypoints": list(self.keypoints),
                    "skeleton": self.skeleton,
                }
                for number, (name, family) in enumerate(self.categories, 1)
            ],
        }
        _write_json(folder / self.annotation_file.format(split=split), data)


class CocoLayout(CocoStyleLayout):
    """annotations/person_keypoints_{train,val}2017.json, train2017/, val2017/."""

    name = "coco"
    figures_per_image = (1, 2, 3, 2)
    size = (240, 320)
    image = "{split}2017/{id:012d}.jpg"
    keypoints = ("nose", *_both("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
    annotation_file = "annotations/person_keypoints_{split}2017.json"
    _taken = "2017-01-01 00:00:00"
    image_extras: ClassVar = {"coco_url": "", "date_captured": _taken, "flickr_url": ""}
    description, year = "posekit practice people", 2017
    categories = (("person", "person"),)
    skeleton: ClassVar = [
        [16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9],
        [8, 10], [9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7],
    ]  # fmt: skip

    def render(self, shot: Shot, **options: bool) -> Scene:
        """Draw people; every ninth picture also shows a crowd."""
        return super().render(shot, crowd=shot.number % 9 == 4, **options)

    def annotation(self, label: Label) -> dict[str, Any]:
        """Return a person's entry, with the area and outline of what can be seen."""
        exact = {"area": float(label.area), "segmentation": _polygons(label)}
        return {**super().annotation(label), **exact}


# AP-10K's categories in the order of their ids: every family with its species.
_SPECIES = """Bovidae: antelope, argali sheep, bison, buffalo, cow, sheep
Canidae: arctic fox, dog, fox, wolf
Castoridae: beaver
Cercopithecidae: alouatta, monkey, noisy night monkey, spider monkey, uakari
Cervidae: deer, moose
Cricetidae: hamster
Elephantidae: elephant
Equidae: horse, zebra
Felidae: bobcat, cat, cheetah, jaguar, king cheetah, leopard, lion, panther, snow leopard, tiger
Giraffidae: giraffe
Hippopotamidae: hippo
Hominidae: chimpanzee, gorilla, orangutan
Leporidae: rabbit
Mephitidae: skunk
Muridae: mouse, rat
Mustelidae: otter, weasel
Procyonidae: raccoon
Rhinocerotidae: rhino
Sciuridae: marmot, squirrel
Suidae: pig
Talpidae: mole
Ursidae: black bear, brown bear, panda, polar bear
Vespertilionidae: bat"""


class Ap10kLayout(CocoStyleLayout):
    """annotations/ap10k-{train,val,test}-split1.json, data/."""

    name = "ap10k"
    splits: ClassVar = {"train": "train", "val": "eval", "test": "eval"}
    size = (240, 288)
    image = "data/{id:012d}.jpg"
    scene = staticmethod(animal_scene)
    keypoints = ANIMAL_KEYPOINTS
    annotation_file = "annotations/ap10k-{split}-split1.json"
    image_extras: ClassVar = {"background": 1}
    description, year = "posekit practice animals", 2021
    skeleton: ClassVar = [
        [1, 2], [1, 3], [2, 3], [3, 4], [4, 5], [4, 6], [6, 7], [7, 8], [4, 9], [9, 10], [10, 11],
        [5, 12], [12, 13], [13, 14], [5, 15], [15, 16], [16, 17],
    ]  # fmt: skip
    categories = tuple(
        (name, family)
        for family, _, names in (line.partition(": ") for line in _SPECIES.splitlines())
        for name in names.split(", ")
    )


class AicLayout(Layout):
    """AI Challenger's two folders, images named by 40 hexadecimal digits, v 1, 2 and 3."""

    name = "aic"
    figures_per_image = (2, 1, 3, 2)
    size = (240, 320)
    keypoints = (
        *("right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow"),
        *("left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee"),
        *("left_ankle", "head_top", "neck"),
    )
    _names: ClassVar = {
        "train": ("train", "20170902", "20170909"),
        "val": ("validation", "20170911", "20170911"),
    }
    _codes = np.array([3, 2, 1])  # the official v of 0 not labelled, 1 hidden, 2 visible

    def image_file(self, shot: Shot) -> str:
        """Return FOLDER/IMAGES/{40 digits}.jpg."""
        name, date, _ = self._names[shot.split]
        folder = f"ai_challenger_keypoint_{name}_{date}/keypoint_{name}_images_{date}"
        key = f"{shot.seed}/{shot.split}/{shot.number}"
        return f"{folder}/{hashlib.blake2b(key.encode(), digest_size=20).hexdigest()}.jpg"

    def record(self, shot: Shot, scene: Scene) -> Any:
        """Return the picture's entry of the official list."""
        boxes, keypoints = {}, {}
        for number, label in enumerate(scene.labels, 1):
            x0, y0, x1, y1 = label.box_xyxy
            boxes[f"human{number}"] = [x0, y0, x1 + 1, y1 + 1]
            points, visibility = label.select(self.keypoints)
            triples = _flat_triples(points, visibility, self._codes[visibility])
            keypoints[f"human{number}"] = triples
        return {
            "url": "",
            "image_id": Path(self.image_file(shot)).stem,
            "keypoint_annotations": keypoints,
            "human_annotations": boxes,
        }

    def write_annotations(self, folder: Path, split: str, records: list[Any]) -> None:
        """Write the split's JSON list."""
        name, date, labelled = self._names[split]
        file = f"keypoint_{name}_annotations_{labelled}.json"
        _write_json(folder / f"ai_challenger_keypoint_{name}_{date}" / file, records)


class MpiiLayout(Layout):
    """annotations/mpii_{train,val}.json counted from 1, annotations/mpii_gt_val.mat, images/."""

    name = "mpii"
    size = (256, 256)
    image = "images/{id:09d}.jpg"
    keypoints = (
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
        *("pelvis", "thorax", "upper_neck", "head_top", "right_wrist", "right_elbow"),
        *("right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
    )
    _mat_names = "rank rkne rhip lhip lkne lank pelv thor neck head rwri relb rsho lsho lelb lwri"

    def record(self, shot: Shot, scene: Scene) -> Any:
        """Return the people of the picture: the JSON's entry and the head's box of each."""
        rng = generator(shot.seed, self.name, "framing", shot.split, shot.number)
        image = Path(self.image_file(shot)).name
        return [self._person(label, image, rng) for label in scene.labels]

    def _person(self, label: Label, image: str, rng: np.random.Generator) -> dict[str, Any]:
        """Describe a person as MPII does: a rough centre and a height in units of 200 pixels."""
        points, visibility = label.select(self.keypoints)
        labelled = visibility > 0
        x0, y0, x1, y1 = label.box_xyxy
        side = max(x1 - x0 + 1, y1 - y0 + 1)
        scale = round(side * rng.uniform(0.8, 1.15) / 200, 6)
        jitter = rng.normal(0, 0.06, 2).clip(-0.15, 0.15) * side
        # Users of the files move the centre down by 15 x scale, so it is given that much higher.
        middle = np.array([0.5 * (x0 + x1), 0.5 * (y0 + y1) - 15 * scale])
        entry = {
            "joints_vis": labelled.astype(int).tolist(),
            "joints": np.where(labelled[:, None], np.rint(points) + 1.0, -1.0).tolist(),
            "image": image,
            "scale": scale,
            "center": (np.rint(middle + jitter) + 1.0).tolist(),
        }
        head = np.rint(label.figure.extras["head_box_xyxy"]) + 1.0
        return {"entry": entry, "head_box": head.tolist()}

    def write_annotations(self, folder: Path, split: str, records: list[Any]) -> None:
        """Write mpii_{split}.json, and for val the MATLAB file of what PCKh needs beside it."""
        people = [person for record in records for person in record]
        entries = [person["entry"] for person in people]
        _write_json(folder / f"annotations/mpii_{split}.json", entries)
        if split != "val":
            return
        heads = np.array([person["head_box"] for person in people])
        arrays = {
            "dataset_joints": np.array([self._mat_names.split()], dtype=object),
            "jnt_missing": 1.0 - np.array([entry["joints_vis"] for entry in entries]).T,
            "pos_gt_src": np.array([entry["joints"] for entry in entries]).transpose(1, 2, 0),
            "headboxes_src": heads.reshape(-1, 2, 2).transpose(1, 2, 0),
        }
        file = io.BytesIO()
        savemat(file, arrays)
        # The first 116 bytes are a text in which scipy puts the time of day.
        text = b"MATLAB 5.0 MAT-file, posekit practice data".ljust(116)
        (folder / "annotations/mpii_gt_val.mat").write_bytes(text + file.getvalue()[116:])


class WflwLayout(Layout):
    """WFLW_annotations/list_98pt_rect_attr_train_test/*.txt, WFLW_images/EVENT/."""

    name = "wflw"
    splits: ClassVar = {"train": "train", "test": "eval"}
    size = (224, 224)
    scene = staticmethod(face_scene)
    _events = ("0--Parade", "7--Cheering", "9--Press_Conference", "20--Family_Group")

    def image_file(self, shot: Shot) -> str:
        """Return WFLW_images/EVENT/NAME.jpg."""
        event = self._events[shot.number % len(self._events)]
        return f"WFLW_images/{event}/{event.replace('--', '_')}_{self.image_id(shot)}.jpg"

    def record(self, shot: Shot, scene: Scene) -> Any:
        """Return the picture's lines of 207 columns."""
        lines = []
        for label in scene.labels:
            points = label.figure.points
            rectangle = (*np.floor(points.min(axis=0)), *np.ceil(points.max(axis=0)))
            whole = (*rectangle, *label.figure.extras["attributes"])
            columns = [f"{value:.6f}" for value in points.ravel()]
            columns += [f"{int(value)}" for value in whole]
            lines.append(" ".join([*columns, self.image_file(shot).removeprefix("WFLW_images/")]))
        return lines

    def write_annotations(self, folder: Path, split: str, records: list[Any]) -> None:
        """Write list_98pt_rect_attr_{split}.txt."""
        name = f"list_98pt_rect_attr_train_test/list_98pt_rect_attr_{split}.txt"
        file = folder / "WFLW_annotations" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes("".join(f"{line}\n" for lines in records for line in lines).encode())


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (CocoLayout(), AicLayout(), MpiiLayout(), Ap10kLayout(), WflwLayout())
}


def _write_json(file: Path, data: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data, separators=(",", ":")), encoding="utf-8")


def _flat_triples(points: np.ndarray, visibility: np.ndarray, codes: np.ndarray) -> list[int]:
    """Return x1, y1, code1, x2, ... in whole pixels, zeros where a point is not labelled."""
    rounded = np.where(visibility[:, None] > 0, np.rint(points), 0.0)
    return np.column_stack([rounded, codes]).astype(int).ravel().tolist()


def _box_entries(box_xyxy: tuple[int, int, int, int]) -> dict[str, Any]:
    x0, y0, x1, y1 = box_xyxy
    width, height = x1 - x0 + 1, y1 - y0 + 1
    return {"bbox": [x0, y0, width, height], "area": width * height}


def _polygons(label: Label) -> list[list[float]]:
    contours, _ = cv2.findContours(
        label.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    polygons = [c[:, 0].astype(float).ravel().tolist() for c in contours if len(c) >= 3]
    x0, y0, x1, y1 = (float(v) for v in label.box_xyxy)
    return polygons or [[x0, y0, x1, y0, x1, y1, x0, y1]]


def _run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """Return COCO's uncompressed run lengths of a mask: columns first, starting with zeros."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], changes, [mask.size]]))
    return {"counts": counts.tolist(), "size": list(mask.shape)}
