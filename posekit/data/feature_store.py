"""FeatureStore: a frozen backbone's maps of K augmented crops of each training row, on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from posekit.data.augment import KeyedDraws
from posekit.data.cache_folder import default_cache
from posekit.data.crop_store import image_stamps
from posekit.data.crops import CropSource, draw_samples, image_to_crop
from posekit.data.make_batch import ImageFiles, cut_crop
from posekit.data.workers import guarded, stream
from posekit.errors import DatasetError, PosekitError
from posekit.output import write_json

FEATURES_VERSION = 1
_CHUNK = 16

Compute = Callable[[np.ndarray], np.ndarray]
Progress = Callable[[int, int], None]


class FeatureStore:
    """Gives the stored maps of the trainable rows of one index; pickles as its path.

    Attributes:
        folder: the cache folder that holds them.
        views: different crops of a row.
        shape: (D, gh, gw) of a map.
        dtype: of its numbers.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        description = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        depth, height, width = description["shape"]
        self.views: int = description["views"]
        self.shape = (depth, height, width)
        self.dtype = np.dtype(description["dtype"])
        self._failures: dict[str, list[str]] = description["failures"]
        self._slot = np.load(folder / "slot.npy")
        rows = int(self._slot.max()) + 1
        self._maps = np.memmap(
            folder / "maps.bin", self.dtype, mode="r", shape=(rows, self.views, *self.shape)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureStore, (self.folder,)

    @property
    def nbytes(self) -> int:
        """Bytes of maps on disk."""
        return self._maps.nbytes

    def read(self, row: int, view: int) -> np.ndarray:
        """Return a map; see `posekit.data.feature_batches.FeatureSource`."""
        if (failure := self._failures.get(str(row))) is not None:
            file, problem, fix = failure
            raise DatasetError(file, problem, fix=fix or None)
        slot = int(self._slot[row]) if 0 <= row < len(self._slot) else -1
        if slot < 0:
            raise DatasetError(
                self.folder, "the feature cache has no such row", record=f"row {row}"
            )
        return self._maps[slot, view]


def open_features(
    head: CropSource,
    compute: Compute,
    shape: tuple[int, int, int],
    backbone: str,
    *,
    views: int,
    seed: int,
    dtype: str = "float16",
    cache_dir: str | Path | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> FeatureStore:
    """Open the feature cache of a head's training rows; make it first, or go on making it.

    It is keyed by everything that its numbers depend on: the index, the images' sizes and times of
    change, input size, warp and augmentation, the seed, the number of views, the backbone and the
    precision. Making it costs views x rows forward passes of the backbone, and each image is
    decoded once. A stopped process leaves what it has done; the next one goes on from there.

    Args:
        head: the head's data.
        compute: gives maps (n, D, gh, gw) for crops uint8 (n, h, w, 3).
        shape: (D, gh, gw).
        backbone: a text that is the same only for the same weights, settings and arithmetic.
        views: crops of each row, drawn as in the first so many epochs of a run of this seed.
        seed: the run's.
        dtype: 'float16' or 'float32', of the numbers on disk.
        cache_dir: the cache folder; POSEKIT_CACHE or the user's own by default.
        workers: processes that read and crop images.
        progress: called with the number of instances done and of all.

    Raises:
        PosekitError: the disk is too full, or the cache cannot be written.
    """
    rows = np.asarray(head.index.trainable)
    base = Path(cache_dir).expanduser() if cache_dir is not None else default_cache()
    key = _key(head, rows, shape, [backbone, views, seed, dtype])
    folder = base / "features" / f"{head.index.name.replace('/', '-')}-{key[:20]}"
    if not (folder / "store.json").is_file():
        crops = _Views(head, rows, views, seed)
        needed = len(rows) * views * int(np.prod(shape)) * np.dtype(dtype).itemsize
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _only_one(folder / "lock"):
                if not (folder / "store.json").is_file():
                    _check_space(folder, needed)
                    _make(folder, crops, compute, shape, np.dtype(dtype), workers, progress)
        except OSError as error:
            raise PosekitError(
                f"{folder}: the feature cache cannot be written ({error.strerror or error}); free "
                "some space, or name another folder in the environment variable POSEKIT_CACHE"
            ) from error
    return FeatureStore(folder)


class BlankFeatures:
    """Maps of zeros, of the right shape: for finding out what a run costs."""

    def __init__(self, views: int, shape: tuple[int, int, int], dtype: str):
        self.views, self.shape, self.dtype = views, shape, np.dtype(dtype)

    def read(self, row: int, view: int) -> np.ndarray:
        """Return a map of zeros."""
        return np.zeros(self.shape, self.dtype)


class _Views(Dataset[Any]):
    """Chunk number -> all crops of its rows, which are sorted by image."""

    def __init__(self, head: CropSource, rows: np.ndarray, views: int, seed: int):
        self.head, self.views, self.seed = head, views, seed
        self.rows = rows[np.argsort(head.index.columns.image_index[rows], kind="stable")]

    def __len__(self) -> int:
        return (len(self.rows) + _CHUNK - 1) // _CHUNK

    def __getitem__(self, chunk: int) -> Any:
        return guarded(self._make, chunk)

    def of(self, chunk: int) -> np.ndarray:
        """Return the rows of a chunk."""
        return self.rows[chunk * _CHUNK : (chunk + 1) * _CHUNK]

    def _make(self, chunk: int) -> tuple[np.ndarray, dict[str, list[str]]]:
        """Return uint8 (rows * views, h, w, 3), and row -> the three parts of an error."""
        rows, head = self.of(chunk), self.head
        repeated = np.repeat(rows, self.views)
        epochs = np.tile(np.arange(self.views), len(rows))
        draws = KeyedDraws(self.seed, head.index.name)
        samples = draw_samples(head, repeated, epochs, draws)
        matrices = image_to_crop([s.geometry for s in samples], head.input_size, head.warp)
        crops = np.zeros((len(samples), *head.input_size, 3), np.uint8)
        failures: dict[str, list[str]] = {}
        files = ImageFiles(head.index)
        for i, sample in enumerate(samples):
            if str(sample.row) in failures:
                continue
            try:
                crops[i] = cut_crop(files, sample, matrices[i], head.input_size)
            except DatasetError as error:
                failures[str(sample.row)] = [error.file, error.problem, error.fix or ""]
        return crops, failures


def _make(
    folder: Path,
    crops: _Views,
    compute: Compute,
    shape: tuple[int, int, int],
    dtype: np.dtype,
    workers: int,
    progress: Progress | None,
) -> None:
    """Fill maps.bin chunk by chunk, noting in progress.json how many are whole."""
    rows = crops.rows
    slot_of_row = np.full(len(crops.head.index), -1, np.int32)
    slot_of_row[rows] = np.arange(len(rows))
    state = _read_progress(folder)
    size = (len(rows), crops.views, *shape)
    mode: Any = "r+" if state["chunks"] else "w+"
    maps = np.memmap(folder / "maps.bin", dtype, mode=mode, shape=size)
    todo = range(state["chunks"], len(crops))
    for chunk, (images, failures) in zip(todo, stream(crops, todo, workers), strict=True):
        first = chunk * _CHUNK
        count = len(crops.of(chunk))
        maps[first : first + count] = compute(images).reshape(count, crops.views, *shape)
        maps.flush()
        state = {"chunks": chunk + 1, "failures": {**state["failures"], **failures}}
        write_json(folder / "progress.json", state)
        if progress is not None:
            progress(first + count, len(rows))
    np.save(folder / "slot.npy", slot_of_row)
    described = {"views": crops.views, "shape": list(shape), "dtype": dtype.name}
    write_json(folder / "store.json", {**described, "failures": state["failures"]})


def _read_progress(folder: Path) -> dict[str, Any]:
    try:
        state = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        return {"chunks": int(state["chunks"]), "failures": dict(state["failures"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"chunks": 0, "failures": {}}


def _check_space(folder: Path, needed: int) -> None:
    there = folder / "maps.bin"
    free = shutil.disk_usage(folder).free + (there.stat().st_blocks * 512 if there.exists() else 0)
    if needed > free:
        raise PosekitError(
            f"{folder}: the feature cache needs {needed / 2**20:,.0f} MiB and the disk has "
            f"{free / 2**20:,.0f}; take fewer data.features.views, or name another folder in the "
            "environment variable POSEKIT_CACHE"
        )


@contextmanager
def _only_one(file: Path) -> Iterator[None]:
    """Let one process at a time through; the lock ends with the process."""
    try:
        import fcntl  # noqa: PLC0415 - not on every system
    except ImportError:
        yield
        return
    with file.open("w") as stream_out:
        fcntl.flock(stream_out, fcntl.LOCK_EX)
        yield


def _key(head: CropSource, rows: np.ndarray, shape: tuple[int, ...], more: list[Any]) -> str:
    settings = [
        *(FEATURES_VERSION, head.index.folder.name, head.input_size, head.warp),
        *(head.augmentation.model_dump(mode="json"), shape, *more),
    ]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(rows.tobytes())
    digest.update(image_stamps(head.index, rows))
    return digest.hexdigest()
