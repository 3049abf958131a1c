"""The typed settings of keypoint prototypes (PoseBH); no code of the model."""

from __future__ import annotations

from pydantic import Field

from posekit.config.base import Strict


class PrototypeConfig(Strict):
    """An embedding space that all heads share, with prototypes of every keypoint in it.

    Attributes:
        per_keypoint: prototypes of a keypoint.
        width: channels of the embedding.
        channels: channels of the embedding head's transposed convolutions.
        layers: how many of them; each doubles the map, which must reach the heads' heatmaps.
    """

    per_keypoint: int = Field(3, ge=1)
    width: int = Field(64, ge=2)
    channels: int = Field(256, ge=1)
    layers: int = Field(2, ge=0)


class PosebhConfig(PrototypeConfig):
    """Learning with prototypes and with what they and the heads agree on.

    Times are in the unit of the schedule's milestones: epochs if the run's length is in epochs,
    else steps. The defaults of the weights are those of the published configs, where everything
    starts from a finished model; they are so small that Adam's epsilon matters.

    Attributes:
        momentum: share of a prototype that stays at each step.
        temperature, iterations: of the Sinkhorn assignment of pixels to prototypes.
        min_target: pixels count whose largest target exceeds this.
        max_pixels: at most so many pixels of a head and micro-batch, evenly spread.
        contrast: weight of the cross-entropy over the head's prototypes at those pixels.
        distance: weight of the squared distance to the assigned prototype.
        map_loss: weight of the squared error of the maps that the prototypes give.
        self_supervision: weight of the losses to pseudo points, where a head and the prototypes
            agree about a point that the sample's own dataset does not annotate.
        min_score: both peaks must exceed this.
        max_distance: farthest that the two may lie apart, in heatmap pixels.
        update_until: prototypes move before this time; None: always.
        self_from: self-supervision begins at this time; None: never.
    """

    momentum: float = Field(0.999, ge=0, lt=1)
    temperature: float = Field(0.05, gt=0)
    iterations: int = Field(3, ge=1)
    min_target: float = Field(0.0, ge=0, lt=1)
    max_pixels: int = Field(65536, ge=1)
    contrast: float = Field(1.25e-7, ge=0)
    distance: float = Field(1.25e-8, ge=0)
    map_loss: float = Field(3.33e-6, ge=0)
    self_supervision: float = Field(1e-3, ge=0)
    min_score: float = Field(0.25, ge=0)
    max_distance: float = Field(2.1, gt=0)
    update_until: float | None = Field(None, ge=0)
    self_from: float | None = Field(None, ge=0)

    @property
    def space(self) -> PrototypeConfig:
        """The part of the settings that the model needs."""
        names = PrototypeConfig.model_fields
        return PrototypeConfig(**{name: getattr(self, name) for name in names})
