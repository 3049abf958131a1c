"""A run's curves in TensorBoard, beside log.jsonl (extra `tensorboard`)."""

from __future__ import annotations

from pathlib import Path

from posekit.errors import ConfigError
from posekit.training.events import HeadResult, Listener, StepLog


class TensorBoardListener:
    """Writes what happens to RUN/tensorboard and passes it on to another listener.

    Args:
        folder: the run's folder.
        other: the listener that hears everything too.

    Raises:
        ConfigError: the extra `tensorboard` is not installed.
    """

    def __init__(self, folder: str | Path, other: Listener):
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415
        except ImportError:
            raise ConfigError(
                "training.tensorboard: the package tensorboard is missing; "
                "pip install 'posekit[tensorboard]'"
            ) from None
        self.other = other
        self._writer = SummaryWriter(str(Path(folder) / "tensorboard"))

    def prepared(self, what: str, done: int, total: int) -> None:
        """Pass it on."""
        self.other.prepared(what, done, total)

    def started(self, step: int, total_steps: int) -> None:
        """Pass it on."""
        self.other.started(step, total_steps)

    def logged(self, log: StepLog) -> None:
        """Write losses, learning rate and speed."""
        for head, value in log.loss.items():
            self._writer.add_scalar(f"loss/{head}", value, log.step)
        for name in ("lr", "images_per_s", "data_wait", "utilisation"):
            if (value := getattr(log, name)) is not None:
                self._writer.add_scalar(f"run/{name}", value, log.step)
        self.other.logged(log)

    def evaluated(self, step: int, results: dict[str, HeadResult]) -> None:
        """Write every metric of every head."""
        for head, result in results.items():
            for name, value in result.metrics.items():
                self._writer.add_scalar(f"eval/{head}/{name}", value, step)
        self._writer.flush()
        self.other.evaluated(step, results)

    def warned(self, message: str) -> None:
        """Pass it on."""
        self.other.warned(message)

    def finished(self, step: int, stopped: bool) -> None:
        """Flush and pass it on."""
        self._writer.flush()
        self.other.finished(step, stopped)
