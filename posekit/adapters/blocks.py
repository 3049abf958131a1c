"""Blocks of instances: what an adapter may yield in columns, for files with very many records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from posekit.adapters.base import EmptyImage, Instance
from posekit.config.cards import SplitCard
from posekit.schema import KeypointSchema


class NotInBlocks(Exception):
    """Raised where records cannot become a block, or a file cannot be read piece by piece."""


@dataclass(slots=True)
class InstanceBlock:
    """N instances as columns; fields mean what `Instance` says of them.

    Attributes:
        images: of each instance, what says its image's path, id and size.
        instance_id: int64 (N,), or a list of N ids.
        keypoints: float32 (N, K, 2), 0 where not labelled.
        visibility: uint8 (N, K).
        box_xywh: float64 (N, 4), NaN where there is none.
        area: float64 (N,), NaN where there is none.
        category_id: int64 (N,).
        is_crowd: bool (N,).
        crop_center, crop_size: float64 (N, 2), NaN where there is none.
        extras: name -> float64 (N,).
    """

    images: Sequence[EmptyImage | Instance]
    instance_id: np.ndarray | list[int | str]
    keypoints: np.ndarray
    visibility: np.ndarray
    box_xywh: np.ndarray
    area: np.ndarray
    category_id: np.ndarray
    is_crowd: np.ndarray
    crop_center: np.ndarray
    crop_size: np.ndarray
    extras: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def keep(self, rows: list[int]) -> InstanceBlock:
        """Return the block of some rows."""
        ids = self.instance_id
        return InstanceBlock(
            [self.images[i] for i in rows],
            [ids[i] for i in rows] if isinstance(ids, list) else ids[rows],
            self.keypoints[rows],
            self.visibility[rows],
            self.box_xywh[rows],
            self.area[rows],
            self.category_id[rows],
            self.is_crowd[rows],
            self.crop_center[rows],
            self.crop_size[rows],
            {name: values[rows] for name, values in self.extras.items()},
        )

    def instances(self) -> Iterator[Instance]:
        """Yield the instances one by one."""
        for i, image in enumerate(self.images):
            instance_id = self.instance_id[i]
            has_crop = bool(np.isfinite(self.crop_center[i]).all())
            yield Instance(
                image=image.image,
                image_id=image.image_id,
                instance_id=instance_id if isinstance(instance_id, str) else int(instance_id),
                keypoints=self.keypoints[i],
                visibility=self.visibility[i],
                box_xywh=None if np.isnan(self.box_xywh[i]).any() else self.box_xywh[i],
                area=None if np.isnan(self.area[i]) else float(self.area[i]),
                category_id=int(self.category_id[i]),
                is_crowd=bool(self.is_crowd[i]),
                image_size=image.image_size,
                crop_center=self.crop_center[i] if has_crop else None,
                crop_size=self.crop_size[i] if has_crop else None,
                extras={name: float(values[i]) for name, values in self.extras.items()},
            )


BlockAdapter = Callable[
    [Path, SplitCard, KeypointSchema], Iterator[InstanceBlock | Instance | EmptyImage]
]
"""`read_blocks(root, split, schema)` beside an adapter's `read`: streams the same instances in the
same order, in blocks where it can, then the empty images; or raises NotInBlocks, at any time."""
