"""Several processes that evaluate together, as torchrun starts them."""

from __future__ import annotations

import os

import torch
import torch.distributed


def join_processes() -> tuple[int, int]:
    """Return (rank, world size), after joining the other processes that torchrun started."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def own_rank() -> int:
    """Return the number of this process among those that torchrun started, 0 if it is alone."""
    return int(os.environ.get("RANK", "0"))


def own_device(name: str | None = None) -> torch.device:
    """Return the device that is named, else this process's GPU if there is one, else the CPU."""
    if name is not None:
        return torch.device(name)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
