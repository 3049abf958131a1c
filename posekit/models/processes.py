"""What the processes of one run say to each other (torch.distributed)."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from posekit.errors import PosekitError, TrainingError

T = TypeVar("T")


def rank_and_size() -> tuple[int, int]:
    """Return this process's number and how many there are; (0, 1) without a process group."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def from_first(make: Callable[[], T]) -> T:
    """Return on every process what `make` returns on the first, the only one that calls it.

    Tensors in nested dicts, lists and tuples travel one by one, so that a state of many gigabytes
    needs no second copy; they arrive on the CPU.

    Raises:
        PosekitError: `make` raised it; every process then raises the same.
    """
    rank, size = rank_and_size()
    if size == 1:
        return make()
    _start_pulse()
    tensors: list[Tensor] = []
    box: list[Any] = [None]
    if rank == 0:
        try:
            outline = _outline(make(), tensors)
            box = [(outline, [(t.shape, t.dtype) for t in tensors])]
        except PosekitError as error:
            box = [error]
    wait_for_all()
    dist.broadcast_object_list(box)
    if isinstance(box[0], PosekitError):
        raise box[0]
    outline, kinds = box[0]
    device = _device()
    received = []
    for number, (shape, dtype) in enumerate(kinds):
        empty = torch.empty(shape, dtype=dtype, device=device)
        tensor = tensors[number].to(device) if rank == 0 else empty
        dist.broadcast(tensor, 0)
        received.append(tensor.cpu())
    return _filled(outline, received)


def to_first(make: Callable[[], T]) -> list[T] | None:
    """Return, on the first process, what `make` returned on each; None on the others.

    Raises:
        PosekitError: `make` failed on some process; every process then raises it.
    """
    rank, size = rank_and_size()
    if size == 1:
        return [make()]
    _start_pulse()
    mine: Any
    try:
        mine = make()
    except (PosekitError, OSError, RuntimeError) as error:
        mine = _Failed(error if isinstance(error, PosekitError) else PosekitError(str(error)))
    gathered: list[Any] | None = [None] * size if rank == 0 else None
    wait_for_all()
    dist.gather_object(mine, gathered)
    failed = next((one for one in gathered or () if isinstance(one, _Failed)), None)
    box = [failed]
    dist.broadcast_object_list(box)
    if box[0] is not None:
        raise box[0].error
    return gathered


def wait_for_all() -> None:
    """Wait until every process is here, as long as all live; a collective would time out.

    Raises:
        TrainingError: a process that is missing gave no sign of life for `SILENCE`.
    """
    rank, size = rank_and_size()
    if size == 1:
        return
    _start_pulse()
    number = next(_meetings)
    here = {f"posekit/meeting/{number}/{other}": other for other in range(size)}
    _store().set(f"posekit/meeting/{number}/{rank}", "1")
    _wait(here)


@contextmanager
def first_goes_ahead(work: str) -> Iterator[None]:
    """Let the first process do a piece of work, however long it takes, before the others.

    The others ask the group's store instead of standing in a barrier, which would time out.

    Args:
        work: a name for it; every process enters with the same names in the same order.

    Raises:
        TrainingError: the first gave no sign of life for `SILENCE`.
    """
    rank, size = rank_and_size()
    if size == 1:
        yield
        return
    _start_pulse()
    _turns[work] = _turns.get(work, 0) + 1
    done = f"posekit/{work}/{_turns[work]}"
    if rank:
        _wait({done: 0})
    try:
        yield
    finally:
        if rank == 0:
            _store().set(done, "1")


SILENCE = timedelta(minutes=10)
"""A process that says nothing for so long is lost."""

_BEAT = timedelta(seconds=15)
_turns: dict[str, int] = {}
_meetings = itertools.count()


def _wait(keys: Mapping[str, int]) -> None:
    """Wait for keys of the store, each set by a process, as long as those that owe one live."""
    store, now = _store(), time.monotonic()
    heard = dict.fromkeys(keys.values(), (b"", now))
    pause = 0.005
    while missing := {key: rank for key, rank in keys.items() if not store.check([key])}:
        time.sleep(pause)
        pause = min(2 * pause, 1.0)
        now = time.monotonic()
        for rank in missing.values():
            sign = f"posekit/alive/{rank}"
            beat = store.get(sign) if store.check([sign]) else b""
            if beat != heard[rank][0]:
                heard[rank] = beat, now
            elif now - heard[rank][1] > SILENCE.total_seconds():
                own, size = rank_and_size()
                raise TrainingError(
                    f"process {own} of {size}: process {rank} has said nothing for "
                    f"{SILENCE.total_seconds() / 60:.0f} minutes; go on with --resume"
                )


def _start_pulse() -> None:
    """Let a thread give signs of life from now on, whatever this process works at."""
    if _PULSE not in (thread.name for thread in threading.enumerate()):
        arguments = (_store(), f"posekit/alive/{dist.get_rank()}")
        threading.Thread(target=_beat, args=arguments, name=_PULSE, daemon=True).start()


_PULSE = "posekit's sign of life"


def _beat(store: dist.Store, sign: str) -> None:
    for number in itertools.count():
        try:
            store.set(sign, str(number))
        except RuntimeError:  # the group has ended
            return
        time.sleep(_BEAT.total_seconds())


def _store() -> dist.Store:
    return dist.distributed_c10d._get_default_store()


class _Failed:
    """An error on its way to the other processes."""

    def __init__(self, error: PosekitError):
        self.error = error


class _Place:
    """Stands in an outline for the tensor of a number."""

    def __init__(self, number: int):
        self.number = number


def _outline(value: Any, tensors: list[Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors.append(value.detach().contiguous())
        return _Place(len(tensors) - 1)
    if isinstance(value, dict):
        return {key: _outline(inner, tensors) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_outline(inner, tensors) for inner in value)
    return value


def _filled(outline: Any, tensors: list[Tensor]) -> Any:
    if isinstance(outline, _Place):
        return tensors[outline.number]
    if isinstance(outline, dict):
        return {key: _filled(inner, tensors) for key, inner in outline.items()}
    if isinstance(outline, list | tuple):
        return type(outline)(_filled(inner, tensors) for inner in outline)
    return outline


def _device() -> torch.device:
    """Return the device on which the group's tensors travel."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
