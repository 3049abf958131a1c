"""What every loss of a head's own points offers."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from posekit.codecs.base import Codec


class PointLoss(nn.Module):
    """One value for each keypoint of each sample; may have parameters of its own.

    Attributes:
        uses_points: whether it reads `points` at all.
    """

    uses_points = False

    @abstractmethod
    def forward(self, codec: Codec, output: Tensor, target: Tensor, points: Tensor) -> Tensor:
        """Return float32 (B, K), not yet weighted.

        Args:
            codec: the head's codec.
            output: (B, C, H, W), the head's output.
            target: float32 (B, C, H, W), maps as the codec encodes them or a teacher gives them.
            points: float32 (B, K, 2), what the target stands for, in crop pixels; anything where
                a keypoint has no weight.
        """
