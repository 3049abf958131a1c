"""What an adapter yields: one Instance per annotated person, animal, face or hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import TypeVar

import numpy as np

from posekit.config.cards import SplitCard
from posekit.schema import KeypointSchema


@dataclass(slots=True)
class Instance:
    """One annotated person, animal, face or hand.

    Attributes:
        image: path of the image, relative to the dataset's root, forward slashes.
        image_id: the file's own id of the image, or its name where there is none.
        instance_id: the file's own id of the annotation, or its running number from 1.
        keypoints: float32 (K, 2), (x, y) pixels of the original image, 0-based, pixel centres at
            integers. What stands where visibility is 0 means nothing (adapters write 0).
        visibility: uint8 (K,): 0 not labelled, 1 labelled but occluded, 2 visible.
        box_xywh: float64 (4,) x, y, width, height as annotated, or None if the file has no box
            (the index then takes the extent of the labelled keypoints and records that it did).
        area: segment area in square pixels as annotated, or None if the file has none.
        category_id: category of the instance in its file.
        is_crowd: True for a region that stands for many and is ignored in scoring.
        image_size: (height, width) as the file declares it, or None.
        crop_center: float64 (2,), (x, y): the annotation's own crop centre (MPII), or None.
        crop_size: float64 (2,), (width, height) in pixels before padding, beside `crop_center`.
        extras: further numbers of this instance that an evaluator or check needs, for example
            head_size, crowd_index, num_keypoints (as the file states it); every instance of a
            dataset has the same keys.
    """

    image: str
    image_id: int | str
    instance_id: int | str
    keypoints: np.ndarray
    visibility: np.ndarray
    box_xywh: np.ndarray | None = None
    area: float | None = None
    category_id: int = 1
    is_crowd: bool = False
    image_size: tuple[int, int] | None = None
    crop_center: np.ndarray | None = None
    crop_size: np.ndarray | None = None
    extras: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class EmptyImage:
    """An image of the split without any instance; what a detector finds on it counts as wrong.

    Attributes:
        image, image_id, image_size: as in Instance.
        extras: further numbers of the image (crowd_index), under the names that instances use.
    """

    image: str
    image_id: int | str
    image_size: tuple[int, int] | None = None
    extras: dict[str, float] = field(default_factory=dict)


_Function = TypeVar("_Function", bound=FunctionType)

Adapter = Callable[[Path, SplitCard, KeypointSchema], Iterator[Instance | EmptyImage]]
"""An adapter: `read(root, split, schema)` streams Instances, and EmptyImages where the format
lists images without instances, and raises DatasetError."""

_MARK = "_is_posekit_adapter"


def adapter(function: _Function) -> _Function:
    """Mark a function as an adapter, so that a card may name it; nothing else is ever called."""
    setattr(function, _MARK, True)
    return function


def is_adapter(part: object) -> bool:
    """Return whether an object is a function that `adapter` marked."""
    return isinstance(part, FunctionType) and vars(part).get(_MARK) is True
