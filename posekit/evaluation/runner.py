"""Runs a model's head over a split and scores it: the join of model, index and evaluator."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor
from torch.utils.data import Dataset

from posekit import __version__
from posekit.codecs import (
    Codec,
    Warp,
    crop_matrices,
    crop_size_for,
    inverse_crop_matrices,
    transform_points,
    warp_image,
)
from posekit.data.images import read_image
from posekit.data.index import PoseIndex
from posekit.data.loader import guarded, stream
from posekit.errors import ConfigError, PosekitError
from posekit.evaluation.base import Predictions, Scores
from posekit.evaluation.boxes import boxes_of
from posekit.evaluation.protocol import OksProtocol, Protocol
from posekit.evaluation.registry import evaluate, protocol_of
from posekit.evaluation.submission import write_submission
from posekit.models import PoseModel

Progress = Callable[[int, int], None]
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
    distributed: bool = False,
    progress: Progress | None = None,
) -> tuple[Scores, Predictions]:
    """Predict a split with one head and score it by the dataset's official protocol.

    Args:
        model: in evaluation mode, on the device that shall compute.
        head: name of the head; its schema must be the split's.
        index: the split.
        protocol: every setting; by default the card's with `settings` laid upon them.
        batch_size: crops at once; the numbers do not depend on it beyond rounding.
        workers: processes that read and crop images; chosen by the split's size if left out.
        distributed: all processes of the group take part; each gets the same result.
        progress: called with (done, all) crops after each batch.

    Raises:
        ConfigError: the head's keypoints are not the split's, or a wrong setting.
        DatasetError: an image is missing or broken (its score would be wrong).
        PredictionError: the boxes do not fit the split.
    """
    protocol = protocol or protocol_of(index.card, settings)
    codec = codec_for(model, head, protocol)
    protocol = complete_protocol(protocol, codec, head, index)
    _check(model, head, index, protocol)
    predictions = predict_split(
        model,
        head,
        index,
        protocol,
        batch_size=batch_size,
        workers=workers,
        distributed=distributed,
        progress=progress,
    )
    return evaluate(index.card, index.columns, predictions, protocol), predictions


def predict_split(
    model: PoseModel,
    head: str,
    index: PoseIndex,
    protocol: Protocol,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    distributed: bool = False,
    progress: Progress | None = None,
) -> Predictions:
    """Predict every box that the protocol names; arguments as `evaluate_model`.

    Cost: one forward pass a crop, two with flip test; each image is decoded once, as boxes are
    taken image by image.
    """
    codec = codec_for(model, head, protocol)
    wanted = boxes_of(index, protocol)
    crops = crops_of(index, wanted, protocol, codec)
    wanted = replace(wanted, input_area=crops.size.prod(axis=1))
    order = np.argsort(crops.image, kind="stable")
    if distributed:
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        order = np.array_split(order, world)[rank]
    points = np.zeros(wanted.keypoints.shape)
    scores = np.zeros(wanted.scores.shape)
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if workers is None:
        workers = min(2, os.cpu_count() or 1) if len(order) >= _WORTH_WORKERS else 0
    images = stream(_CropBatches(crops, batches), range(len(batches)), workers)
    done = 0
    for rows, batch in zip(batches, images, strict=True):
        if isinstance(batch, PosekitError):
            raise batch
        points_crop, score = predict_crops(model, head, codec, batch, flip=protocol.flip_test)
        points[rows] = transform_points(points_crop.cpu().numpy(), crops.inverse(rows))
        scores[rows] = score.cpu().numpy()
        done += len(rows)
        if progress is not None:
            progress(done, len(order))
    if distributed:
        points, scores = _sum_of_processes(points), _sum_of_processes(scores)
    return replace(wanted, keypoints=points, scores=scores)


@torch.inference_mode()
def predict_crops(
    model: PoseModel, head: str, codec: Codec, images: Tensor, *, flip: bool
) -> tuple[Tensor, Tensor]:
    """Predict one batch of crops.

    Args:
        images: uint8 (B, h, w, 3) RGB.
        flip: average with the mirrored crops (flip test).

    Returns:
        float32 points (B, K, 2) in crop pixels and scores (B, K).
    """
    device = model.mean.device
    normal = model.normalise(images.to(device, non_blocking=True))
    maps = _maps(model, head, codec, normal)
    if flip:
        mirrored = _maps(model, head, codec, normal.flip(-1))
        flip_indices = np.array(model.head(head).schema.flip_indices)
        maps = codec.average_flipped(maps, mirrored, flip_indices)
    return codec.decode(maps)


def codec_for(model: PoseModel, head: str, protocol: Protocol) -> Codec:
    """Give the head's codec, with the shift of mirrored maps that the protocol asks for."""
    if head not in model.head_names:
        raise ConfigError(f"no head named '{head}' (heads: {', '.join(model.head_names)})")
    codec = model.head(head).codec
    if protocol.shift_flipped is None or protocol.shift_flipped == codec.shift_flipped:
        return codec
    changed = copy.copy(codec)
    changed.shift_flipped = protocol.shift_flipped
    return changed


