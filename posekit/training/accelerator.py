"""Device, precision and processes of a run, by accelerate."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from posekit.config.recipe import Recipe
from posekit.errors import ConfigError, TrainingError
from posekit.models.processes import SILENCE
from posekit.training.kernels import has_fast_bf16


def build_accelerator(precision: str) -> Accelerator:
    """Return accelerate's device and precision handling.

    Where torchrun started several processes they join, over GPUs or, on a machine without one,
    over the CPU (gloo).

    Raises:
        ConfigError: fp16 without a GPU, or more processes on this machine than it has GPUs.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("training.precision: fp16 needs a GPU; use bf16 or fp32 on the CPU")
    started = int(os.environ.get("WORLD_SIZE", "1"))
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    on_cpu = _wants_cpu() or (started > 1 and not torch.cuda.is_available())
    if not on_cpu and gpus and here > gpus:
        raise ConfigError(
            f"torchrun started {here} processes on this machine, found {gpus} GPUs; start at most "
            f"{gpus} (--nproc-per-node), or set ACCELERATE_USE_CPU=true to train on the CPU"
        )
    mixed = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[precision]
    state = AcceleratorState._shared_state
    if state and state.get("_mixed_precision") != mixed:
        # accelerate keeps one precision a process; a second run in it may want another.
        AcceleratorState._reset_state()
    if not PartialState._shared_state and started > 1 and dist.is_initialized() is False:
        atexit.register(_leave_process_group)
    handlers: list[Any] = [
        # A micro-batch may hold no sample of some expert, whose parameters then get no gradient.
        DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False),
        InitProcessGroupKwargs(timeout=SILENCE),
    ]
    accelerator = Accelerator(
        mixed_precision=mixed,
        step_scheduler_with_optimizer=False,
        kwargs_handlers=handlers,
        cpu=on_cpu,
    )
    if accelerator.num_processes != started:
        raise ConfigError(
            f"torchrun started {started} processes (WORLD_SIZE), but accelerate joined "
            f"{accelerator.num_processes}; unset the ACCELERATE_* variables of the environment"
        )
    return accelerator


def on_this_machine(recipe: Recipe) -> tuple[Recipe, Accelerator]:
    """Return a recipe with what follows from device and processes filled in, and both of them.

    `training.precision: auto` becomes what is used, `accumulate` follows from `batch_total`.

    Raises:
        ConfigError: as `build_accelerator` and `Recipe.for_processes`.
    """
    precision = recipe.training.precision
    if precision == "auto":
        on_gpu = torch.cuda.is_available() and not _wants_cpu()
        precision = "bf16" if has_fast_bf16("cuda" if on_gpu else "cpu") else "fp32"
        training = recipe.training.model_copy(update={"precision": precision})
        recipe = recipe.model_copy(update={"training": training})
    accelerator = build_accelerator(precision)
    return recipe.for_processes(accelerator.num_processes), accelerator


@contextmanager
def lost_processes_told() -> Iterator[None]:
    """Turn the failure of a collective, because another process is gone or silent, into a sentence.

    Raises:
        TrainingError: it names this process and what to do.
    """
    try:
        yield
    except (dist.DistBackendError, dist.DistNetworkError, RuntimeError) as error:
        if not (dist.is_initialized() and _is_of_a_collective(error)):
            raise
        raise TrainingError(
            f"process {dist.get_rank()} of {dist.get_world_size()}: another process has ended or "
            f"said nothing for {SILENCE.seconds // 60} minutes "
            f"({str(error).strip().splitlines()[0]}); go on with --resume"
        ) from None


def _is_of_a_collective(error: RuntimeError) -> bool:
    words = ("gloo", "NCCL", "Connection closed", "Timed out", "timeout", "ProcessGroup")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


def _wants_cpu() -> bool:
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in {"1", "true", "yes"}


def _leave_process_group() -> None:
    """End the group before the interpreter does: gloo's threads abort a process that just ends."""
    if dist.is_initialized():
        dist.destroy_process_group()
