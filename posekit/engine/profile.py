"""Where a step's time goes, what limits it, and what to change."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from posekit.config.plug_ins import takes_allow_code
from posekit.config.recipe import Recipe, load_recipe
from posekit.engine.prepare_run import prepare_run
from posekit.engine.train import peak_memory_mib
from posekit.training.loop import Trainer

Limit = Literal["data", "host", "compute", "memory"]
PARTS = ("data", "host", "forward", "backward", "optimizer")

_DATA_SHARE, _HOST_SHARE, _HIGH_USE = 0.15, 0.2, 0.6


@dataclass(frozen=True)
class Profile:
    """Medians over some steps of one process.

    Attributes:
        step_s: seconds of a step, data included.
        parts_s: 'data' (waiting for batches, or making them without workers), 'host' (copying to
            the device, schedule, averaging), 'forward' (with losses), 'backward' (with clipping),
            'optimizer'.
        images_per_s: samples a second.
        utilisation: operations of the model's products over the measured speed of a matrix product;
            None for models that are not counted.
        product_gflops: that speed, GFLOP/s.
        memory_mib: peak memory of the device (GPU) or of this process (CPU).
        device: where it ran.
        limit: what holds the step up.
        advice: what to change, a sentence each, the most useful first.
    """

    step_s: float
    parts_s: dict[str, float]
    images_per_s: float
    utilisation: float | None
    product_gflops: float | None
    memory_mib: float
    device: str
    limit: Limit
    advice: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


@takes_allow_code
def profile(
    recipe: Recipe | str | Path,
    overrides: Iterable[str] = (),
    steps: int = 8,
    warmups: int = 2,
    *,
    allow_code: bool = False,
) -> Profile:
    """Run some training steps that leave nothing behind and take their time apart.

    Args:
        recipe: a Recipe, or the path or name of one.
        overrides: `key.path=value` settings laid upon a recipe given by path or name.
        steps: steps that count, warmups: steps before them.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Raises:
        ConfigError, DatasetError: as `train`.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    run = prepare_run(recipe, dry=True)
    trainer = run.trainer()
    watch = _StepWatch(trainer)
    batches = run.loader.batches(0)
    micro, device = trainer.recipe.training.accumulate, trainer.accelerator.device
    rows: list[dict[str, float]] = []
    used: list[float] = []
    for number in range(warmups + steps):
        begun = time.perf_counter()
        made = [next(batches) for _ in range(micro)]
        data_s = time.perf_counter() - begun
        row = watch.step([batch.to(device) for batch in made], begun + data_s)
        if number >= warmups:
            rows.append({"data": data_s, **row})
            used.append(trainer.step_cost.of(made) if trainer.step_cost is not None else 0.0)
    parts = {name: statistics.median(row[name] for row in rows) for name in PARTS}
    step_s = statistics.median(sum(row.values()) for row in rows)
    speed = trainer.step_cost.speed if trainer.step_cost is not None else None
    share = None if speed is None else statistics.median(used) / step_s / speed
    limit = limit_of(parts, share)
    return Profile(
        step_s=step_s,
        parts_s=parts,
        images_per_s=trainer.recipe.training.batch_size * micro / step_s,
        utilisation=share,
        product_gflops=None if speed is None else speed / 1e9,
        memory_mib=peak_memory_mib(device),
        device=str(device),
        limit=limit,
        advice=tuple(advise(limit, trainer.recipe, device.type)),
    )


def limit_of(parts_s: dict[str, float], utilisation: float | None) -> Limit:
    """Name what limits the speed of a step.

    Data, if more than 15 % of the time goes into waiting for them; the host, if more than 20 % goes
    into what is neither data nor model; compute, if the model's products run at 60 % or more of the
    machine's speed while the model runs; memory otherwise: then norms, activations, copies and
    products too small for the machine take the time, all of which wait for memory.
    """
    step_s = sum(parts_s.values())
    if parts_s["data"] > _DATA_SHARE * step_s:
        return "data"
    if parts_s["host"] > _HOST_SHARE * step_s:
        return "host"
    model_s = parts_s["forward"] + parts_s["backward"]
    in_model = 1.0 if utilisation is None else utilisation * step_s / max(model_s, 1e-9)
    return "compute" if in_model >= _HIGH_USE else "memory"


def advise(limit: Limit, recipe: Recipe, device: str) -> list[str]:
    """Return what would help a recipe against a limit, leaving out what it does already."""
    training, data = recipe.training, recipe.data
    accelerated = device != "cpu"
    found: list[tuple[bool, str]] = []
    if limit == "data":
        found = [
            (
                data.cache == "none",
                "data.cache=store keeps small crops; `posekit prepare` makes it",
            ),
            (accelerated, f"raise data.workers (now {data.workers}) up to the free CPU cores"),
            (True, "keep images on a local disk, no larger than the crops need"),
        ]
    elif limit == "host":
        found = [
            (not training.compile, "training.compile=true launches fewer kernels"),
            (True, f"raise training.batch_size (now {training.batch_size})"),
            (training.ema_decay > 0, "training.ema_decay=0 leaves the averaging out"),
        ]
    elif limit == "compute":
        found = [
            (training.precision != "bf16", "training.precision=bf16 multiplies faster"),
            (True, "a smaller backbone or input_size, or freeze parts of the backbone"),
            (True, "more devices: torchrun --nproc-per-node N -m posekit.cli train ..."),
        ]
    else:
        found = [
            (training.precision != "bf16", "training.precision=bf16 halves what is moved"),
            (
                accelerated and not training.compile,
                "training.compile=true joins norms, activations and copies",
            ),
            (accelerated, f"raise training.batch_size (now {training.batch_size})"),
            (
                recipe.backbone.gradient_checkpointing,
                "backbone.gradient_checkpointing=false computes nothing twice, if memory allows",
            ),
            (True, "wider layers or fewer, larger heads use the machine better than many small"),
        ]
    return [sentence for applies, sentence in found if applies]


class _StepWatch:
    """Takes the time at the borders of forward, backward and optimizer of a loop's steps."""

    def __init__(self, trainer: Trainer):
        self._trainer = trainer
        self._device = trainer.accelerator.device
        self._marks: list[tuple[str, float]] = []
        trainer.module.register_forward_pre_hook(lambda *_: self._mark("forward"))
        trainer.module.register_forward_hook(lambda *_: self._mark("backward"))
        trainer.optimizer.register_step_pre_hook(lambda *_: self._mark("optimizer"))
        trainer.optimizer.register_step_post_hook(lambda *_: self._mark("host"))

    def step(self, batches: list[Any], since: float) -> dict[str, float]:
        """Run one step that began (after its data) at `since`; return each part's seconds."""
        self._marks = [("host", since)]
        self._trainer.train_step(batches)
        self._mark("end")
        spent = dict.fromkeys(PARTS[1:], 0.0)
        for (part, begun), (_, ended) in zip(self._marks, self._marks[1:], strict=False):
            spent[part] += ended - begun
        return spent

    def _mark(self, part: str) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._marks.append((part, time.perf_counter()))
