"""Boxes from a file, found by the name of the image or video that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posekit.adapters.fields import (
    Place,
    box_xywh,
    field_of,
    identifier,
    listing,
    mapping,
    show,
    whole,
)
from posekit.errors import PredictionError
from posekit.poses.read import prediction_errors, read_json

_FORMS = (
    'expected {"name.jpg": [[x, y, w, h], ...]}, {"clip.mp4": {"frame": [[x, y, w, h], ...]}}, '
    'a list of {"file_name", "bbox", optionally "frame"}, or a COCO file'
)


class BoxFile:
    """Boxes x, y, width, height by file name, and by frame for videos.

    Args:
        file: JSON in one of four forms: a mapping from file name to boxes; from file name to a
            mapping from frame number (from 0) to boxes; a list of entries with `file_name` (or
            `image`), `bbox` and, for videos, `frame`; a COCO file (`images`, `annotations`).

    Raises:
        PredictionError: the file cannot be read or has another form; names file and entry.
    """

    def __init__(self, file: str | Path):
        self.file = Path(file)
        self._boxes: dict[str, dict[int, list[np.ndarray]]] = {}
        self.used: set[str] = set()
        with prediction_errors():
            data = read_json(self.file)
            if isinstance(data, Mapping) and "annotations" in data and "images" in data:
                data = self._coco_entries(data)
            if isinstance(data, list):
                self._add_entries(data)
            elif isinstance(data, Mapping):
                self._add_mapping(data)
            else:
                Place(self.file).fail(f"found {show(data)}, {_FORMS}")

    def of(self, name: str | Path, frame: int = 0) -> np.ndarray:
        """Return the boxes of an image, or of a video's frame: float64 (N, 4), often none.

        The whole path is looked up first, then ever shorter ends of it.
        """
        parts = Path(name).as_posix().split("/")
        for start in range(len(parts)):
            key = "/".join(parts[start:])
            if key in self._boxes:
                self.used.add(key)
                return np.asarray(self._boxes[key].get(frame, []), dtype=np.float64).reshape(-1, 4)
        return np.zeros((0, 4))

    def require_used(self) -> None:
        """Raise PredictionError if no name of the file was ever asked for."""
        if self._boxes and not self.used:
            first = next(iter(self._boxes))
            raise PredictionError(
                f"{self.file}: none of its {len(self._boxes)} names (the first is '{first}') is "
                "among the inputs"
            )

    def _coco_entries(self, data: Mapping[str, Any]) -> list[Any]:
        names = {}
        for i, image in enumerate(listing(data["images"], "images", Place(self.file))):
            place = Place(self.file, f"image {i}")
            image_id = identifier(
                field_of(mapping(image, "image", place), "id", place), "id", place
            )
            names[image_id] = field_of(image, "file_name", place)
        entries = []
        for i, entry in enumerate(listing(data["annotations"], "annotations", Place(self.file))):
            place = Place(self.file, f"annotation {i}")
            image_id = field_of(mapping(entry, "annotation", place), "image_id", place)
            name = names.get(identifier(image_id, "image_id", place))
            entries.append({"file_name": name, "bbox": field_of(entry, "bbox", place)})
        return entries

    def _add_entries(self, entries: list[Any]) -> None:
        for number, entry in enumerate(entries):
            place = Place(self.file, f"entry {number}")
            name = entry.get("file_name", entry.get("image")) if isinstance(entry, dict) else None
            if not isinstance(name, str) or "bbox" not in entry:
                place.fail(f"found {show(entry)}, {_FORMS}")
            frame = entry.get("frame", 0)
            frame = int(frame) if str(frame).isdecimal() else whole(frame, "frame", place)
            self._add(name, frame, [entry["bbox"]], place)

    def _add_mapping(self, data: Mapping[str, Any]) -> None:
        for name, boxes in data.items():
            place = Place(self.file, f"'{name}'")
            self._boxes.setdefault(name, {})
            for frame, rows in (boxes if isinstance(boxes, Mapping) else {"0": boxes}).items():
                if not (frame.isdecimal() and isinstance(rows, list)):
                    place.fail(f"found {show(boxes)}, {_FORMS}")
                is_one = bool(rows) and not isinstance(rows[0], list)
                self._add(name, int(frame), [rows] if is_one else rows, place)

    def _add(self, name: str, frame: int, rows: list[Any], place: Place) -> None:
        boxes = (box_xywh(row, place, "box") for row in rows)
        known = self._boxes.setdefault(name, {}).setdefault(frame, [])
        known += [box for box in boxes if box is not None]
