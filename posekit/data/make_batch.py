"""One batch: the rows that the sampler draws, each image read once, the crops cut out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from posekit.data.augment import KeyedDraws
from posekit.data.batch import Failure, Packed
from posekit.data.crops import (
    CropSource,
    Sample,
    change_pixels,
    draw_samples,
    image_to_crop,
    points_in_crops,
)
from posekit.data.images import read_image
from posekit.data.index import PoseIndex
from posekit.data.sampler import MixedSampler, Slot
from posekit.data.workers import guarded
from posekit.errors import DatasetError, PosekitError
from posekit.warp import warp_image

MAX_SUBSTITUTES = 16


class PixelSource(Protocol):
    """Where the pixels of crops come from."""

    def read(self, row: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels of the image of a row and where they lie in it.

        Args:
            row: row of the index.
            scale: image pixels for each crop pixel; at 2 or more a smaller image will do.

        Returns:
            uint8 (h, w, 3) RGB and float64 (4,), the placement (fx, fy, sx, sy): pixel (x, y) of
            the image lies at (fx * x + sx, fy * y + sy) in them.

        Raises:
            DatasetError: the image is missing or broken.
        """
        ...


class ImageFiles:
    """Cuts crops from the image files; keeps the last decoded image.

    Args:
        index: the annotations.
        reduce: read images at 1/2, 1/4 or 1/8 where the crop is that much smaller.
    """

    def __init__(self, index: PoseIndex, reduce: bool = True):
        self._index, self._reduce = index, reduce
        self._key: tuple[int, int] | None = None
        self._image = np.zeros((0, 0, 3), np.uint8)

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageFiles, (self._index, self._reduce)

    def read(self, row: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the whole image; see `PixelSource`."""
        by = next((by for by in (8, 4, 2) if self._reduce and scale >= by), 1)
        image = int(self._index.columns.image_index[row])
        if self._key != (image, by):
            height, width = self._index.columns.image_size[image].tolist()
            file = self._index.image_file_at(image)
            self._image = read_image(file, (height, width), reduce=by)
            self._key = (image, by)
        shift = 0.5 / by - 0.5
        return self._image, np.array([1 / by, 1 / by, shift, shift])


class BatchMaker(Dataset[Any]):
    """Makes the batches of one process, any one at any time.

    As a dataset it gives the packed batch of a number, or the error of making it. Pickles without
    annotations and pixels: workers open both by path.

    Args:
        heads: head -> its data.
        sampler: what each batch holds; its sources are these heads.
        sources: head -> where its pixels come from; the image files by default.
        views: number of different crops of a row; after so many epochs they come again. Without
            it every epoch has its own.
    """

    def __init__(
        self,
        heads: Mapping[str, CropSource],
        sampler: MixedSampler,
        sources: Mapping[str, PixelSource] | None = None,
        views: int | None = None,
    ):
        self._heads, self._sampler, self._views = dict(heads), sampler, views
        files = {
            name: ImageFiles(head.index, reduce=head.pixels == "reduced")
            for name, head in heads.items()
        }
        self._sources: dict[str, PixelSource] = {**files, **(sources or {})}
        self._draws = {
            name: KeyedDraws(sampler.seed, head.index.name) for name, head in heads.items()
        }

    def __getitem__(self, step: int) -> Packed | PosekitError:
        return guarded(self.make, step)

    def make(self, step: int) -> Packed:
        """Make the process's part of micro-batch `step`.

        A record that cannot be read is replaced by the next one of its dataset that can, and
        reported.

        Raises:
            DatasetError: a record and all its `MAX_SUBSTITUTES` substitutes are broken.
        """
        slots: dict[str, list[Slot]] = {}
        for slot in self._sampler.batch(step):
            slots.setdefault(slot.head, []).append(slot)
        sizes = dict.fromkeys(self._heads[name].input_size for name in slots)
        failures: list[Failure] = []
        parts = []
        for size in sizes:
            names = [name for name in slots if self._heads[name].input_size == size]
            count = sum(len(slots[name]) for name in names)
            images = self._empty(count, names[0])
            groups, start = [], 0
            for name in names:
                stop = start + len(slots[name])
                group = self._fill(name, slots[name], images.numpy()[start:stop], failures)
                groups.append({"head": name, "start": start, "stop": stop, **group})
                start = stop
            parts.append((images, groups))
        return step, parts, failures

    def _fill(
        self, name: str, slots: list[Slot], images: np.ndarray, failures: list[Failure]
    ) -> dict[str, Any]:
        """Write the crops of one head's slots into `images`; give the rest of its group."""
        head = self._heads[name]
        samples = self._draw(name, slots)
        matrices = image_to_crop([s.geometry for s in samples], head.input_size, head.warp)
        image_of = head.index.columns.image_index[[slot.row for slot in slots]]
        for i in np.argsort(image_of, kind="stable").tolist():
            for slot in self._candidates(slots[i]):
                if slot is not slots[i]:
                    [samples[i]] = self._draw(name, [slot])
                    geometry = [samples[i].geometry]
                    matrices[i] = image_to_crop(geometry, head.input_size, head.warp)[0]
                try:
                    images[i] = self._crop(name, slot, samples[i], matrices[i])
                    break
                except DatasetError as error:
                    failures.append(Failure(name, slot.dataset, slot.row, str(error)))
            else:
                raise DatasetError(
                    head.index.root,
                    f"{MAX_SUBSTITUTES + 1} images of dataset '{head.index.name}' in a row cannot "
                    f"be used; the last one: {failures[-1].message}",
                )
        points, visibility = points_in_crops(head.index, samples, matrices)
        geometries = [sample.geometry for sample in samples]
        return {
            "points": points,
            "visibility": visibility,
            "rows": np.array([sample.row for sample in samples]),
            "center": np.array([geometry.center for geometry in geometries]),
            "size": np.array([geometry.size for geometry in geometries]),
            "rotation": np.array([geometry.rotation_deg for geometry in geometries]),
            "flipped": np.array([geometry.flipped for geometry in geometries]),
        }

    def _candidates(self, slot: Slot) -> Iterator[Slot]:
        yield slot
        for attempt in range(1, MAX_SUBSTITUTES + 1):
            yield self._sampler.substitute(slot, attempt)

    def _draw(self, name: str, slots: list[Slot]) -> list[Sample]:
        rows = np.array([slot.row for slot in slots])
        epochs = np.array([self._view(slot) for slot in slots])
        return draw_samples(self._heads[name], rows, epochs, self._draws[name])

    def _view(self, slot: Slot) -> int:
        return slot.epoch if self._views is None else slot.epoch % self._views

    def _empty(self, count: int, name: str) -> torch.Tensor:
        return torch.empty((count, *self._heads[name].input_size, 3), dtype=torch.uint8)

    def _crop(self, name: str, slot: Slot, sample: Sample, matrix: np.ndarray) -> np.ndarray:
        return cut_crop(self._sources[name], sample, matrix, self._heads[name].input_size)


def cut_crop(
    source: PixelSource, sample: Sample, matrix: np.ndarray, input_size: tuple[int, int]
) -> np.ndarray:
    """Cut one training crop: uint8 (height, width, 3) RGB.

    Args:
        source: the pixels.
        sample: which row, and how its pixels change.
        matrix: float64 (2, 3), from image to crop pixels.
        input_size: (height, width) of the crop.

    Raises:
        DatasetError: the image is missing or broken.
    """
    # The determinant is the area of an image pixel in the crop; its root's inverse is the scale.
    (a, b, _), (c, d, _) = matrix.tolist()
    scale = abs(a * d - b * c) ** -0.5
    pixels, placement = source.read(sample.row, scale)
    # The source's pixels lie at f x + s: undo that first, then go from the image to the crop.
    linear = matrix[:, :2] / placement[:2]
    moved = np.concatenate([linear, (matrix[:, 2] - linear @ placement[2:])[:, None]], axis=1)
    return change_pixels(warp_image(pixels, moved, input_size), sample.pixels)
