"""CropStore: each instance's neighbourhood, read once from its image and kept memory-mapped.

For data that is read many times: a training crop then costs one small warp instead of decoding a
photograph. All workers and processes share one copy, through the operating system's page cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posekit.data.cache_folder import discard, publish
from posekit.data.crops import CropSource, read_row_image
from posekit.data.neighbourhood import Reach, neighbourhoods
from posekit.data.row_store import Progress, RowChunks, RowStore
from posekit.data.workers import stream
from posekit.errors import DatasetError
from posekit.output import write_json

STORE_VERSION = 1
_CHUNK = 32
_QUALITY = 95


class CropStore(RowStore):
    """The stored neighbourhoods of the trainable rows of one index.

    Attributes:
        is_jpeg: True if they are kept as JPEG, False if as plain pixels.
    """

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.is_jpeg: bool = self.about["jpeg"]
        self._start, self._shape, self._placement = (
            np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray)
            for name in ("start", "shape", "placement")
        )
        self._pixels = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r").view(np.ndarray)
        if len(self._pixels) != int(self._start[-1]):
            raise ValueError(f"{folder}: pixels.bin has not the length that start.npy says")

    @property
    def nbytes(self) -> int:
        """Bytes of pixels on disk."""
        return len(self._pixels)

    @property
    def broken(self) -> int:
        """Rows whose image could not be read."""
        return len(self._failures)

    def read(self, row: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Return the neighbourhood of a row; see `posekit.data.make_batch.PixelSource`.

        Raises:
            DatasetError: the image could not be read when the store was made.
        """
        slot = self.slot(row)
        data = self._pixels[int(self._start[slot]) : int(self._start[slot + 1])]
        if self.is_jpeg:
            decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
            if decoded is None:
                raise DatasetError(
                    self.folder, "its pixels are damaged", fix="delete it; it will be rebuilt"
                )
            pixels = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded)
        else:
            height, width = self._shape[slot].tolist()
            pixels = data.reshape(height, width, 3)
        return pixels, self._placement[slot]


def open_store(
    head: CropSource,
    cache_dir: str | Path | None = None,
    *,
    sharpness: float = 1.5,
    raw_limit_mib: float = 1024,
    workers: int = 0,
    progress: Progress | None = None,
) -> CropStore:
    """Open the crop store of a head's training rows; make it first if there is none.

    It is keyed by the index, the images' sizes and times of change, the input size and what the
    augmentation can reach, and holds what any draw of it can show. Making it costs one decoding of
    every image. What cannot be read is noted and fails again when it is asked for.

    Args:
        head: the head's data.
        cache_dir: the cache folder; POSEKIT_CACHE or the user's own by default.
        sharpness: stored pixels for each pixel of the unscaled crop, at most the image's own;
            crops that augmentation magnifies beyond this are softer than from the file.
        raw_limit_mib: plain pixels up to about this size, JPEG of quality 95 beyond.
        workers: processes that make it.
        progress: called with the number of instances done and of all.

    Raises:
        PosekitError: the cache cannot be written.
    """
    reach = Reach.of(head, sharpness)
    settings = [STORE_VERSION, head.index.folder.name, reach.to_dict(), raw_limit_mib]
    patches = _Patches(head, reach)
    folder = patches.folder("crops", settings, cache_dir)
    for _ in range(2):
        if not (folder / "store.json").is_file():
            patches.jpeg = patches.estimate_bytes() > raw_limit_mib * 2**20
            publish(folder, partial(_fill, patches, workers, progress))
        try:
            return CropStore(folder)
        except (OSError, ValueError, KeyError):
            discard(folder)
    raise DatasetError(folder, "this cache is damaged and cannot be rebuilt")


