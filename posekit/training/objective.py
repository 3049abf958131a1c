"""What the loop minimises: the sums that a loss is made of, for a batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from posekit.data.batch import Batch

Terms = dict[str, tuple[Tensor, Tensor]]
"""What a loss is made of: head -> (weighted sum of its point losses, sum of the weights), and
'HEAD.NAME' or '.NAME' -> (sum over samples of a further loss, number of samples of the head or of
all heads)."""


class Objective(nn.Module):
    """The terms of the loss of a micro-batch, before division.

    One forward call a micro-batch, whatever the number of input sizes, so that
    DistributedDataParallel can wrap it. Parameters and buffers beside those of `model` are trained
    and kept for exact resume, but are no part of the model that a run leaves behind.

    Attributes:
        model: the module that is trained, averaged and saved.
    """

    model: nn.Module

    @abstractmethod
    def forward(self, batch: Batch) -> Terms:
        """Return the terms of a micro-batch's loss."""

    @abstractmethod
    def label_weight(self, batch: Batch) -> dict[str, Tensor]:
        """Return head -> sum of the weights that `forward` would give, without the model."""

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Return the trainable parameters that are not the model's."""
        theirs = {id(parameter) for parameter in self.model.parameters()}
        return (p for p in self.parameters() if id(p) not in theirs and p.requires_grad)

    def own_state(self) -> dict[str, Tensor]:
        """Return the tensors that are not the model's."""
        return {n: t for n, t in self.state_dict().items() if not n.startswith("model.")}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `own_state` returned."""
        models = {n: t for n, t in self.state_dict().items() if n.startswith("model.")}
        self.load_state_dict({**models, **state})
