"""What the command line shows: progress of a run, tables, and errors as sentences."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

if TYPE_CHECKING:  # a table of datasets needs no torch
    from posekit.engine.prepare import PreparedHead
    from posekit.engine.profile import Profile
    from posekit.engine.quickstart import Quickstart
    from posekit.engine.train import Plan
    from posekit.training.events import HeadResult, StepLog


class ProgressListener:
    """Shows a run as it goes: loss per head, images/s, data-wait share, time left.

    On a terminal one line is kept up to date; elsewhere a line is printed every `quiet_every` logs.
    """

    def __init__(self, console: Console, quiet_every: int = 10):
        self.console = console
        self.quiet_every = quiet_every
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._logs = 0
        self._tenth = 0

    def prepared(self, what: str, done: int, total: int) -> None:
        """Print a line at every tenth of the way."""
        if done * 10 // total != self._tenth:
            self.console.print(f"{what}: {done} of {total}", highlight=False)
        self._tenth = done * 10 // total

    def started(self, step: int, total_steps: int) -> None:
        """Begin the progress line."""
        if step:
            self.console.print(f"Going on from step {step} of {total_steps}.")
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.completed:>6}/{task.total}"),
                BarColumn(bar_width=20),
                TextColumn("{task.description}"),
                console=self.console,
            )
            self._task = self._progress.add_task("first steps", total=total_steps, completed=step)
            self._progress.start()

    def logged(self, log: StepLog) -> None:
        """Show a log."""
        self._logs += 1
        text = describe_log(log)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=log.step, description=text)
        elif self._logs % self.quiet_every == 1 or log.step == log.total_steps:
            self.console.print(f"{log.step:>6}/{log.total_steps}  {text}", highlight=False)

    def evaluated(self, step: int, results: dict[str, HeadResult]) -> None:
        """Show the headline of each head."""
        parts = [
            f"{head} {r.headline} {show(r.metrics[r.headline])}" for head, r in results.items()
        ]
        self.console.print(f"step {step}: " + ", ".join(parts), highlight=False)

    def warned(self, message: str) -> None:
        """Show a warning."""
        self.console.print(f"warning: {message}", style="yellow", highlight=False, soft_wrap=True)

    def finished(self, step: int, stopped: bool) -> None:
        """End the progress line."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if stopped:
            self.console.print(f"Stopped after step {step}; saved. Go on with --resume.")


class FilesProgress:
    """Shows how far a prediction is and how long it still takes; call it with name, done, total.

    On a terminal one line for each video (and one for all images) is kept up to date; elsewhere a
    line is printed every `every_s` seconds.
    """

    def __init__(
        self, console: Console, every_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ):
        self.console, self.every_s, self._clock = console, every_s, clock
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, tuple[float, int]] = {}
        self._said = clock()
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"), console=console, disable=not console.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> FilesProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Show that so many of a video's frames, or of all images, are done."""
        now = self._clock()
        begun, first = self._begun.setdefault(name, (now, done))
        pace = (now - begun) / (done - first) if done > first else 0.0
        left = f"{duration(max(total - done, 0) * pace)} left" if total and pace else ""
        if self.console.is_terminal:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=total, left="")
            self._progress.update(self._tasks[name], completed=done, left=left)
        elif now - self._said >= self.every_s:
            self._said = now
            of = f" of {total}" if total else ""
            self.console.print(f"{name}: {done}{of}, {left or 'end not known'}", highlight=False)


def describe_log(log: StepLog) -> str:
    """Return a log as one line."""
    losses = " ".join(f"{head} {value:.4g}" for head, value in log.loss.items())
    used = "" if log.utilisation is None else f"{log.utilisation:.0%} of the machine's speed | "
    return (
        f"loss {losses} | {log.images_per_s:.0f} images/s | data wait {log.data_wait:.0%} | {used}"
        f"{duration(log.time_left_s)} left"
    )


def plan_tables(plan: Plan) -> list[Table | str]:
    """Return what `posekit train --plan` shows."""
    table = Table(title="How often each dataset's instances are shown")
    for column in ("head", "instances", "left out", "samples in the run", "times each"):
        table.add_column(column, justify="left" if column == "head" else "right")
    for head, (instances, samples) in plan.shown.items():
        left_out = ", ".join(f"{n} {reason}" for reason, n in plan.skipped[head].items()) or "none"
        times = f"{samples / instances:.2f}"
        table.add_row(head, f"{instances:,}", left_out, f"{samples:,.0f}", times)
    lines = (
        f"{plan.steps:,} steps ({plan.epoch_steps:,.1f} to pass over all instances once), "
        f"{plan.processes} process(es) on {plan.device}; {plan.parameters / 1e6:.2f} M parameters, "
        f"{plan.trainable / 1e6:.2f} M of them train\n"
        f"{plan.step_s:.3f} s a step, so {duration(plan.total_s)} of training without evaluation; "
        f"peak memory {plan.memory_mib:,.0f} MiB (measured on dry steps)"
    )
    return [table, lines]


