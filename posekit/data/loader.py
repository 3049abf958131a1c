"""MixedLoader: micro-batches of all heads, made ahead by worker processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Literal

from posekit.data.batch import Batch, Failure, Group, Part, unpack
from posekit.data.crop_store import open_store
from posekit.data.crops import CropSource
from posekit.data.feature_store import FeatureBatchMaker, FeatureSource
from posekit.data.make_batch import BatchMaker, PixelSource
from posekit.data.sampler import MixedSampler
from posekit.data.workers import stream
from posekit.errors import ConfigError, DatasetError

__all__ = ["Batch", "CropSource", "Failure", "Group", "MixedLoader", "Part"]


class MixedLoader:
    """An endless stream of micro-batches, from any number on.

    What a batch holds depends on the heads' data, sampling, batch size, seed and world size only:
    not on the number of workers, nor on where it starts.

    Args:
        data: head -> its data.
        sampler: what each batch holds; its sources are these heads, in its own order.
        workers: processes that make batches ahead; 0 makes them here.
        start_step: number of the micro-batch that `iter(loader)` starts with.
        cache: 'none', or 'store' to cut crops from a CropStore (built first if there is none).
        cache_dir: the cache folder; POSEKIT_CACHE or the user's own by default.
        views: number of different crops of a row; without it every epoch has its own.
        features: head -> maps of a frozen backbone, which batches then hold instead of crops;
            `views` is theirs.
        max_bad_share: share of a dataset's samples that may be broken before training stops.
        pin_memory: put batches into page-locked memory, for a GPU.
        context: how workers start: 'fork', 'spawn', 'forkserver' or None for the default.

    Raises:
        ConfigError: the sampler and the data name different heads.
        DatasetError: a head's dataset has nothing to train on.
    """

    def __init__(
        self,
        data: Mapping[str, CropSource],
        sampler: MixedSampler,
        *,
        workers: int = 0,
        start_step: int = 0,
        cache: Literal["none", "store"] = "none",
        cache_dir: str | Path | None = None,
        views: int | None = None,
        features: Mapping[str, FeatureSource] | None = None,
        max_bad_share: float = 0.05,
        pin_memory: bool = False,
        context: str | None = None,
    ):
        for head in data.values():
            head.index.require_trainable()
        named = [source.head for source in sampler.sources]
        if set(named) != set(data):
            raise ConfigError(f"the sampler draws for heads {named}, there are data for {[*data]}")
        stores: dict[str, PixelSource] = {}
        if cache == "store" and not features:
            stores = {name: open_store(head, cache_dir) for name, head in data.items()}
        self.sampler, self.start_step = sampler, start_step
        if features:
            self._maker: BatchMaker = FeatureBatchMaker(data, sampler, features)
        else:
            self._maker = BatchMaker(data, sampler, stores, views)
        self._workers, self._context = workers, context
        self._pin_memory, self._max_bad_share = pin_memory, max_bad_share

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(self.start_step)

    def batch(self, step: int) -> Batch:
        """Make one micro-batch here and now, for looking at it."""
        return unpack(self._maker.make(step))

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Return the micro-batches from number `start` on, without end.

        Raises:
            DatasetError: too many records of one dataset are broken.
        """
        record = _BadRecords(self._max_bad_share)
        for packed in stream(self._maker, count(start), self._workers, self._context):
            batch = unpack(packed)
            record.add(batch)
            yield batch.pin_memory() if self._pin_memory else batch


class _BadRecords:
    """Counts broken records and stops when they are too many."""

    def __init__(self, max_share: float):
        self._max_share = max_share
        self._shown: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._rows: dict[str, set[int]] = {}

    def add(self, batch: Batch) -> None:
        for group in batch.groups:
            self._shown[group.head] += len(group)
        for failure in batch.failures:
            self._failed[failure.head] += 1
            self._rows.setdefault(failure.head, set()).add(failure.row)
        for failure in batch.failures:
            failed, shown = self._failed[failure.head], self._shown[failure.head]
            many = len(self._rows[failure.head]) >= 3 and shown >= 50
            if many and failed > self._max_share * shown:
                raise DatasetError(
                    failure.dataset,
                    f"{failed} of the {shown} samples drawn so far cannot be used, more than the "
                    f"{self._max_share:.0%} allowed; the last one: {failure.message}",
                    fix="repair the files, or leave the images out (the head's 'exclude')",
                )
