"""What every backbone offers."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from posekit.models.experts import Routes


class Backbone(nn.Module):
    """Turns images into a feature map.

    Attributes:
        channels: channels D of the map.
        stride: image pixels between neighbouring pixels of the map.
        num_layers: blocks (or stages) that layer-wise learning-rate decay counts.
        experts: names of its experts, empty without.
    """

    channels: int
    stride: int
    num_layers: int
    experts: tuple[str, ...] = ()

    @abstractmethod
    def map_size(self, input_size: tuple[int, int]) -> tuple[int, int]:
        """Return the (height, width) of the feature map for an input size."""

    @abstractmethod
    def layer_of(self, name: str) -> int:
        """Return the layer of a parameter named within the backbone.

        0 is the stem, n + 1 block n, num_layers + 1 whatever comes after the blocks.
        """

    def layer_in_model(self, name: str) -> int:
        """Return the layer of a parameter of a model that holds this as `backbone`.

        Whatever is not the backbone's counts with what comes after the blocks.
        """
        inside = name.removeprefix("backbone.")
        return self.num_layers + 1 if inside == name else self.layer_of(inside)

    @abstractmethod
    def forward(self, images: Tensor, routes: Routes | None = None) -> Tensor:
        """Return the map (B, D, gh, gw) for normalised float images (B, 3, h, w).

        Args:
            images: the images.
            routes: (expert, start, stop) for runs of rows that together cover the batch; needed
                if there are experts.
        """
