"""Batches that hold a frozen backbone's maps instead of crops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch

from posekit.data.crops import CropSource, Sample
from posekit.data.make_batch import BatchMaker
from posekit.data.sampler import MixedSampler, Slot


class FeatureSource(Protocol):
    """Gives the backbone's map of a row's crop.

    Attributes:
        views: different crops of a row.
        shape: (D, gh, gw) of a map.
        dtype: of its numbers.
    """

    views: int
    shape: tuple[int, int, int]
    dtype: np.dtype

    def read(self, row: int, view: int) -> np.ndarray:
        """Return the map (D, gh, gw) of a row's crop number `view`.

        Raises:
            DatasetError: the row's image could not be read.
        """
        ...


class FeatureBatchMaker(BatchMaker):
    """Makes the batches that BatchMaker makes with as many views, with maps in place of the crops.

    Args:
        heads: head -> its data.
        sampler: says what each batch holds.
        features: head -> its maps, all with the same number of views.
    """

    def __init__(
        self,
        heads: Mapping[str, CropSource],
        sampler: MixedSampler,
        features: Mapping[str, FeatureSource],
    ):
        super().__init__(heads, sampler, views=next(iter(features.values())).views)
        self._features = dict(features)

    def _empty(self, count: int, name: str) -> torch.Tensor:
        source = self._features[name]
        return torch.from_numpy(np.empty((count, *source.shape), source.dtype))

    def _crop(self, name: str, slot: Slot, sample: Sample, matrix: np.ndarray) -> np.ndarray:
        return self._features[name].read(slot.row, self._view(slot))
