"""Writes any dataset as COCO-style JSON that `coco_json` reads back without loss."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from posekit.adapters.base import EmptyImage, Instance
from posekit.config.cards import SplitCard
from posekit.errors import DatasetError
from posekit.output import atomic_file
from posekit.schema import KeypointSchema

_OWN_KEYS = {"id", "image_id", "category_id", "keypoints", "bbox", "area", "iscrowd", "center"}
_OWN_KEYS |= {"crop_size", "segmentation"}


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