class _Patches(RowChunks):
    """Chunk number -> (bytes, shape, placement) of each row, or (None, parts of an error)."""

    def __init__(self, head: CropSource, reach: Reach):
        super().__init__(head, _CHUNK)
        self.reach, self.jpeg = reach, False

    def estimate_bytes(self) -> float:
        """Estimate the size of all neighbourhoods as plain pixels from up to 64 of them."""
        some = self.rows[:: max(1, len(self.rows) // 64)]
        sizes = [int(np.prod(one[1])) for one in self._patches(some) if one[0] is not None]
        return float(np.mean(sizes)) * len(self.rows) if sizes else 0.0

    def make(self, chunk: int) -> list[tuple[Any, ...]]:
        """Return what is stored of a chunk's rows."""
        return list(self._patches(self.of(chunk)))

    def _patches(self, rows: np.ndarray) -> Iterator[tuple[Any, ...]]:
        boxes, factors = neighbourhoods(self.head, rows, self.reach)
        image_of, shown = self.head.index.columns.image_index[rows], -1
        image = np.zeros((0, 0, 3), np.uint8)
        for i, row in enumerate(rows.tolist()):
            try:
                if image_of[i] != shown:
                    image, shown = read_row_image(self.head.index, row), image_of[i]
            except DatasetError as error:
                shown = -1
                yield None, [error.file, error.problem, error.fix or ""]
                continue
            patch, placement = _cut(image, boxes[i], float(factors[i]))
            yield self._encode(patch), patch.shape, placement

    def _encode(self, patch: np.ndarray) -> bytes:
        if not self.jpeg:
            return patch.tobytes()
        bgr = cv2.cvtColor(patch, cv2.COLOR_RGB2BGR)
        return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def _cut(image: np.ndarray, box: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut a box (x0, y0, x1, y1, ends exclusive) out of an image and shrink it by a factor.

    Returns:
        uint8 (h, w, 3) and float64 (4,) placement; one black pixel for a box outside the image.
    """
    height, width = image.shape[:2]
    x0, y0 = max(int(box[0]), 0), max(int(box[1]), 0)
    x1, y1 = min(int(box[2]), width), min(int(box[3]), height)
    if x1 <= x0 or y1 <= y0:
        return np.zeros((1, 1, 3), np.uint8), np.array([1.0, 1.0, -1e6, -1e6])
    patch = image[y0:y1, x0:x1]
    fx = fy = 1.0
    if factor < 1:
        w, h = max(1, round((x1 - x0) * factor)), max(1, round((y1 - y0) * factor))
        patch = cv2.resize(patch, (w, h), interpolation=cv2.INTER_AREA)
        fx, fy = w / (x1 - x0), h / (y1 - y0)
    # Pixel centres lie at integers, so scaling keeps the corner at -0.5, not the first pixel.
    shift = ((0.5 - x0) * fx - 0.5, (0.5 - y0) * fy - 0.5)
    return patch, np.array([fx, fy, *shift])


def _fill(patches: _Patches, workers: int, progress: Progress | None, folder: Path) -> None:
    rows = patches.rows
    starts, shapes = np.zeros(len(rows) + 1, np.int64), np.zeros((len(rows), 2), np.int32)
    placements = np.zeros((len(rows), 4))
    failures: dict[str, list[str]] = {}
    done = 0
    with (folder / "pixels.bin").open("wb") as stream_out:
        for chunk in stream(patches, range(len(patches)), workers):
            for data, shape, *placement in chunk:
                starts[done + 1] = starts[done]
                if data is None:
                    failures[str(int(rows[done]))] = shape
                else:
                    stream_out.write(data)
                    starts[done + 1] += len(data)
                    shapes[done], placements[done] = shape[:2], placement[0]
                done += 1
            if progress is not None:
                progress(done, len(rows))
        if not starts[-1]:
            starts[-1] += stream_out.write(b"\0")
    patches.save_slots(folder)
    np.save(folder / "start.npy", starts)
    np.save(folder / "shape.npy", shapes)
    np.save(folder / "placement.npy", placements)
    write_json(folder / "store.json", {"jpeg": patches.jpeg, "failures": failures})
