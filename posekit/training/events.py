"""What a run reports while it goes on; the command line shows it, tests read it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class StepLog:
    """The state of a run at one logged step.

    Attributes:
        step: optimizer steps done; total_steps: of the run.
        epoch: passes over the training splits taken together.
        lr: learning rate of a parameter group of scale 1.
        loss: head -> its loss over its own labelled points, mean since the last log.
        images_per_s: samples a second since the last log, all processes.
        data_wait: share of the time since the last log that went into waiting for data.
        time_left_s: estimate for the rest of the run.
        utilisation: operations of the model's products a second over the machine's measured speed
            (model FLOP utilisation, of one process); None where it is not known.
    """

    step: int
    total_steps: int
    epoch: float
    lr: float
    loss: dict[str, float]
    images_per_s: float
    data_wait: float
    time_left_s: float
    utilisation: float | None = None


@dataclass(frozen=True)
class HeadResult:
    """A head's numbers at one evaluation.

    Attributes:
        metrics: name -> value.
        headline: name of the metric that decides which checkpoint is best.
        lower_is_better: True where the headline is an error.
        findings: what looks wrong in the predictions, a sentence each; see posekit.diagnosis.
    """

    metrics: dict[str, float]
    headline: str
    lower_is_better: bool = False
    findings: tuple[str, ...] = ()

    @property
    def goodness(self) -> float:
        """The headline, turned so that more is better; -inf if it is not a number."""
        value = self.metrics[self.headline]
        if math.isnan(value):
            return float("-inf")
        return -value if self.lower_is_better else value


class Listener(Protocol):
    """Receives what happens in a run; every method may do nothing."""

    def prepared(self, what: str, done: int, total: int) -> None:
        """Something that takes long before the first step has come so far."""

    def started(self, step: int, total_steps: int) -> None:
        """Training begins (or goes on) at `step`."""

    def logged(self, log: StepLog) -> None:
        """A log step was reached."""

    def evaluated(self, step: int, results: dict[str, HeadResult]) -> None:
        """Heads were evaluated."""

    def warned(self, message: str) -> None:
        """Something went wrong that training survives."""

    def finished(self, step: int, stopped: bool) -> None:
        """Training ended; `stopped` if a signal ended it early."""


class Silent:
    """A listener that keeps what it hears and shows nothing."""

    def __init__(self) -> None:
        self.logs: list[StepLog] = []
        self.evaluations: list[tuple[int, dict[str, HeadResult]]] = []
        self.warnings: list[str] = []

    def prepared(self, what: str, done: int, total: int) -> None:
        """Do nothing."""

    def started(self, step: int, total_steps: int) -> None:
        """Do nothing."""

    def logged(self, log: StepLog) -> None:
        """Keep the log."""
        self.logs.append(log)

    def evaluated(self, step: int, results: dict[str, HeadResult]) -> None:
        """Keep the results."""
        self.evaluations.append((step, results))

    def warned(self, message: str) -> None:
        """Keep the warning."""
        self.warnings.append(message)

    def finished(self, step: int, stopped: bool) -> None:
        """Do nothing."""


@dataclass
class ErrorBook:
    """Counts data errors by message and reports each message once."""

    listener: Listener
    counts: dict[str, int] = field(default_factory=dict)

    def note(self, errors: list[str]) -> None:
        """Count errors; a message heard for the first time goes to the listener."""
        for message in errors:
            if message not in self.counts:
                self.listener.warned(f"{message} (another sample took its place)")
            self.counts[message] = self.counts.get(message, 0) + 1
