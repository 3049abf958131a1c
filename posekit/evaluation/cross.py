"""Cross evaluation: every head on every dataset whose keypoints it shares, as a transfer matrix."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from posekit.data.index import PoseIndex
from posekit.drawing import draw_matrix
from posekit.errors import ConfigError, PosekitError
from posekit.evaluation.pck import evaluate_pck
from posekit.evaluation.protocol import PckProtocol
from posekit.evaluation.runner import predict_split
from posekit.evaluation.tables import text_table
from posekit.models import PoseModel
from posekit.output import write_text
from posekit.poses.table import Poses
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
        """Return a table: heads in rows, datasets in columns, shared keypoints in brackets."""
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
        """Return head -> dataset -> value (None if not comparable) and number shared."""
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
        """Write the matrix as a coloured table (PNG).

        Raises:
            PosekitError: the file cannot be written.
        """
        cells = [
            [_cell(value, count) for value, count in zip(*row, strict=True)]
            for row in zip(self.values, self.shared, strict=True)
        ]
        title = f"{METRIC}; in brackets: keypoints that head (row) and dataset (column) share"
        picture = draw_matrix(self.values, cells, self.heads, self.datasets, title)
        try:
            Image.fromarray(picture).save(file)
        except OSError as error:
            raise PosekitError(f"{file}: cannot be written ({error.strerror})") from None
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


def score_shared(index: PoseIndex, predictions: Poses, channels: np.ndarray) -> float:
    """Return PCK@0.1 over the keypoints with a channel; the others count as not labelled."""
    known = channels >= 0
    points = predictions.keypoints[:, np.where(known, channels, 0)]
    scores = predictions.scores[:, np.where(known, channels, 0)]
    mapped = replace(predictions, schema=index.schema, keypoints=points, scores=scores)
    visibility = np.where(known, np.asarray(index.columns.visibility), 0)
    truth = replace(index.columns, visibility=visibility)
    protocol = PckProtocol(thresholds=(0.1,))
    return evaluate_pck(truth, mapped, index.schema, protocol).metrics[METRIC]


def _cell(value: float, shared: int) -> str:
    return "-" if np.isnan(value) else f"{value:.3f} ({shared})"
