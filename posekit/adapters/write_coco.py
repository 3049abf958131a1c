"""Writes any dataset as COCO-style JSON that `coco_json` reads back without loss."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from posekit.adapters.base import EmptyImage, Instance
from posekit.config.cards import SplitCard
from posekit.errors import DatasetError
from posekit.output import atomic_file
from posekit.schema import KeypointSchema

_OWN_KEYS = {"id", "image_id", "category_id", "keypoints", "bbox", "area", "iscrowd", "center"}
_OWN_KEYS |= {"crop_size", "segmentation"}


class Columns(Protocol):
    """The columns of one split, as `posekit.data.columns.InstanceColumns` explains them."""

    keypoints: np.ndarray
    visibility: np.ndarray
    box_xywh: np.ndarray
    has_box: np.ndarray
    area: np.ndarray
    category_id: np.ndarray
    is_crowd: np.ndarray
    instance_id: np.ndarray
    image_index: np.ndarray
    crop_center: np.ndarray
    crop_size: np.ndarray
    image_path: np.ndarray
    image_id: np.ndarray
    image_size: np.ndarray
    extras: dict[str, np.ndarray]
    image_extras: dict[str, np.ndarray]


def write_coco(
    file: Path,
    items: Iterable[Instance | EmptyImage],
    schema: KeypointSchema,
    categories: Mapping[int, str] | None = None,
) -> SplitCard:
    """Write instances as one COCO-style file; images are named by their path below the root.

    Keypoints, visibility, boxes, areas, crops, ids and extras read back equal, bit by bit. Every
    category carries the keypoint names, the skeleton (from 1, as in COCO) and the flip pairs.
    The file appears only when it is whole. Memory: the image records.

    Args:
        file: the file to write, in the dataset's root.
        items: what an adapter yields.
        schema: the instances' schema.
        categories: category id -> name; 'category N' where it is not given.

    Returns:
        the split (annotations and options of `coco_json`) that reads the file back.

    Raises:
        DatasetError: an extra has the name of a COCO field, or one image has two ids.
        OutputError: the file cannot be written.
    """
    writer = _Writer(file, schema)
    with (
        atomic_file(file, sync=False) as temporary,
        temporary.open("w", encoding="utf-8") as stream,
    ):
        writer.write(stream, items, categories or {})
    return SplitCard(annotations=file.name, options=writer.options())


def instances_of(columns: Columns) -> Iterator[Instance | EmptyImage]:
    """Return the instances that a split's columns hold, then its images without any."""
    for row in range(len(columns.keypoints)):
        image = int(columns.image_index[row])
        has_crop = bool(np.isfinite(columns.crop_center[row]).all())
        yield Instance(
            image=columns.image_path[image].decode(),
            image_id=_plain_id(columns.image_id[image]),
            instance_id=_plain_id(columns.instance_id[row]),
            keypoints=np.array(columns.keypoints[row]),
            visibility=np.array(columns.visibility[row]),
            box_xywh=np.array(columns.box_xywh[row]) if columns.has_box[row] else None,
            area=None if np.isnan(columns.area[row]) else float(columns.area[row]),
            category_id=int(columns.category_id[row]),
            is_crowd=bool(columns.is_crowd[row]),
            image_size=_plain_size(columns.image_size[image]),
            crop_center=np.array(columns.crop_center[row]) if has_crop else None,
            crop_size=np.array(columns.crop_size[row]) if has_crop else None,
            extras={name: float(values[row]) for name, values in columns.extras.items()},
        )
    empty = np.setdiff1d(np.arange(len(columns.image_path)), columns.image_index)
    for image in empty.tolist():
        yield EmptyImage(
            columns.image_path[image].decode(),
            _plain_id(columns.image_id[image]),
            _plain_size(columns.image_size[image]),
            {name: float(values[image]) for name, values in columns.image_extras.items()},
        )


