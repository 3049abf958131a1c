"""Blocks of instances: what an adapter may yield in columns, for files with very many records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from posekit.adapters.base import EmptyImage, Instance
from posekit.config.cards import SplitCard
from posekit.schema import KeypointSchema


class NotInBlocks(Exception):
    """The file holds something that only the reader of single records can judge; use that one."""


@dataclass(slots=True)
class ImageTable:
    """The images of a file, each a row: id, path below the root, (height, width) or None, extras.

    `extras` maps a name to one number a row, NaN where the image has none.
    """

    ids: list[int | str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int] | None] = field(default_factory=list)
    extras: dict[str, list[float]] = field(default_factory=dict)

    def empty_image(self, row: int) -> EmptyImage:
        """Return a row as an image without instances."""
        extras = {name: values[row] for name, values in self.extras.items()}
        return EmptyImage(self.paths[row], self.ids[row], self.sizes[row], extras)


@dataclass(slots=True)
class InstanceBlock:
    """N instances as columns; fields mean what `Instance` says of them.

    Attributes:
        table: the images; all blocks of a stream share one.
        image: int64 (N,), rows of the table.
        instance_id: int64 (N,), or N texts.
        keypoints: float32 (N, K, 2), 0 where not labelled.
        visibility: uint8 (N, K).
        box_xywh: float64 (N, 4), NaN where there is none.
        area: float64 (N,), NaN where there is none.
        category_id: int64 (N,).
        is_crowd: bool (N,).
        crop_center, crop_size: float64 (N, 2), NaN where there is none.
        extras: name -> float64 (N,).
    """

    table: ImageTable
    image: np.ndarray
    instance_id: np.ndarray | list[str]
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
        return len(self.image)

    def keep(self, rows: np.ndarray) -> InstanceBlock:
        """Return the block of some rows (bool or int64)."""
        ids = self.instance_id
        chosen = np.arange(len(self))[rows]
        return InstanceBlock(
            self.table,
            self.image[chosen],
            [ids[i] for i in chosen] if isinstance(ids, list) else ids[chosen],
            self.keypoints[chosen],
            self.visibility[chosen],
            self.box_xywh[chosen],
            self.area[chosen],
            self.category_id[chosen],
            self.is_crowd[chosen],
            self.crop_center[chosen],
            self.crop_size[chosen],
            {name: values[chosen] for name, values in self.extras.items()},
        )

    def instances(self) -> Iterator[Instance]:
        """Return the instances one by one."""
        for i, image in enumerate(self.image.tolist()):
            instance_id = self.instance_id[i]
            has_crop = bool(np.isfinite(self.crop_center[i]).all())
            yield Instance(
                image=self.table.paths[image],
                image_id=self.table.ids[image],
                instance_id=instance_id if isinstance(instance_id, str) else int(instance_id),
                keypoints=self.keypoints[i],
                visibility=self.visibility[i],
                box_xywh=None if np.isnan(self.box_xywh[i]).any() else self.box_xywh[i],
                area=None if np.isnan(self.area[i]) else float(self.area[i]),
                category_id=int(self.category_id[i]),
                is_crowd=bool(self.is_crowd[i]),
                image_size=self.table.sizes[image],
                crop_center=self.crop_center[i] if has_crop else None,
                crop_size=self.crop_size[i] if has_crop else None,
                extras={name: float(values[i]) for name, values in self.extras.items()},
            )


BlockAdapter = Callable[[Path, SplitCard, KeypointSchema], Iterator[InstanceBlock | EmptyImage]]
"""`read_blocks(root, split, schema)` beside an adapter's `read`: streams the very same instances
in the same order as blocks, then the empty images, or raises NotInBlocks, at any time."""