def complete_protocol(protocol: Protocol, codec: Codec, head: str, index: PoseIndex) -> Protocol:
    """Fill in what only the run knows: codec, head, split, data and version."""
    settings = {
        key: value
        for key, value in sorted(vars(codec).items())
        if isinstance(value, (str, int, float, bool, tuple)) and not key.startswith("_")
    }
    name = type(codec).__name__
    return protocol.model_copy(
        update={
            "decoder": f"{name}({', '.join(f'{k}={v}' for k, v in settings.items())})",
            "shift_flipped": codec.shift_flipped,
            "padding": protocol.padding or index.card.box.padding,
            "head": head,
            "dataset": index.card.name,
            "split": index.split,
            "data_hash": index.data_hash,
            "posekit_version": __version__,
        }
    )


@dataclass(frozen=True)
class Crops:
    """Where the n crops lie: image rows of the index, centre and size (padding included)."""

    index: PoseIndex
    image: np.ndarray
    center: np.ndarray
    size: np.ndarray
    input_size: tuple[int, int]
    warp: Warp

    def inverse(self, rows: np.ndarray) -> np.ndarray:
        """float64 (m, 2, 3): from crop pixels to image pixels."""
        return inverse_crop_matrices(
            self.center[rows], self.size[rows], 0.0, self.input_size, self.warp
        )


def crops_of(index: PoseIndex, wanted: Predictions, protocol: Protocol, codec: Codec) -> Crops:
    """Lay the crops around the boxes of `wanted`, by the card's and the protocol's rules."""
    box = wanted.box_xywh
    image_id = np.asarray(index.columns.image_id)
    by_id = np.argsort(image_id, kind="stable")
    padding = protocol.padding or index.card.box.padding
    return Crops(
        index=index,
        image=by_id[np.searchsorted(image_id[by_id], wanted.image_id)],
        center=box[:, :2] + box[:, 2:] / 2,
        size=crop_size_for(box[:, 2:], codec.input_size, padding, index.card.box.keep_aspect),
        input_size=codec.input_size,
        warp=codec.warp,
    )


class _CropBatches(Dataset[Any]):
    """Batch number -> uint8 (B, h, w, 3) crops; keeps the last image, as rows come by image."""

    def __init__(self, crops: Crops, batches: list[np.ndarray]):
        self._crops, self._batches = crops, batches
        self._last: tuple[int, np.ndarray] | None = None

    def __getitem__(self, number: int) -> Tensor | PosekitError:
        return guarded(self._make, number)

    def _make(self, number: int) -> Tensor:
        rows, crops = self._batches[number], self._crops
        matrices = crop_matrices(
            crops.center[rows], crops.size[rows], 0.0, crops.input_size, crops.warp
        )
        out = torch.empty((len(rows), *crops.input_size, 3), dtype=torch.uint8)
        for i, (row, matrix) in enumerate(zip(rows, matrices, strict=True)):
            image = self._image(int(crops.image[row]))
            out[i] = torch.from_numpy(warp_image(image, matrix, crops.input_size))
        return out

    def _image(self, image: int) -> np.ndarray:
        if self._last is None or self._last[0] != image:
            index = self._crops.index
            height, width = index.columns.image_size[image].tolist()
            self._last = (image, read_image(index.image_file_at(image), (height, width)))
        return self._last[1]


def write_results(
    folder: Path,
    scores: Scores,
    predictions: Predictions,
    index: PoseIndex,
    extra: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write metrics.json, predictions.json and the dataset's official file.

    Args:
        extra: further keys of metrics.json (the baseline's numbers, for example).

    Raises:
        PosekitError: a file cannot be written.
    """
    folder = Path(folder)
    card = index.card
    fields = {k: v for k, v in scores.protocol.items() if k in type(protocol_of(card)).model_fields}
    protocol = type(protocol_of(card)).model_validate(fields)
    files = write_submission(folder, predictions, index.columns, index.schema, protocol)
    content = json.dumps({**scores.to_dict(), **(extra or {})}, indent=1) + "\n"
    metrics, temporary = folder / "metrics.json", folder / "metrics.json.part"
    try:
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, metrics)
    except OSError as error:
        raise PosekitError(f"{metrics}: cannot be written ({error.strerror})") from None
    return [metrics, *files]


def _maps(model: PoseModel, head: str, codec: Codec, images: Tensor) -> Tensor:
    output = model(images, [(head, slice(0, len(images)))])[head]
    return codec.to_heatmap(output)


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


def _sum_of_processes(values: np.ndarray) -> np.ndarray:
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, values)
    return np.sum(gathered, axis=0)
