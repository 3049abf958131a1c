"""Cross evaluation: every head on every dataset whose keypoints it shares, as a transfer matrix."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from posekit.data.index import PoseIndex
from posekit.errors import ConfigError
from posekit.evaluation.base import Predictions
from posekit.evaluation.pck import evaluate_pck
from posekit.evaluation.protocol import PckProtocol
from posekit.evaluation.runner import predict_split
from posekit.evaluation.tables import text_table
from posekit.models import PoseModel
from posekit.output import write_text
from posekit.schema_map import map_schema

METRIC = "PCK@0.1"
_LEAST_SHARED = 3


@dataclass(frozen=True)
class TransferMatrix:
    """PCK@0.1 of the box's long side, over the keypoints that head and dataset share.

    Attributes:
        heads, datasets: names of the H rows and D columns.
        values: float64 (H, D), NaN where fewer than three keypoints are shared.
        shared: int64 (H, D), number of shared keypoints.
    """

    heads: tuple[str, ...]
    datasets: tuple[str, ...]
    values: np.ndarray
    shared: np.ndarray

    def text(self) -> str:
        """A table: heads in rows, datasets in columns, shared keypoints in brackets."""
        rows = [
            [head, *(_cell(self.values[i, j], self.shared[i, j]) for j in range(self.shape[1]))]
            for i, head in enumerate(self.heads)
        ]
        note = f"{METRIC} of the box's long side (number of shared keypoints)"
        return note + "\n" + text_table(["head", *self.datasets], rows)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, D)."""
        return len(self.heads), len(self.datasets)

    def to_dict(self) -> dict[str, Any]:
        """head -> dataset -> value and number of shared keypoints; None where not comparable."""
        return {
            head: {
                name: {
                    METRIC: None if np.isnan(self.values[i, j]) else float(self.values[i, j]),
                    "shared": int(self.shared[i, j]),
                }
                for j, name in enumerate(self.datasets)
            }
            for i, head in enumerate(self.heads)
        }

    def write(self, folder: Path) -> list[Path]:
        """Write transfer.json and transfer.png into a folder."""
        table = write_text(folder / "transfer.json", json.dumps(self.to_dict(), indent=1) + "\n")
        return [table, self.write_picture(folder / "transfer.png")]

    def write_picture(self, file: Path) -> Path:
        """Write the matrix as a coloured table (PNG or SVG, by the file's ending)."""
        rows, columns = self.shape
        figure = Figure(figsize=(2.2 + 1.1 * columns, 1.4 + 0.6 * rows), layout="constrained")
        axes = figure.subplots()
        shown = np.ma.masked_invalid(self.values)
        image = axes.imshow(shown, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        axes.set_title("in brackets: keypoints that head and dataset share", fontsize=9)
        axes.set_xticks(range(columns), self.datasets, rotation=30, ha="right")
        axes.set_yticks(range(rows), self.heads)
        axes.set_xlabel("dataset")
        axes.set_ylabel("head")
        for i in range(rows):
            for j in range(columns):
                dark = not np.isnan(self.values[i, j]) and self.values[i, j] < 0.6
                axes.text(
                    j,
                    i,
                    _cell(self.values[i, j], self.shared[i, j]),
                    ha="center",
                    va="center",
                    color="white" if dark else "black",
                    fontsize=8,
                )
        figure.colorbar(image, ax=axes, label=METRIC)
        figure.savefig(file, dpi=120)
        return file


def cross_evaluate(
    model: PoseModel,
    indices: Mapping[str, PoseIndex],
    *,
    heads: Sequence[str] | None = None,
    allow_near: bool = False,
    batch_size: int = 64,
    workers: int | None = None,
) -> TransferMatrix:
    """Evaluate heads on datasets over the keypoints that they share (see `schema_map`).

    Args:
        model: in evaluation mode.
        indices: dataset's name -> split.
        heads: which heads; all if left out.
        allow_near: also compare points that are close together but not the same.

    Cost: a pass over every split for every head that shares at least three keypoints.
    """
    chosen = tuple(heads or model.head_names)
    unknown = [name for name in chosen if name not in model.head_names]
    if unknown:
        raise ConfigError(f"no head named '{unknown[0]}' (heads: {', '.join(model.head_names)})")
    values = np.full((len(chosen), len(indices)), np.nan)
    shared = np.zeros(values.shape, np.int64)
    protocol = PckProtocol(thresholds=(0.1,))
    for i, head in enumerate(chosen):
        for j, index in enumerate(indices.values()):
            source = model.head(head).schema
            channels = map_schema(source, index.schema, allow_near=allow_near).indices
            shared[i, j] = (channels >= 0).sum()
            if shared[i, j] < _LEAST_SHARED:
                continue
            predictions = predict_split(
                model, head, index, protocol, batch_size=batch_size, workers=workers
            )
            values[i, j] = score_shared(index, predictions, channels)
    return TransferMatrix(chosen, tuple(indices), values, shared)


def score_shared(index: PoseIndex, predictions: Predictions, channels: np.ndarray) -> float:
    """Return PCK@0.1 over the keypoints with a channel; the others count as not labelled."""
    known = channels >= 0
    points = predictions.keypoints[:, np.where(known, channels, 0)]
    scores = predictions.scores[:, np.where(known, channels, 0)]
    mapped = replace(predictions, keypoints=points, scores=scores)
    visibility = np.where(known, np.asarray(index.columns.visibility), 0)
    truth = replace(index.columns, visibility=visibility)
    protocol = PckProtocol(thresholds=(0.1,))
    return evaluate_pck(truth, mapped, index.schema, protocol).metrics[METRIC]


def _cell(value: float, shared: int) -> str:
    return "-" if np.isnan(value) else f"{value:.3f} ({shared})"
