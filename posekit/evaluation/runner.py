"""Predicts a split with one head of a model and scores the predictions."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from posekit.codecs import Codec, build_codec
from posekit.data.eval_loader import DetectedBoxes, EvalLoader
from posekit.data.index import PoseIndex
from posekit.errors import ConfigError, nearest
from posekit.evaluation.base import Scores, plain_values
from posekit.evaluation.boxes import boxes_hash, boxes_of
from posekit.evaluation.protocol import OksProtocol, Protocol
from posekit.evaluation.registry import evaluate, protocol_of
from posekit.evaluation.submission import write_submission
from posekit.evaluation.tables import write_csv
from posekit.models import PoseModel
from posekit.models.predict import predict_crops
from posekit.models.processes import rank_and_size, to_first
from posekit.output import write_text
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema
from posekit.version import __version__
from posekit.warp import inverse_crop_matrices

Progress = Callable[[int, int], None]
_Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Rows of the wanted boxes, points and scores found in them, areas of their crops."""

_WORTH_WORKERS = 512


def evaluate_model(
    model: PoseModel,
    head: str,
    index: PoseIndex,
    *,
    protocol: Protocol | None = None,
    settings: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    precision: str = "fp32",
    progress: Progress | None = None,
) -> tuple[Scores, Poses]:
    """Predict a split with one head and score it by the dataset's official protocol.

    Args:
        model: in evaluation mode, on the device that shall compute.
        head: name of the head; its schema must be the split's.
        index: the split.
        protocol: every setting; by default the card's, overridden by `settings`.
        batch_size: crops in one pass; changes the numbers by rounding only.
        workers: processes that read and crop images; chosen by the split's size if left out.
        precision: arithmetic of the model, 'fp32', 'bf16' or 'fp16'; maps are decoded in float32.
        progress: called with (done, all) crops after each batch.

    Raises:
        ConfigError: the head's keypoints are not the split's, or a wrong setting.
        DatasetError: an image is missing or broken (its score would be wrong).
        PredictionError: the boxes do not fit the split.
    """
    protocol = _protocol_of_run(model, head, index, protocol or protocol_of(index.card, settings))
    predictions = predict_split(
        model,
        head,
        index,
        protocol,
        batch_size=batch_size,
        workers=workers,
        precision=precision,
        progress=progress,
    )
    return evaluate(index.card, index.columns, predictions, protocol), predictions


def evaluate_shared(
    model: PoseModel,
    head: str,
    index: PoseIndex,
    *,
    settings: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    precision: str = "fp32",
) -> tuple[Scores, Poses] | None:
    """Do the same on all processes of the group, each its share of the boxes.

    Returns:
        The result on the first process, None on the others.

    Raises:
        PosekitError: as `evaluate_model`; a failure of one process is raised on all.
    """
    protocol = _protocol_of_run(model, head, index, protocol_of(index.card, settings))
    wanted = boxes_of(index, protocol)
    rank, size = rank_and_size()
    rows = np.array_split(np.arange(len(wanted)), size)[rank]
    gathered = to_first(
        lambda: _predict_rows(
            model, head, index, protocol, wanted, rows, batch_size, None, precision, None
        )
    )
    if gathered is None:
        return None
    parts = [part for parts in gathered for part in parts]
    predictions = _joined(wanted, parts, head, model.head(head).schema)
    return evaluate(index.card, index.columns, predictions, protocol), predictions


def predict_split(
    model: PoseModel,
    head: str,
    index: PoseIndex,
    protocol: Protocol,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    precision: str = "fp32",
    progress: Progress | None = None,
) -> Poses:
    """Predict every box that the protocol names; arguments as `evaluate_model`.

    The keypoints are the head's, whatever the split's schema.
    Cost: one forward pass a crop, two with flip test; each image is decoded once, as boxes are
    taken image by image.
    """
    wanted = boxes_of(index, protocol)
    rows = np.arange(len(wanted))
    parts = _predict_rows(
        model, head, index, protocol, wanted, rows, batch_size, workers, precision, progress
    )
    return _joined(wanted, parts, head, model.head(head).schema)


def _predict_rows(
    model: PoseModel,
    head: str,
    index: PoseIndex,
    protocol: Protocol,
    wanted: Poses,
    rows: np.ndarray,
    batch_size: int,
    workers: int | None,
    precision: str,
    progress: Progress | None,
) -> list[_Part]:
    """Predict some rows of the wanted boxes, batch by batch."""
    codec = codec_for(model, head, protocol)
    loader = EvalLoader(
        _with_padding(index, protocol),
        codec.input_size,
        codec.warp,
        batch_size=batch_size,
        workers=_workers(len(rows)) if workers is None else workers,
        rows=rows,
        boxes=DetectedBoxes(wanted.image_index, wanted.box_xywh),
        pixels=model.head(head).spec.pixels,
    )
    parts: list[_Part] = []
    flip, done = bool(protocol.flip_test), 0
    for batch in loader:
        found = predict_crops(
            model, batch.images, [head], codecs={head: codec}, flip_test=flip, precision=precision
        )
        back = inverse_crop_matrices(batch.center, batch.size, 0.0, codec.input_size, codec.warp)
        parts.append((batch.rows, *found[head].in_image(back), batch.size.prod(axis=1)))
        done += len(batch.rows)
        if progress is not None:
            progress(done, len(rows))
    return parts


