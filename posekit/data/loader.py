"""MixedLoader: micro-batches of all heads, made ahead by worker processes."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from posekit.data.batch import Batch, Failure, Group, Packed, Part, unpack
from posekit.data.crops import HeadData
from posekit.data.images import use_one_thread
from posekit.data.make_batch import BatchMaker, PixelSource
from posekit.data.sampler import MixedSampler, Source
from posekit.errors import ConfigError, DatasetError, PosekitError
from posekit.recipe import Sampling

__all__ = ["Batch", "Failure", "Group", "HeadData", "MixedLoader", "Part", "stream"]

_PREFETCH = 4


class MixedLoader:
    """Gives micro-batch after micro-batch, from any one on, for ever.

    What a batch holds depends on the heads' data, sampling, batch size, seed and world size only:
    not on the number of workers, nor on where it starts.

    Args:
        heads: the heads' data, in order.
        sampling: how the heads share each batch.
        batch_size: samples of a micro-batch in one process, all heads together.
        seed: key of every draw.
        workers: processes that make batches ahead; 0 makes them here.
        world_size, rank: processes that share the micro-batches, and this one's number.
        sources: head -> where its pixels come from (a CropStore); image files by default.
        max_bad_share: share of a dataset's samples that may be broken before training stops.
        pin_memory: put batches into page-locked memory, for a GPU.
        context: how workers start: 'fork', 'spawn', 'forkserver' or None for the default.

    Raises:
        ConfigError: two heads have one name, or a setting cannot be.
        DatasetError: a head's dataset has nothing to train on.
    """

    def __init__(
        self,
        heads: Sequence[HeadData],
        sampling: Sampling,
        batch_size: int,
        *,
        seed: int = 0,
        workers: int = 0,
        world_size: int = 1,
        rank: int = 0,
        sources: Mapping[str, PixelSource] | None = None,
        max_bad_share: float = 0.05,
        pin_memory: bool = False,
        context: str | None = None,
    ):
        for head in heads:
            head.index.require_trainable()
        unknown = set(sources or {}) - {head.name for head in heads}
        if unknown:
            raise ConfigError(f"a pixel source is given for the unknown head '{min(unknown)}'")
        self._steps = _Steps(
            tuple(heads), sampling, batch_size, seed, world_size, rank, dict(sources or {})
        )
        self._workers, self._context = workers, context
        self._pin_memory, self._max_bad_share = pin_memory, max_bad_share

    @property
    def sampler(self) -> MixedSampler:
        """Says what each batch holds, without making it."""
        return self._steps.sampler

    @property
    def instances(self) -> int:
        """Trainable instances of all heads together: the samples of one epoch."""
        return sum(len(head.index.trainable) for head in self._steps.heads)

    def batch(self, step: int) -> Batch:
        """Make one micro-batch here and now, for looking at it."""
        return unpack(_result(self._steps[step]))

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Give the micro-batches from number `start` on, without end.

        Raises:
            DatasetError: too many records of one dataset are broken.
        """
        record = _BadRecords(self._max_bad_share)
        packed = stream(self._steps, _From(start), self._workers, self._context, pin_memory=False)
        for result in packed:
            batch = unpack(_result(result))
            record.add(batch)
            yield batch.pin_memory() if self._pin_memory else batch


def stream(
    dataset: Dataset[Any],
    items: Sampler[int] | Sequence[int],
    workers: int,
    context: str | None = None,
    pin_memory: bool = False,
) -> Iterator[Any]:
    """Give dataset[i] for each i of `items` in order, made ahead by worker processes."""
    use_one_thread()
    return iter(
        DataLoader(
            dataset,
            batch_size=None,
            sampler=items,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_start_worker,
            prefetch_factor=_PREFETCH if workers else None,
            multiprocessing_context=context if workers else None,
            pin_memory=pin_memory,
        )
    )


def guarded(make: Callable[[int], Any], item: int) -> Any:
    """Call `make(item)`; give a PosekitError back instead of raising it.

    DataLoader would re-raise a worker's error as a RuntimeError around a traceback.
    """
    try:
        return make(item)
    except PosekitError as error:
        return error


class _Steps(Dataset[Any]):
    """Batch number -> packed batch. Pickles without annotations; workers open them by path."""

    def __init__(
        self,
        heads: tuple[HeadData, ...],
        sampling: Sampling,
        batch_size: int,
        seed: int,
        world_size: int,
        rank: int,
        pixels: dict[str, PixelSource],
    ):
        self._arguments = (heads, sampling, batch_size, seed, world_size, rank, pixels)
        self.heads = heads
        sources = [Source(head.name, head.index.name, head.index.trainable) for head in heads]
        self.sampler = MixedSampler(sources, sampling, batch_size, seed, world_size, rank)
        self._maker = BatchMaker(heads, self.sampler, pixels)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Steps, self._arguments

    def __getitem__(self, step: int) -> Packed | PosekitError:
        return guarded(self._maker.make, step)


class _From(Sampler[int]):
    """Counts up from a number without end."""

    def __init__(self, start: int):
        self._start = start

    def __iter__(self) -> Iterator[int]:
        return count(self._start)


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
                    f"{self._max_share:.0%} that are let pass; the last one: {failure.message}",
                    fix="repair the files, or leave the images out (the head's 'exclude')",
                )


def _result(result: Any) -> Packed:
    if isinstance(result, PosekitError):
        raise result
    return result


def _as_it_is(item: Any) -> Any:
    return item


def _start_worker(_: int) -> None:
    """One thread, and no reaction to Ctrl-C or SIGTERM: the main process ends its workers."""
    torch.set_num_threads(1)
    use_one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
