"""Batch, Part, Group: what training gets from the loader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Failure(NamedTuple):
    """A record that could not be turned into a crop and was replaced by another.

    Attributes:
        head, dataset: which head wanted it and where it came from.
        row: its row in the dataset's index.
        message: what was wrong, naming the file.
    """

    head: str
    dataset: str
    row: int
    message: str


@dataclass(frozen=True)
class Group:
    """The rows of a batch's part that belong to one head.

    Attributes:
        head: name of the head.
        start, stop: the group's slice of the part's images; n = stop - start.
        points: float32 (n, K, 2), (x, y) in crop pixels; 0 where not labelled. Points of mirrored
            crops are in the mirrored crop, left and right already traded.
        visibility: uint8 (n, K): 0 not labelled, 1 occluded, 2 visible. A point outside the crop
            keeps its visibility; the codec gives it no weight.
        rows: int64 (n,), rows of the dataset's index.
        center: float64 (n, 2), (x, y) of the crop's middle in the image.
        size: float64 (n, 2), (width, height) of the crop in image pixels, padding included.
        rotation: float64 (n,), degrees.
        flipped: bool (n,), True where the crop is mirrored.
    """

    head: str
    start: int
    stop: int
    points: Tensor
    visibility: Tensor
    rows: Tensor
    center: Tensor
    size: Tensor
    rotation: Tensor
    flipped: Tensor

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Part:
    """The crops of one input size.

    Attributes:
        images: uint8 (n, h, w, 3), RGB; or, where they are cached, float maps (n, D, gh, gw) of a
            frozen backbone, see `is_cached`.
        groups: one for each head, their slices one behind the other.
    """

    images: Tensor
    groups: tuple[Group, ...]

    @property
    def is_cached(self) -> bool:
        """True if `images` holds a frozen backbone's maps."""
        return self.images.is_floating_point()


@dataclass(frozen=True)
class Batch:
    """One micro-batch of one process.

    Attributes:
        step: number of the micro-batch, from 0.
        parts: one for each input size.
        failures: records that were replaced because they are broken.
    """

    step: int
    parts: tuple[Part, ...]
    failures: tuple[Failure, ...] = field(default=())

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of all parts."""
        return tuple(group for part in self.parts for group in part.groups)

    @property
    def errors(self) -> list[str]:
        """One sentence for each replaced record."""
        return [failure.message for failure in self.failures]

    def __len__(self) -> int:
        return sum(len(part.images) for part in self.parts)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with images, points and visibility on a device.

        The rest stays where it is: no model needs it, and Apple's GPUs have no float64. Copies are
        asynchronous where memory is pinned.
        """
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, from which copies to a GPU run aside."""
        return self._mapped(lambda tensor: tensor.pin_memory())

    def _mapped(self, move: Callable[[Tensor], Tensor]) -> Batch:
        def map_group(group: Group) -> Group:
            return replace(group, points=move(group.points), visibility=move(group.visibility))

        parts = [Part(move(part.images), tuple(map(map_group, part.groups))) for part in self.parts]
        return replace(self, parts=tuple(parts))


Packed = tuple[int, list[tuple[Tensor, list[dict[str, Any]]]], list[Failure]]
"""A batch on its way from a worker: images as tensors in shared memory, the small arrays as numpy,
because each tensor that crosses costs a file handle."""


def unpack(packed: Packed) -> Batch:
    """Turn what a worker sent into a Batch."""
    step, packed_parts, failures = packed
    parts = []
    for images, groups in packed_parts:
        tensors: list[dict[str, Any]] = [
            {k: v if isinstance(v, str | int) else torch.from_numpy(v) for k, v in group.items()}
            for group in groups
        ]
        parts.append(Part(images, tuple(Group(**group) for group in tensors)))
    return Batch(step, tuple(parts), tuple(failures))
