"""Boxes from a file, found by the name of the image or video that they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posekit.errors import PredictionError

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
        self._boxes: dict[str, dict[int, list[Any]]] = {}
        self.used: set[str] = set()
        try:
            data = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not JSON"
            raise PredictionError(f"{self.file}: boxes cannot be read ({reason})") from None
        if isinstance(data, Mapping) and "annotations" in data and "images" in data:
            data = self._from_coco(data)
        if isinstance(data, list):
            self._add_entries(data)
        elif isinstance(data, Mapping):
            self._add_mapping(data)
        else:
            raise PredictionError(f"{self.file}: found {type(data).__name__}, {_FORMS}")

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

    def _from_coco(self, data: Mapping[str, Any]) -> list[Any]:
        try:
            names = {image["id"]: image["file_name"] for image in data["images"]}
            return [
                {"file_name": names[entry["image_id"]], "bbox": entry["bbox"]}
                for entry in data["annotations"]
            ]
        except (KeyError, TypeError) as error:
            raise PredictionError(f"{self.file}: no complete COCO file ({error} missing)") from None

    def _add_entries(self, entries: list[Any]) -> None:
        for number, entry in enumerate(entries):
            name = entry.get("file_name", entry.get("image")) if isinstance(entry, dict) else None
            if not isinstance(name, str) or "bbox" not in entry:
                raise PredictionError(f"{self.file}, entry {number}: {_FORMS}")
            self._add(name, entry.get("frame", 0), [entry["bbox"]], f"entry {number}")

    def _add_mapping(self, data: Mapping[str, Any]) -> None:
        for name, boxes in data.items():
            self._boxes.setdefault(name, {})
            frames = boxes if isinstance(boxes, Mapping) else {0: boxes}
            for frame, rows in frames.items():
                self._add(name, frame, rows, f"'{name}'")

    def _add(self, name: str, frame: Any, rows: Any, where: str) -> None:
        try:
            array = np.asarray(rows, dtype=np.float64)
            if array.size:
                array = array.reshape(-1, 4) if array.ndim == 2 else array[None].reshape(1, 4)
            number = int(frame)
        except (TypeError, ValueError):
            raise PredictionError(f"{self.file}, {where}: {_FORMS}") from None
        self._boxes.setdefault(name, {}).setdefault(number, []).extend(array.tolist())
