"""What every codec offers: keypoints in crop pixels to target maps, and output maps back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from posekit.config.base import Strict
from posekit.warp import Warp

Activation = Literal["none", "softmax"]


class Codec(ABC):
    """Turns keypoints of a crop into a head's target maps and its output maps into keypoints.

    The way of a head's output is `to_heatmap`, then (with flip test) `average_flipped`, then
    `decode`. Maps are tensors (B, K * channels_per_keypoint, H, W), all channels of a keypoint
    side by side, on any device and in any float type; arithmetic is float32 throughout. B and K
    may be 0.

    A codec is built from its settings and the input size, `MyCodec(settings, input_size)`.

    Attributes:
        settings: class of the keys that a card's `codec` mapping may have beside `kind`.
        input_size: (height, width) of the crop.
        heatmap_size: (H, W) of the maps.
        warp: the warp that crops for this codec are made with.
        shift_flipped: whether maps of a mirrored crop move one pixel to the right when they are
            mirrored back; true for the plain warp, whose grid is not symmetric.
        channels_per_keypoint: number of maps of one keypoint.
        activation: 'softmax' if the head gives logits over the positions (trained by
            cross-entropy), 'none' if it gives the heatmap itself.
    """

    settings: ClassVar[type[Strict]] = Strict
    input_size: tuple[int, int]
    heatmap_size: tuple[int, int]
    warp: Warp = "plain"
    shift_flipped: bool = True
    channels_per_keypoint: int = 1
    activation: Activation = "none"

    @abstractmethod
    def __init__(self, config: Any, input_size: tuple[int, int]): ...

    @property
    def usual_loss(self) -> str:
        """Kind of loss that a head of this codec learns by if nothing else is said."""
        return "cross_entropy" if self.activation == "softmax" else "mse"

    @abstractmethod
    def encode(self, points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return target maps and the weights that the loss shall use.

        Args:
            points: float (B, K, 2), (x, y) in crop pixels; whatever stands at weight 0 is ignored.
            weights: float (B, K), 0 where a keypoint is not labelled.

        Returns:
            float32 maps (B, C, H, W), zero where the weight is 0, and float32 weights (B, K), set
            to 0 where a keypoint is too far outside to be learned. A map can be all zero although
            its weight is not (a patch that just touches the border, trap of the reference).
        """

    @abstractmethod
    def decode(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Read keypoints off maps that went through `to_heatmap`.

        Args:
            maps: float (B, C, H, W).

        Returns:
            float32 points (B, K, 2) in crop pixels, which the inverse crop matrix takes to the
            image, and float32 scores (B, K). A map without a value above 0, or with NaN, puts the
            point at (-1, -1) of the heatmap; its score is the map's maximum, or 0 for NaN.
        """

    def to_heatmap(self, output: Tensor) -> Tensor:
        """Turn a head's output into float32 maps that can be averaged and decoded."""
        return output.float()

    def distributions(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Split maps into the parts (B, K, n) that are each one distribution over positions.

        Cross-entropy compares the softmax of each part of the output with the same part of the
        target divided by its sum; a target of sum 0 teaches nothing.
        """
        return (maps.flatten(2),)

    def flip_back(self, maps: Tensor, flip_indices: Tensor | np.ndarray) -> Tensor:
        """Turn the maps of mirrored crops into maps of the crops.

        Args:
            maps: (B, C, H, W), the head's output for the mirrored crops.
            flip_indices: integers (K,), the keypoint that each one becomes in the mirror.

        Returns:
            Maps of the same shape: mirrored, channels swapped, and moved one pixel to the right if
            `shift_flipped` (column 0 stays, the last one is lost).
        """
        mirrored = self._swap(maps, flip_indices).flip(-1)
        if not self.shift_flipped:
            return mirrored
        return torch.cat([mirrored[..., :1], mirrored[..., :-1]], dim=-1)

    def average_flipped(
        self, maps: Tensor, maps_of_mirrored: Tensor, flip_indices: Tensor | np.ndarray
    ) -> Tensor:
        """Average the maps of crops with those of the mirrored crops (flip test)."""
        return (maps + self.flip_back(maps_of_mirrored, flip_indices)) * 0.5

    def _swap(self, maps: Tensor, flip_indices: Tensor | np.ndarray) -> Tensor:
        order = torch.as_tensor(flip_indices, device=maps.device).long()
        batch, channels, height, width = maps.shape
        grouped = maps.reshape(batch, len(order), channels // max(len(order), 1), height, width)
        return grouped.index_select(1, order).reshape(maps.shape)

    def _check(self, maps: Tensor) -> None:
        per_keypoint = self.channels_per_keypoint
        if (
            maps.ndim != 4
            or tuple(maps.shape[2:]) != self.heatmap_size
            or maps.shape[1] % per_keypoint
        ):
            expected = "K" if per_keypoint == 1 else f"{per_keypoint}K"
            raise ValueError(
                f"found maps of shape {tuple(maps.shape)}, expected "
                f"(B, {expected}, {self.heatmap_size[0]}, {self.heatmap_size[1]})"
            )


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Switch autocast off inside, so that products are computed in float32."""
    if not torch.is_autocast_enabled(device.type):
        yield
        return
    with torch.autocast(device.type, enabled=False):
        yield


def usable(points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return float32 points and weights in which unusable points weigh 0.

    Points of weight 0 or with a coordinate that is not finite become (0, 0) with weight 0.
    """
    points, weights = points.float(), weights.float()
    use = (weights > 0) & torch.isfinite(points).all(-1)
    return torch.where(use[..., None], points, 0.0), torch.where(use, weights, 0.0)
