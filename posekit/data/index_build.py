"""Writes the columns of a split from an adapter's stream of instances, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from posekit.adapters.base import EmptyImage, Instance
from posekit.adapters.blocks import InstanceBlock
from posekit.config.cards import BoxCard
from posekit.data.boxes import crop_boxes, keypoint_boxes
from posekit.data.columns import InstanceColumns
from posekit.errors import DatasetError
from posekit.schema import KeypointSchema

CHUNK = 4096
SKIP_REASONS = ("trainable", "crowd region", "no labelled keypoint", "no usable box", "no area")


class ColumnFile:
    """One `.npy` file that grows by appending; its header is set right when it closes.

    Args:
        file: the file to write.
        dtype: dtype of the column.
        shape: shape of one row.
    """

    def __init__(self, file: Path, dtype: Any, shape: tuple[int, ...] = ()):
        self._dtype, self._shape, self._rows = np.dtype(dtype), shape, 0
        self._stream = file.open("wb")
        self._write_header()
        self._start = self._stream.tell()

    def append(self, rows: np.ndarray) -> None:
        """Write further rows; ValueError if their shape is another one."""
        if rows.shape[1:] != self._shape:
            raise ValueError(f"found rows of shape {rows.shape[1:]}, expected {self._shape}")
        self._stream.write(np.ascontiguousarray(rows, dtype=self._dtype).data)
        self._rows += len(rows)

    def close(self) -> None:
        """Finish the file."""
        with self._stream:
            self._stream.seek(0)
            self._write_header()
            if self._stream.tell() != self._start:
                raise ValueError("the npy header grew; numpy did not leave room for the row count")

    def abandon(self) -> None:
        """Close the file without finishing it."""
        self._stream.close()

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows, *self._shape),
        }
        np.lib.format.write_array_header_1_0(self._stream, header)


def write_columns(
    folder: Path,
    instances: Iterator[Instance | EmptyImage | InstanceBlock],
    schema: KeypointSchema,
    box: BoxCard,
    source: Path,
) -> dict[str, Any]:
    """Write all columns of a split into a folder.

    Memory: `CHUNK` instances, the image table and the ids.

    Args:
        folder: an empty folder.
        instances: the adapter's stream, single or in blocks.
        schema: the dataset's schema.
        box: the card's rule for crops, which decides what has a usable box.
        source: the annotation file, for messages.

    Returns:
        what goes into the index's JSON: number of instances and images, names of the extras, and
        how many instances each reason keeps from training.

    Raises:
        DatasetError: the stream holds no instance, or an instance does not fit the schema.
    """
    writer = _Writer(folder, len(schema), source)
    try:
        writer.write(instances)
        summary = writer.finish()
    finally:
        writer.abandon()
    summary["skipped"] = _write_skip_reasons(folder, box)
    return summary


def load_columns(folder: Path) -> InstanceColumns:
    """Open a folder of columns memory-mapped; OSError or ValueError if one is missing or short.

    The arrays are plain views of the maps, which are quicker to index than `np.memmap`.
    """
    arrays = {
        field.name: np.load(folder / f"{field.name}.npy", mmap_mode="r").view(np.ndarray)
        for field in fields(InstanceColumns)
        if field.name not in {"extras", "image_extras"}
    }
    extras, image_extras = (
        {
            file.stem.removeprefix(prefix): np.load(file, mmap_mode="r")
            for file in sorted(folder.glob(f"{prefix}*.npy"))
        }
        for prefix in ("extra-", "image_extra-")
    )
    return InstanceColumns(**arrays, extras=extras, image_extras=image_extras)


class _Writer:
    """Takes chunks of instances apart into columns."""

    def __init__(self, folder: Path, num_keypoints: int, source: Path):
        self._folder, self._source, self._num_keypoints = folder, source, num_keypoints
        shapes = {
            "keypoints": (np.float32, (num_keypoints, 2)),
            "visibility": (np.uint8, (num_keypoints,)),
            "box_xywh": (np.float64, (4,)),
            "has_box": (np.bool_, ()),
            "area": (np.float64, ()),
            "category_id": (np.int64, ()),
            "is_crowd": (np.bool_, ()),
            "image_index": (np.int64, ()),
            "crop_center": (np.float64, (2,)),
            "crop_size": (np.float64, (2,)),
        }
        self._files = {
            name: ColumnFile(folder / f"{name}.npy", dtype, shape)
            for name, (dtype, shape) in shapes.items()
        }
        self._extras: dict[str, ColumnFile] | None = None
        self._instance_ids: list[np.ndarray | list[int | str]] = []
        self._count = 0
        self._images: dict[str, int] = {}
        self._image_ids: list[int | str] = []
        self._image_sizes: list[tuple[int, int]] = []
        self._empty: dict[int, dict[str, float]] = {}

    def write(self, items: Iterator[Instance | EmptyImage | InstanceBlock]) -> None:
        chunk: list[Instance] = []
        for item in items:
            # Images are numbered in the order in which they come, so what waits goes first.
            if chunk and (len(chunk) == CHUNK or not isinstance(item, Instance)):
                self._append(self._block(chunk))
                chunk = []
            if isinstance(item, Instance):
                chunk.append(item)
            elif isinstance(item, InstanceBlock):
                self._append(item)
            else:
                self._empty[self._image_index(item)] = item.extras
        if chunk:
            self._append(self._block(chunk))

    def finish(self) -> dict[str, Any]:
        if not self._count:
            raise DatasetError(
                self._source, "it holds no instance", fix="name another file or split in the card"
            )
        for column in (*self._files.values(), *(self._extras or {}).values()):
            column.close()
        tables = {
            "instance_id": _joined_ids(self._instance_ids),
            "image_path": np.array([path.encode() for path in self._images]),
            "image_id": _ids(self._image_ids),
            "image_size": np.array(self._image_sizes, dtype=np.int32).reshape(-1, 2),
        }
        for name in sorted({name for extras in self._empty.values() for name in extras}):
            values = tables[f"image_extra-{name}"] = np.full(len(self._images), np.nan)
            for image, extras in self._empty.items():
                values[image] = extras.get(name, np.nan)
        for name, values in tables.items():
            np.save(self._folder / f"{name}.npy", values)
        return {"instances": self._count, "images": len(self._images)}

    def abandon(self) -> None:
        for column in (*self._files.values(), *(self._extras or {}).values()):
            column.abandon()

    def _block(self, chunk: list[Instance]) -> InstanceBlock:
        keypoints, visibility = self._poses(chunk)
        return InstanceBlock(
            images=chunk,
            instance_id=[one.instance_id for one in chunk],
            keypoints=keypoints,
            visibility=visibility,
            box_xywh=_optional([one.box_xywh for one in chunk], 4),
            area=np.array([np.nan if one.area is None else one.area for one in chunk], float),
            category_id=np.array([one.category_id for one in chunk]),
            is_crowd=np.array([one.is_crowd for one in chunk]),
            crop_center=_optional([one.crop_center for one in chunk], 2),
            crop_size=_optional([one.crop_size for one in chunk], 2),
            extras=self._extras_of(chunk),
        )

    def _append(self, block: InstanceBlock) -> None:
        if not len(block):
            return
        boxes, has_box = block.box_xywh, ~np.isnan(block.box_xywh).any(axis=1)
        if not has_box.all():
            derived = ~has_box
            boxes = boxes.copy()
            boxes[derived] = keypoint_boxes(block.keypoints[derived], block.visibility[derived] > 0)
        # Most instances stand in an image that is known by now; a look-up is quicker than a call.
        known = self._images
        image_index = [
            known[one.image] if one.image in known else self._image_index(one)
            for one in block.images
        ]
        columns = {
            "keypoints": block.keypoints,
            "visibility": block.visibility,
            "box_xywh": boxes,
            "has_box": has_box,
            "area": block.area,
            "category_id": block.category_id,
            "is_crowd": block.is_crowd,
            "image_index": np.array(image_index),
            "crop_center": block.crop_center,
            "crop_size": block.crop_size,
        }
        for name, values in columns.items():
            self._files[name].append(values)
        if self._extras is None:
            self._extras = {
                name: ColumnFile(self._folder / f"extra-{name}.npy", np.float64)
                for name in sorted(block.extras)
            }
        for name, column in self._extras.items():
            column.append(block.extras[name])
        self._instance_ids.append(block.instance_id)
        self._count += len(block)

    def _poses(self, chunk: list[Instance]) -> tuple[np.ndarray, np.ndarray]:
        count = self._num_keypoints
        keypoints: np.ndarray
        visibility: np.ndarray
        try:
            keypoints = np.array([one.keypoints for one in chunk], dtype=np.float32)
            visibility = np.array([one.visibility for one in chunk], dtype=np.int64)
        except ValueError:
            keypoints, visibility = np.zeros(0), np.zeros(0)
        if keypoints.shape != (len(chunk), count, 2) or visibility.shape != (len(chunk), count):
            for one in chunk:
                found = (np.shape(one.keypoints), np.shape(one.visibility))
                if found != ((count, 2), (count,)):
                    self._fail(
                        one,
                        f"found keypoints of shape {found[0]} and visibility of shape {found[1]}, "
                        f"expected {(count, 2)} and {(count,)} as the card's schema has {count} "
                        "keypoints",
                    )
        wrong = (visibility < 0) | (visibility > 2)
        if wrong.any():
            bad = int(np.flatnonzero(wrong.any(axis=1))[0])
            value = int(visibility[bad][wrong[bad]][0])
            self._fail(chunk[bad], f"found visibility {value}, expected 0, 1 or 2")
        broken = (~np.isfinite(keypoints).all(axis=2)) & (visibility > 0)
        if broken.any():
            bad = int(np.flatnonzero(broken.any(axis=1))[0])
            self._fail(chunk[bad], "a labelled keypoint is not a finite number")
        keypoints[visibility == 0] = 0
        return keypoints, visibility.astype(np.uint8)

    def _image_index(self, one: Instance | EmptyImage) -> int:
        position = self._images.get(one.image)
        if position is None:
            position = self._images[one.image] = len(self._images)
            self._image_ids.append(one.image_id)
            self._image_sizes.append(one.image_size or (0, 0))
        return position

    def _extras_of(self, chunk: list[Instance]) -> dict[str, np.ndarray]:
        known = chunk[0].extras.keys() if self._extras is None else self._extras.keys()
        for one in chunk:
            for name in sorted(one.extras.keys() - known):
                self._fail(
                    one, f"it brings the extra number '{name}', which the first record lacks"
                )
        return {
            name: np.array([one.extras.get(name, np.nan) for one in chunk], float) for name in known
        }

    def _fail(self, one: Instance, problem: str) -> None:
        raise DatasetError(
            self._source, problem, record=f"instance {one.instance_id} of image {one.image}"
        )


def skip_reasons(columns: InstanceColumns, rows: np.ndarray, box: BoxCard) -> np.ndarray:
    """Return why each row is left out of training.

    Returns:
        uint8 (n,): 0 where the row can be trained on, else the place of the reason in
        `SKIP_REASONS`; the first reason that holds.
    """
    _, size = crop_boxes(columns, rows, box)
    reasons = np.zeros(len(rows), dtype=np.uint8)
    area = np.asarray(columns.area[rows])
    reasons[~np.isnan(area) & ~(area > 0)] = 4
    reasons[~(np.isfinite(size) & (size > 0)).all(axis=1)] = 3
    reasons[(np.asarray(columns.visibility[rows]) > 0).sum(axis=1) == 0] = 2
    reasons[np.asarray(columns.is_crowd[rows])] = 1
    return reasons


def _write_skip_reasons(folder: Path, box: BoxCard) -> dict[str, int]:
    columns = load_columns(folder)
    parts = [
        skip_reasons(columns, np.arange(start, min(start + CHUNK, len(columns))), box)
        for start in range(0, len(columns), CHUNK)
    ]
    reasons = np.concatenate(parts)
    np.save(folder / "skip_reason.npy", reasons)
    np.save(folder / "trainable.npy", np.flatnonzero(reasons == 0))
    counts = np.bincount(reasons, minlength=len(SKIP_REASONS))
    return {SKIP_REASONS[i]: int(counts[i]) for i in range(1, len(counts)) if counts[i]}


def _optional(values: list[Any], width: int) -> np.ndarray:
    missing = (np.nan,) * width
    rows = [missing if value is None else value for value in values]
    return np.array(rows, dtype=np.float64).reshape(-1, width)


def _ids(values: list[int | str]) -> np.ndarray:
    if any(isinstance(value, str) for value in values):
        return np.array([str(value).encode() for value in values])
    return np.array(values, dtype=np.int64)


def _joined_ids(parts: list[np.ndarray | list[int | str]]) -> np.ndarray:
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    return _ids([entry for part in parts for entry in part])