class _Writer:
    """Streams annotations and keeps the image records and what options a reader needs."""

    def __init__(self, file: Path, schema: KeypointSchema):
        self.file, self.schema = file, schema
        self.images: dict[int | str, dict[str, Any]] = {}
        self.category_ids: set[int] = set()
        self.extras: set[str] = set()
        self.image_extras: set[str] = set()
        self.has_crop = False

    def write(
        self, stream: TextIO, items: Iterable[Instance | EmptyImage], names: Mapping[int, str]
    ) -> None:
        stream.write('{"annotations": [')
        separator = "\n"
        for item in items:
            self._add_image(item)
            if isinstance(item, Instance):
                stream.write(separator + json.dumps(self._annotation(item), allow_nan=False))
                separator = ",\n"
        stream.write('\n],\n"images": [')
        records = (json.dumps(record, allow_nan=False) for record in self.images.values())
        separator = "\n"
        for record in records:
            stream.write(separator + record)
            separator = ",\n"
        categories = [self._category(i, names) for i in sorted(self.category_ids or {1})]
        stream.write('\n],\n"categories": ' + json.dumps(categories) + "}\n")

    def options(self) -> dict[str, Any]:
        """Return the options of `coco_json` that read everything back."""
        options: dict[str, Any] = {}
        if self.has_crop:
            options["crop"] = {"size": "crop_size"}
        if self.extras - {"num_keypoints"}:
            options["extras"] = {name: name for name in sorted(self.extras - {"num_keypoints"})}
        if self.image_extras:
            options["image_extras"] = {name: name for name in sorted(self.image_extras)}
        return options

    def _add_image(self, item: Instance | EmptyImage) -> None:
        record: dict[str, Any] = {"id": item.image_id, "file_name": item.image}
        if item.image_size is not None:
            record["height"], record["width"] = item.image_size
        if isinstance(item, EmptyImage):
            self.image_extras |= set(item.extras)
            record |= {name: _number_or_null(value) for name, value in item.extras.items()}
        known = self.images.setdefault(item.image_id, record)
        if known["file_name"] != item.image:
            raise DatasetError(
                self.file,
                f"its id stands for {known['file_name']} and {item.image}, expected one image",
                record=f"image {item.image_id}",
            )

    def _annotation(self, instance: Instance) -> dict[str, Any]:
        record: dict[str, Any] = {
            "id": instance.instance_id,
            "image_id": instance.image_id,
            "category_id": instance.category_id,
            "keypoints": _triples(instance.keypoints, instance.visibility),
            "num_keypoints": int((instance.visibility > 0).sum()),
            "iscrowd": int(instance.is_crowd),
        }
        self.category_ids.add(instance.category_id)
        if instance.box_xywh is not None:
            record["bbox"] = instance.box_xywh.tolist()
        if instance.area is not None:
            record["area"] = float(instance.area)
        if instance.crop_center is not None and instance.crop_size is not None:
            self.has_crop = True
            record["center"] = instance.crop_center.tolist()
            record["crop_size"] = instance.crop_size.tolist()
        for name, value in instance.extras.items():
            if name in _OWN_KEYS:
                raise DatasetError(self.file, f"an extra is called '{name}' like a field of COCO")
            self.extras.add(name)
            record[name] = _number_or_null(value)
        return record

    def _category(self, category_id: int, names: Mapping[int, str]) -> dict[str, Any]:
        return {
            "id": category_id,
            "name": names.get(category_id, f"category {category_id}"),
            "keypoints": list(self.schema.keypoints),
            "skeleton": (self.schema.skeleton_indices + 1).tolist(),
            "flip_pairs": [list(pair) for pair in self.schema.flip_pairs],
        }


def _triples(points: np.ndarray, visibility: np.ndarray) -> list[float]:
    """Return x, y, v flat; the shortest decimals that read back as the same float32."""
    flat: list[float] = []
    for (x, y), code in zip(points, visibility.tolist(), strict=True):
        flat += [float(str(np.float32(x))), float(str(np.float32(y))), code]
    return flat


def _number_or_null(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _plain_id(value: Any) -> int | str:
    return value.decode() if isinstance(value, bytes) else int(value)


def _plain_size(size: np.ndarray) -> tuple[int, int] | None:
    height, width = (int(entry) for entry in size)
    return (height, width) if height and width else None
