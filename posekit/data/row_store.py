"""What stores of rows share (crops, features): their key, chunks of rows by image, broken rows."""

from __future__ import annotations

import hashlib
import json
import math
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from posekit.data.cache_folder import default_cache
from posekit.data.crops import CropSource
from posekit.data.workers import guarded
from posekit.errors import DatasetError

Progress = Callable[[int, int], None]


class RowStore:
    """An opened store of an index's trainable rows; pickles as its path.

    Attributes:
        folder: the cache folder that holds it.
        about: what `store.json` says.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.about: dict[str, Any] = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        self._failures: dict[str, list[str]] = self.about["failures"]
        self._slot = np.load(folder / "slot.npy", mmap_mode="r").view(np.ndarray)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder,)

    def slot(self, row: int) -> int:
        """Return the place of an index row in the store.

        Raises:
            DatasetError: the row is not in it, or its image could not be read.
        """
        if (failure := self._failures.get(str(row))) is not None:
            file, problem, fix = failure
            raise DatasetError(file, problem, fix=fix or None)
        slot = int(self._slot[row]) if 0 <= row < len(self._slot) else -1
        if slot < 0:
            raise DatasetError(self.folder, "this cache does not hold it", record=f"row {row}")
        return slot


class RowChunks(Dataset[Any]):
    """Chunk number -> what `make` returns for its trainable rows, which are sorted by image."""

    def __init__(self, head: CropSource, chunk_rows: int):
        self.head, self.chunk_rows = head, chunk_rows
        rows = np.asarray(head.index.trainable)
        self.rows = rows[np.argsort(head.index.columns.image_index[rows], kind="stable")]

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.chunk_rows)

    def __getitem__(self, chunk: int) -> Any:
        return guarded(self.make, chunk)

    def of(self, chunk: int) -> np.ndarray:
        """Return the rows of a chunk."""
        return self.rows[chunk * self.chunk_rows : (chunk + 1) * self.chunk_rows]

    @abstractmethod
    def make(self, chunk: int) -> Any:
        """Return what is stored of a chunk's rows."""

    def save_slots(self, folder: Path) -> None:
        """Write each index row's place in the store, -1 where it has none."""
        slots = np.full(len(self.head.index), -1, np.int32)
        slots[self.rows] = np.arange(len(self.rows))
        np.save(folder / "slot.npy", slots)

    def folder(self, kind: str, settings: Any, cache_dir: str | Path | None) -> Path:
        """Return the store's folder, keyed by settings, rows, and size and time of each image."""
        index = self.head.index
        rows = np.asarray(index.trainable)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        digest.update(rows.tobytes())
        for image in np.unique(index.columns.image_index[rows]).tolist():
            try:
                stat = index.image_file_at(image).stat()
                digest.update(f"{stat.st_size} {stat.st_mtime_ns}\n".encode())
            except OSError:
                digest.update(b"missing\n")
        base = Path(cache_dir).expanduser() if cache_dir is not None else default_cache()
        return base / kind / f"{index.name.replace('/', '-')}-{digest.hexdigest()[:20]}"
