"""Masked pre-training as an objective of the loop."""

from __future__ import annotations

from torch import Tensor

from posekit.config.recipe import Recipe
from posekit.data.batch import Batch
from posekit.models.masked_autoencoder import MaskedAutoencoder
from posekit.training.loop import TrainingSet
from posekit.training.objective import Objective, Terms
from posekit.training.step import LossScale


class MaskedObjective(Objective):
    """Each dataset's sum of the hidden patches' errors; labels are not read.

    Masks are drawn from torch's generator, which the loop keys by seed, step and process.
    """

    model: MaskedAutoencoder

    def __init__(self, model: MaskedAutoencoder):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Terms:
        """Return head -> (sum over its hidden patches, their number)."""
        terms: Terms = {}
        for part in batch.parts:
            errors, hidden = self.model(self.model.normalise(part.images))
            for group in part.groups:
                rows = slice(group.start, group.stop)
                of_hidden = errors[rows] * hidden[rows]
                terms[group.head] = (of_hidden.sum(), hidden[rows].sum().to(errors.dtype))
        return terms

    def label_weight(self, batch: Batch) -> dict[str, Tensor]:
        """Return head -> number of its hidden patches."""
        weights = {}
        for part in batch.parts:
            count = self.model.hidden_count((part.images.shape[1], part.images.shape[2]))
            for group in part.groups:
                number = float(len(group) * count)
                weights[group.head] = self.model.mask_token.new_tensor(number)
        return weights


class PretrainingSet(TrainingSet):
    """What the loop needs to pre-train: a TrainingSet without losses of heads."""

    def objective(
        self, model: MaskedAutoencoder, recipe: Recipe
    ) -> tuple[MaskedObjective, LossScale]:
        """Return the objective; every sample weighs the same, whatever its dataset and size."""
        heads = list(recipe.heads)
        scale = LossScale("share", dict.fromkeys(heads, 1.0), dict.fromkeys(heads, 1))
        return MaskedObjective(model), scale
