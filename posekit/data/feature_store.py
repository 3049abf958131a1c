"""FeatureStore: a frozen backbone's maps of K augmented crops of each training row, on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posekit.data.augment import KeyedDraws
from posekit.data.crops import CropSource, Sample, draw_samples, image_to_crop
from posekit.data.make_batch import BatchMaker, ImageFiles, cut_crop
from posekit.data.row_store import Progress, RowChunks, RowStore
from posekit.data.sampler import MixedSampler, Slot
from posekit.data.workers import stream
from posekit.errors import DatasetError, PosekitError
from posekit.output import write_json

FEATURES_VERSION = 1
_CHUNK = 16

Compute = Callable[[np.ndarray], np.ndarray]


class FeatureStore(RowStore):
    """The stored maps of the trainable rows of one index.

    Attributes:
        views: different crops of a row.
        shape: (D, gh, gw) of a map.
        dtype: of its numbers.
    """

    def __init__(self, folder: Path):
        super().__init__(folder)
        depth, height, width = self.about["shape"]
        self.views: int = self.about["views"]
        self.shape = (depth, height, width)
        self.dtype = np.dtype(self.about["dtype"])
        size = (int(self._slot.max()) + 1, self.views, *self.shape)
        self._maps = np.memmap(folder / "maps.bin", self.dtype, mode="r", shape=size)

    def read(self, row: int, view: int) -> np.ndarray:
        """Return the map (D, gh, gw) of a row's crop number `view`.

        Raises:
            DatasetError: the row is not stored, or its image could not be read.
        """
        return self._maps[self.slot(row), view]


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
        compute: returns maps (n, D, gh, gw) for crops uint8 (n, h, w, 3).
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
    settings = [
        *(FEATURES_VERSION, head.index.folder.name, head.input_size, head.warp, head.pixels),
        *(head.augmentation.model_dump(mode="json"), shape, backbone, views, seed, dtype),
    ]
    crops = _Views(head, views, seed)
    folder = crops.folder("features", settings, cache_dir)
    if not (folder / "store.json").is_file():
        needed = len(crops.rows) * views * int(np.prod(shape)) * np.dtype(dtype).itemsize
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


FeatureSource = FeatureStore | BlankFeatures


class FeatureBatchMaker(BatchMaker):
    """Makes the batches of a BatchMaker with as many views, with maps in place of the crops.

    Args:
        heads: head -> its data.
        sampler: what each batch holds.
        features: head -> its maps, all with the same number of views.
    """

    def __init__(
        self,
        heads: Mapping[str, CropSource],
        sampler: MixedSampler,
        features: Mapping[str, FeatureSource],
    ):
        super().__init__(heads, sampler, views=next(iter(features.values())).views)
        self._features = dict(features)

    def _empty(self, count: int, name: str) -> torch.Tensor:
        source = self._features[name]
        return torch.from_numpy(np.empty((count, *source.shape), source.dtype))

    def _crop(self, name: str, slot: Slot, sample: Sample, matrix: np.ndarray) -> np.ndarray:
        return self._features[name].read(slot.row, self._view(slot))


class _Views(RowChunks):
    """Chunk number -> all crops of its rows."""

    def __init__(self, head: CropSource, views: int, seed: int):
        super().__init__(head, _CHUNK)
        self.views, self.seed = views, seed

    def make(self, chunk: int) -> tuple[np.ndarray, dict[str, list[str]]]:
        """Return uint8 (rows * views, h, w, 3), and the rows that failed."""
        rows, head = self.of(chunk), self.head
        repeated = np.repeat(rows, self.views)
        epochs = np.tile(np.arange(self.views), len(rows))
        draws = KeyedDraws(self.seed, head.index.name)
        samples = draw_samples(head, repeated, epochs, draws)
        matrices = image_to_crop([s.geometry for s in samples], head.input_size, head.warp)
        crops = np.zeros((len(samples), *head.input_size, 3), np.uint8)
        failures: dict[str, list[str]] = {}
        files = ImageFiles(head.index, reduce=head.pixels == "reduced")
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
    crops.save_slots(folder)
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