def _joined(wanted: Poses, parts: Sequence[_Part], head: str, schema: KeypointSchema) -> Poses:
    """Return the wanted boxes with what the head found in them, in their order."""
    points, scores = np.zeros((len(wanted), len(schema), 2)), np.zeros((len(wanted), len(schema)))
    area = np.zeros(len(wanted))
    for rows, found, found_scores, crop_area in parts:
        points[rows], scores[rows], area[rows] = found, found_scores, crop_area
    return replace(
        wanted, head=head, schema=schema, keypoints=points, scores=scores, input_area=area
    )


def codec_for(model: PoseModel, head: str, protocol: Protocol) -> Codec:
    """Return the head's codec, with the refinement and the shift that the protocol asks for.

    Raises:
        ConfigError: the model has no such head, or the codec no such refinement.
    """
    if head not in model.head_names:
        raise ConfigError(
            f"no head named '{head}'{nearest(head, model.head_names)} "
            f"(heads: {', '.join(model.head_names)})"
        )
    spec, codec = model.head(head).spec, model.head(head).codec
    if protocol.refine:
        changed = {**spec.codec, "refine": protocol.refine}
        codec = build_codec(changed, spec.input_size, f"protocol, refine '{protocol.refine}'")
    if protocol.shift_flipped is not None and protocol.shift_flipped != codec.shift_flipped:
        codec = copy.copy(codec)
        codec.shift_flipped = protocol.shift_flipped
    return codec


def _protocol_of_run(model: PoseModel, head: str, index: PoseIndex, protocol: Protocol) -> Protocol:
    """Return a protocol with what only the run knows, once it is clear that it fits."""
    protocol = complete_protocol(protocol, codec_for(model, head, protocol), head, index)
    _check(model, head, index, protocol)
    return protocol


def complete_protocol(protocol: Protocol, codec: Codec, head: str, index: PoseIndex) -> Protocol:
    """Fill in what only the run knows: decoder, head, split, data and version."""
    config = getattr(codec, "config", None)
    details = [
        f"{key} {value}"
        for key in ("refine", "blur_kernel", "follows")
        if (value := getattr(config, key, None)) is not None
    ]
    kind = getattr(config, "kind", type(codec).__name__)
    return protocol.model_copy(
        update={
            "boxes_hash": boxes_hash(index, protocol),
            "decoder": ", ".join([kind, *details]),
            "shift_flipped": codec.shift_flipped,
            "padding": protocol.padding or index.card.box.padding,
            "head": head,
            "dataset": index.card.name,
            "split": index.split,
            "data_hash": index.data_hash,
            "posekit_version": __version__,
        }
    )


def write_results(
    folder: Path,
    scores: Scores,
    predictions: Poses,
    index: PoseIndex,
    extra: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write metrics.json, keypoints.csv, categories.csv, predictions.json and official files.

    Args:
        extra: further keys of metrics.json (the baseline's numbers, for example); the shares in
            its `error_types` become columns of keypoints.csv.

    Raises:
        PosekitError: a file cannot be written.
    """
    folder = Path(folder)
    card = index.card
    fields = {k: v for k, v in scores.protocol.items() if k in type(protocol_of(card)).model_fields}
    protocol = type(protocol_of(card)).model_validate(fields)
    files = write_submission(folder, predictions, index.columns, index.schema, protocol)
    more = plain_values(dict(extra or {}))
    content = json.dumps({**scores.to_dict(), **more}, indent=1) + "\n"
    metrics = write_text(folder / "metrics.json", content)
    kinds = more.get("error_types", {}).get("per_keypoint", {})
    table = {name: {**row, **kinds.get(name, {})} for name, row in scores.per_keypoint.items()}
    tables = [write_csv(folder / "keypoints.csv", "keypoint", table)] if table else []
    if scores.per_category:
        tables.append(write_csv(folder / "categories.csv", "category", scores.per_category))
    return [metrics, *tables, *files]


def _check(model: PoseModel, head: str, index: PoseIndex, protocol: Protocol) -> None:
    schema = model.head(head).schema
    if schema.keypoints != index.schema.keypoints:
        raise ConfigError(
            f"head '{head}' predicts the {len(schema)} keypoints of schema '{schema.name}', but "
            f"{index.name} has the {len(index.schema)} of '{index.schema.name}'; evaluate it on a "
            "dataset with its schema"
        )
    if protocol.boxes != "annotation" and not isinstance(protocol, OksProtocol):
        raise ConfigError(
            f"dataset '{index.card.name}' is scored instance by instance, which needs boxes: "
            "annotation (a detector's boxes have no instance of their own)"
        )


def _workers(crops: int) -> int:
    return min(2, os.cpu_count() or 1) if crops >= _WORTH_WORKERS else 0


def _with_padding(index: PoseIndex, protocol: Protocol) -> PoseIndex:
    if protocol.padding in {None, index.card.box.padding}:
        return index
    box = index.card.box.model_copy(update={"padding": protocol.padding})
    changed = copy.copy(index)
    changed.card = index.card.model_copy(update={"box": box})
    return changed
