"""The numbers that a paper or a repository reports for a recipe; no code that checks them."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from posekit.config.base import Strict


class Published(Strict):
    """A reported result of a recipe on one split.

    Attributes:
        metrics: name of the metric as the dataset's evaluator gives it -> reported value in the
            evaluator's unit (AP between 0 and 1, PCKh in percent).
        source: the table that it is from.
        head: the head that was evaluated; left out, the one with the entry's own name.
        dataset, split: what it was evaluated on; the head's own if left out.
        protocol: settings laid over those of the card and of the head.
        tolerance: largest difference, as a share of the reported value, that counts as
            reproduced; retraining moves AP by about 0.3 %.
        doubt: why the number cannot be expected to come out; it is then shown and not judged.
    """

    metrics: dict[str, float]
    source: str
    head: str = ""
    dataset: str = ""
    split: str = ""
    protocol: dict[str, Any] = Field(default_factory=dict)
    tolerance: float = Field(0.005, gt=0, lt=1)
    doubt: str = ""

    @field_validator("metrics")
    @classmethod
    def _not_empty(cls, metrics: dict[str, float]) -> dict[str, float]:
        if not metrics:
            raise ValueError("expected at least one metric")
        return metrics


class SourceFile(Strict):
    """A file that a run needs besides its datasets.

    Attributes:
        file: the path that the recipe names.
        where: where to get it.
    """

    file: str
    where: str
