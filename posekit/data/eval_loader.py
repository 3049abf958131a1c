"""EvalLoader: exact crops of every instance, or of every detector box, in a fixed order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from posekit.data.crops import exact_boxes
from posekit.data.images import read_image
from posekit.data.index import PoseIndex
from posekit.data.workers import guarded, stream
from posekit.errors import DatasetError
from posekit.warp import Pixels, Warp, crop_matrices, crop_size_for, cut_crop


@dataclass(frozen=True)
class DetectedBoxes:
    """Boxes that a detector found, instead of the annotated ones.

    Attributes:
        image_index: int64 (n,), rows of the index's image columns.
        box_xywh: float64 (n, 4), taken as they are, without clipping.
    """

    image_index: np.ndarray
    box_xywh: np.ndarray


@dataclass(frozen=True)
class EvalBatch:
    """Exact crops.

    Attributes:
        images: uint8 (n, h, w, 3) RGB.
        rows: int64 (n,), rows of the index, or of the detected boxes if there are any.
        center: float64 (n, 2), (x, y) of the crop's middle in the image.
        size: float64 (n, 2), (width, height) of the crop in image pixels, padding included; their
            product is the area that OKS-NMS uses.
    """

    images: Tensor
    rows: np.ndarray
    center: np.ndarray
    size: np.ndarray


class EvalLoader(Dataset[Any]):
    """Goes once through the exact crops of an index.

    The order is by image, so that each image is decoded once in a batch; `EvalBatch.rows` says
    which is which. An image that cannot be read is an error: a score without it would be wrong.
    As a dataset, for the workers, it maps a batch's number to its arrays.

    Args:
        index: the annotations.
        input_size: (height, width) of the crops.
        warp: 'plain' or 'udp', as the head's codec says.
        batch_size: crops of a batch; the last one may be smaller.
        workers: processes that decode; 0 does it here.
        rows: rows of the index, by default the trainable ones, which is what official protocols
            evaluate on annotated boxes; with `boxes`, rows of those.
        boxes: detector boxes to use instead of the annotated ones.
        pixels: 'full' or 'reduced', see `posekit.warp.cut_crop`.
        context: how workers start; see MixedLoader.

    Raises:
        DatasetError: a row has no box to crop around.
    """

    def __init__(
        self,
        index: PoseIndex,
        input_size: tuple[int, int],
        warp: Warp,
        *,
        batch_size: int = 64,
        workers: int = 0,
        rows: np.ndarray | None = None,
        boxes: DetectedBoxes | None = None,
        pixels: Pixels = "full",
        context: str | None = None,
    ):
        if rows is None:
            rows = np.asarray(index.trainable) if boxes is None else np.arange(len(boxes.box_xywh))
        image_index = index.columns.image_index if boxes is None else boxes.image_index
        order = np.argsort(image_index[rows], kind="stable")
        self._index, self._input_size, self._warp, self._boxes = index, input_size, warp, boxes
        self._rows, self._batch_size = np.asarray(rows)[order], batch_size
        self._pixels: Pixels = pixels
        self._workers, self._context = workers, context

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._batch_size)

    def __iter__(self) -> Iterator[EvalBatch]:
        for arrays in stream(self, range(len(self)), self._workers, self._context):
            yield EvalBatch(*arrays)

    def __getitem__(self, number: int) -> Any:
        return guarded(self._make, number)

    def _make(self, number: int) -> tuple[Tensor, np.ndarray, np.ndarray, np.ndarray]:
        start = number * self._batch_size
        rows = self._rows[start : start + self._batch_size]
        center, size, image_index = self._places(rows)
        matrices = crop_matrices(center, size, 0.0, self._input_size, self._warp)
        images = torch.empty((len(rows), *self._input_size, 3), dtype=torch.uint8)
        out, shown, pixels = images.numpy(), -1, np.zeros((0, 0, 3), np.uint8)
        for i, image in enumerate(image_index.tolist()):
            if image != shown:
                height, width = self._index.columns.image_size[image].tolist()
                pixels = read_image(self._index.image_file_at(image), (height, width))
                shown = image
            out[i] = cut_crop(pixels, matrices[i], self._input_size, self._pixels)
        return images, rows, center, size

    def _places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        index, boxes = self._index, self._boxes
        if boxes is None:
            center, size = exact_boxes(index, rows, self._input_size)
            image_index = np.asarray(index.columns.image_index[rows])
        else:
            box, rule = boxes.box_xywh[rows], index.card.box
            center = box[:, :2] + box[:, 2:] / 2
            size = crop_size_for(box[:, 2:], self._input_size, rule.padding, rule.keep_aspect)
            image_index = boxes.image_index[rows]
        usable = np.isfinite(center).all(axis=1) & (np.isfinite(size) & (size > 0)).all(axis=1)
        if not usable.all():
            row = int(rows[np.flatnonzero(~usable)[0]])
            raise DatasetError(
                index.name,
                "there is no box to crop around",
                record=f"row {row}",
                fix="evaluate the index's trainable rows only",
            )
        return center, size, image_index
