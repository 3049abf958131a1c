"""Phases of a run: which parts of the model are frozen from when on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from posekit.config.model import Phase
from posekit.models.freeze import freeze


class Phases:
    """Freezes and thaws parts of a model as a run goes on.

    What the recipe freezes for the whole run stays frozen; a phase adds to it. A frozen parameter
    gets no gradient, so the optimizer leaves it and its averages alone; frozen modules are
    held in evaluation mode.

    Args:
        model: as it is to be without any phase; only with phases must it be a PoseModel.
        phases: in the order of their starts.
        unit_steps: optimizer steps in the unit of the starts.
    """

    def __init__(self, model: Any, phases: Sequence[Phase], unit_steps: float):
        self.model, self.phases, self.unit_steps = model, tuple(phases), unit_steps
        self._current: int | None = None
        if self.phases:
            self._trainable = [p for p in model.parameters() if p.requires_grad]
            self._held_in_eval: list[nn.Module] = list(model.held_in_eval)

    def apply(self, step: int) -> None:
        """Bring the model into the phase that optimizer step number `step` belongs to."""
        wanted = sum(phase.start * self.unit_steps <= step for phase in self.phases)
        if not self.phases or wanted == self._current:
            return
        for parameter in self._trainable:
            parameter.requires_grad_(True)
        self.model.held_in_eval[:] = self._held_in_eval
        if wanted:
            freeze(self.model, self.phases[wanted - 1].freeze)
        self.model.train(self.model.training)
        self._current = wanted
