"""OKS sigmas estimated from repeated annotations of the same instances, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posekit.config.cards import DatasetCard
from posekit.data.columns import InstanceColumns
from posekit.data.index import build_index
from posekit.errors import ConfigError, DatasetError
from posekit.evaluation.base import plain_values
from posekit.evaluation.tables import text_table
from posekit.poses.similarity import exact_points
from posekit.schema import KeypointSchema

_RESAMPLES = 2000
_BOX_TO_AREA = 0.53


@dataclass(frozen=True)
class SigmaEstimate:
    """Estimated sigmas of a schema.

    Attributes:
        keypoints: K names.
        sigmas, low, high: float64 (K,): estimate and bounds of its 95 % interval; NaN where fewer
            than two annotators labelled the keypoint of any instance.
        counts: int64 (K,): instances that two or more annotators labelled.
        scale: what distances were divided by: 'area' or '0.53 x box area'.
        source: a sentence for the card's `sigmas_source`.
    """

    keypoints: tuple[str, ...]
    sigmas: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray
    scale: str
    source: str

    def text(self) -> str:
        """A table, and what a card would say."""
        rows = [
            [name, f"{s:.4f}", f"{low:.4f} to {high:.4f}", str(count)]
            for name, s, low, high, count in zip(
                self.keypoints, self.sigmas, self.low, self.high, self.counts, strict=True
            )
        ]
        table = text_table(["keypoint", "sigma", "95 % interval", "instances"], rows)
        return f"{table}\nsigmas_source: {self.source}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and for a card."""
        return {
            "keypoints": list(self.keypoints),
            "sigmas": plain_values(self.sigmas),
            "low": plain_values(self.low),
            "high": plain_values(self.high),
            "counts": self.counts.tolist(),
            "scale": self.scale,
            "sigmas_source": self.source,
        }


def estimate_sigmas(
    repeats: Sequence[InstanceColumns], schema: KeypointSchema, *, seed: int = 0
) -> SigmaEstimate:
    """Estimate sigmas from the same instances annotated several times.

    COCO defines sigma^2 as the mean of d^2 / s^2, d the distance of an annotation from the true
    point and s^2 the instance's area. The true point is unknown, so the squared distances from the
    annotators' mean are divided by their number less one. Intervals are percentiles of 2,000
    resamples of the instances.

    Args:
        repeats: two or more annotations; instances are matched by image and instance
            id.
        schema: the keypoints.
        seed: key of the resampling.

    Raises:
        DatasetError: fewer than two annotations, or no instance that two of them share.
    """
    if len(repeats) < 2:
        raise DatasetError(
            "repeated annotations",
            f"found {len(repeats)}, expected two or more annotations of the same instances",
        )
    values, scale = _variances(repeats, schema)
    counts = (~np.isnan(values)).sum(axis=0)
    if not counts.any():
        raise DatasetError(
            "repeated annotations",
            "no instance has the same image and instance id in two of them",
            fix="give the same instance the same id in every file",
        )
    sigmas = _root_mean(values)
    rng = np.random.default_rng(seed)
    draws = np.stack(
        [_root_mean(values[rng.integers(0, len(values), len(values))]) for _ in range(_RESAMPLES)]
    )
    draws[:, counts == 0] = 0
    low, high = np.nanquantile(draws, (0.025, 0.975), axis=0)
    low[counts == 0], high[counts == 0] = np.nan, np.nan
    source = (
        f"estimated by posekit from {len(repeats)} annotations of {int(counts.max())} instances, "
        f"distances by {scale}"
    )
    return SigmaEstimate(schema.keypoints, sigmas, low, high, counts, scale, source)


def estimate_from_files(
    card: DatasetCard,
    root: str | Path,
    splits: Sequence[str],
    annotations: Sequence[str] = (),
    *,
    seed: int = 0,
) -> SigmaEstimate:
    """Estimate sigmas from annotators' files; see `estimate_sigmas`.

    Args:
        card: how the files are read.
        root: the dataset's folder.
        splits: one split for each annotator, or the one whose options fit all `annotations`.
        annotations: the annotators' files, relative to the root.
        seed: key of the resampling.

    Raises:
        ConfigError: an unknown split, or files for several splits at once.
        DatasetError: a file is wrong, or there is nothing to estimate from.
    """
    parts = [card.split(name) for name in splits]
    if annotations:
        if len(parts) != 1:
            raise ConfigError(
                f"found {len(parts)} splits beside annotation files, expected the one split whose "
                "options the files are read by"
            )
        names = [f"{parts[0].name}_{number}" for number in range(1, len(annotations) + 1)]
        parts = [
            parts[0].model_copy(update={"name": name, "annotations": file})
            for name, file in zip(names, annotations, strict=True)
        ]
        card = card.model_copy(update={"splits": {part.name: part for part in parts}})
    repeats = [build_index(card, root, part.name).columns for part in parts]
    return estimate_sigmas(repeats, card.keypoint_schema, seed=seed)


def _variances(
    repeats: Sequence[InstanceColumns], schema: KeypointSchema
) -> tuple[np.ndarray, str]:
    """float64 (N, K): unbiased variance of each shared instance's points over its area."""
    use_area = all((np.asarray(c.area) > 0).all() for c in repeats)
    entries: dict[Any, list[tuple[np.ndarray, np.ndarray, float]]] = {}
    for columns in repeats:
        points = exact_points(np.asarray(columns.keypoints))
        labelled = np.asarray(columns.visibility) > 0
        image = np.asarray(columns.image_id)[np.asarray(columns.image_index)].tolist()
        box = np.asarray(columns.box_xywh, dtype=np.float64)
        area = np.asarray(columns.area) if use_area else _BOX_TO_AREA * box[:, 2] * box[:, 3]
        for i, key in enumerate(zip(image, columns.instance_id.tolist(), strict=True)):
            if not columns.is_crowd[i] and area[i] > 0:
                entries.setdefault(key, []).append((points[i], labelled[i], float(area[i])))
    rows = [_variance(group, len(schema)) for group in entries.values() if len(group) > 1]
    values = np.asarray(rows).reshape(-1, len(schema))
    return values, "area" if use_area else f"{_BOX_TO_AREA} x box area"


def _variance(group: list[tuple[np.ndarray, np.ndarray, float]], num: int) -> np.ndarray:
    points = np.stack([entry[0] for entry in group])
    labelled = np.stack([entry[1] for entry in group])
    area = float(np.mean([entry[2] for entry in group]))
    count = labelled.sum(axis=0)
    weights = labelled[..., None]
    middle = (points * weights).sum(axis=0) / np.maximum(count, 1)[:, None]
    squared = (((points - middle) ** 2) * weights).sum(axis=(0, 2))
    return np.where(count > 1, squared / np.maximum(count - 1, 1) / area, np.full(num, np.nan))


def _root_mean(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, np.sqrt(total / np.maximum(count, 1)), np.nan)
