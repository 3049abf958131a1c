"""What every loss of a head's own points offers."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from posekit.codecs.base import Activation, Codec
from posekit.config.base import Strict


class PointLoss(nn.Module):
    """One value for each keypoint of each sample; may have parameters of its own.

    A loss is built from its settings, `MyLoss(settings)`.

    Attributes:
        settings: class of the keys that a card's `loss` mapping may have beside `kind`.
        activation: that the head's codec must have; None for any.
        uses_points: whether it reads `points` at all.
    """

    settings: ClassVar[type[Strict]] = Strict
    activation: ClassVar[Activation | None] = None
    uses_points = False

    @classmethod
    def misfit(cls, codec: Codec) -> str | None:
        """Return what the loss needs and the codec lacks, or None if they go together."""
        if cls.activation in {None, codec.activation}:
            return None
        return f"the codec's activation to be '{cls.activation}', found '{codec.activation}'"

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
