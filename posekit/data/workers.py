"""Worker processes: items of a dataset made ahead, errors handed back whole."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from posekit.data.images import use_one_thread
from posekit.errors import PosekitError

_PREFETCH = 4


def stream(
    dataset: Dataset[Any], items: Iterable[int], workers: int, context: str | None = None
) -> Iterator[Any]:
    """Return dataset[i] for each i of `items` in order, made ahead by worker processes.

    Args:
        dataset: makes the items; its `__getitem__` returns errors through `guarded`.
        items: the numbers; may be endless.
        workers: number of processes; 0 makes the items here when they are asked for.
        context: how workers start: 'fork', 'spawn', 'forkserver' or None for the default.

    Raises:
        PosekitError: an item is one.
    """
    use_one_thread()
    made = DataLoader(
        dataset,
        batch_size=None,
        sampler=items,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_start_worker,
        prefetch_factor=_PREFETCH if workers else None,
        multiprocessing_context=context if workers else None,
    )
    for item in made:
        if isinstance(item, PosekitError):
            raise item
        yield item


def guarded(make: Callable[[int], Any], item: int) -> Any:
    """Call `make(item)`; return a PosekitError instead of raising it.

    DataLoader would re-raise a worker's error as a RuntimeError around a traceback.
    """
    try:
        return make(item)
    except PosekitError as error:
        return error


def _as_it_is(item: Any) -> Any:
    return item


def _start_worker(_: int) -> None:
    """Use one thread, leave Ctrl-C to the main process, and end quietly.

    A terminal's Ctrl-C and a batch system's SIGTERM reach the workers too, while the main process
    still wants to save. The first is ignored; the second ends a worker as if it were done, which
    does not interrupt the main process. (To ignore it would hang the main process at its own end,
    which waits for the workers that it terminated.) A worker leaves without C++ clean-up, which
    aborts now and then in spawned processes.
    """
    torch.set_num_threads(1)
    use_one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    atexit.register(os._exit, 0)