def prepared_table(prepared: Mapping[str, PreparedHead]) -> Table:
    """Return what `posekit prepare` shows."""
    rows = []
    for name, head in prepared.items():
        splits = ", ".join(f"{split} {n} ({t})" for split, (n, t) in head.instances.items())
        store = "no (data.cache)" if head.store_mib is None else f"{head.store_mib:.0f} MiB"
        rows.append([name, splits, store, head.broken, duration(head.index_s + head.store_s)])
    columns = ["head", "instances (trainable)", "crop store", "broken images", "took"]
    return rows_table("Ready for training", columns, rows)


def profile_parts(found: Profile) -> list[Table | str]:
    """Return what `posekit profile` shows."""
    rows = [
        [part, f"{seconds * 1e3:.1f}", f"{seconds / found.step_s:.0%}"]
        for part, seconds in found.parts_s.items()
    ]
    rows.append(["step", f"{found.step_s * 1e3:.1f}", ""])
    used = ""
    if found.utilisation is not None and found.product_gflops is not None:
        used = (
            f"; the model's products run at {found.utilisation:.0%} of a plain matrix product's "
            f"{found.product_gflops:.0f} GFLOP/s"
        )
    return [
        rows_table(f"A training step on {found.device}", ["part", "ms", "share"], rows),
        f"{found.images_per_s:.1f} images/s, {found.memory_mib:.0f} MiB at the peak{used}.",
        f"Limited by {found.limit}. What would help:",
        *(f"- {sentence}" for sentence in found.advice),
    ]


def metrics_table(title: str, metrics: Mapping[str, float]) -> Table:
    """Return a table with all numbers of one head."""
    table = Table(title=title)
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        table.add_row(name, show(value))
    return table


def rows_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return a plain table."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(show(cell) if isinstance(cell, float) else str(cell) for cell in row))
    return table


def show(value: float) -> str:
    """Return a metric's value; a dash for not-a-number."""
    return "-" if math.isnan(value) else f"{value:.4f}"


def duration(seconds: float) -> str:
    """Return seconds as 1 h 02 min, 3 min 04 s or 5 s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def comparison_table(title: str, heads: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a table that sets every head against the mean pose (and against itself alone).

    Args:
        title: the table's title.
        heads: what `posekit.engine.single_heads.compare_heads` gives.
    """
    with_alone = any(row["alone"] is not None for row in heads.values())
    same = all(row["metric"] == row["common_metric"] for row in heads.values())
    table = Table(title=title)
    table.add_column("head")
    if not same:
        for name in ("official metric", "this model", "mean pose"):
            table.add_column(name, justify="left" if name == "official metric" else "right")
    common = next(iter(heads.values()))["common_name"] if heads else ""
    table.add_column(f"{common}: this model", justify="right")
    table.add_column("mean pose", justify="right")
    if with_alone:
        table.add_column("head alone, as many own samples", justify="right")
    for head, row in heads.items():
        cells = [head]
        if not same:
            cells += [row["metric"], _cell(row["joint"]), _cell(row["mean_pose"])]
        cells += [_cell(row["joint_common"]), _cell(row["mean_pose_common"])]
        if with_alone:
            cells.append(_cell(row["alone_common"]))
        table.add_row(*cells)
    return table


def quickstart_parts(done: Quickstart) -> list[Table | str]:
    """Return what `posekit quickstart` shows at its end."""
    if not done.complete:
        return []
    times = (
        f"Rendered in {duration(done.render_s)}, trained in {duration(done.train_s)}, "
        f"evaluated in {duration(done.evaluate_s)}."
    )
    model = done.folder / "checkpoints" / "last.safetensors"
    return [
        comparison_table("One backbone, a head for each dataset", done.heads),
        times,
        f"Look at it:      {done.report}",
        f"Predict with it: posekit predict {model} PHOTO.jpg --head coco",
        "Your own data:   one YAML card and `posekit train`; the README's job 2 shows it",
        "Real training:   posekit train small_real data_root=DIR --plan",
    ]


def _cell(value: float | None) -> str:
    return "-" if value is None else show(value)
