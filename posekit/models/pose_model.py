"""PoseModel: one backbone, many heads, each computing only on its own rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from posekit.codecs.base import Codec
from posekit.models.base import Backbone
from posekit.models.experts import Routes
from posekit.models.prototypes import PrototypeSpace
from posekit.schema import KeypointSchema
from posekit.warp import Pixels

Groups = Sequence[tuple[str, slice]]


@dataclass(frozen=True)
class HeadSpec:
    """What a head is made from.

    Attributes:
        schema: the keypoints.
        decoder: mapping with `kind` and settings, see posekit.models.decoders.
        codec: mapping with `kind` and settings, see posekit.codecs.
        input_size: (height, width) of the crops.
        pixels: 'full' or 'reduced': how crops are cut, see `posekit.warp.cut_crop`.
    """

    schema: KeypointSchema
    decoder: Mapping[str, Any]
    codec: Mapping[str, Any]
    input_size: tuple[int, int]
    pixels: Pixels = "full"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that `from_dict` turns into an equal spec."""
        return {
            "schema": self.schema.to_dict(),
            "decoder": dict(self.decoder),
            "codec": dict(self.codec),
            "input_size": list(self.input_size),
            "pixels": self.pixels,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HeadSpec:
        """Build a spec from `to_dict`'s form."""
        height, width = data["input_size"]
        schema = KeypointSchema.from_dict(data["schema"])
        pixels = data.get("pixels", "full")  # of weights from before it was kept
        return cls(schema, dict(data["decoder"]), dict(data["codec"]), (height, width), pixels)


class PoseHead(nn.Module):
    """A decoder with the schema and the codec that give its output a meaning."""

    def __init__(self, spec: HeadSpec, codec: Codec, decoder: nn.Module):
        super().__init__()
        self.spec, self.codec, self.decoder = spec, codec, decoder

    @property
    def schema(self) -> KeypointSchema:
        """The head's keypoints in channel order."""
        return self.spec.schema

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the head's crops."""
        return self.spec.input_size

    def forward(self, features: Tensor) -> Tensor:
        """Return the codec's input for features (B, D, h, w) of the head's rows."""
        return self.decoder(features)


@dataclass(frozen=True)
class ModelDescription:
    """Everything that is needed to build a model again, as plain values."""

    backbone: Mapping[str, Any]
    heads: Mapping[str, HeadSpec] = field(default_factory=dict)
    prototypes: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint's header."""
        heads = {name: spec.to_dict() for name, spec in self.heads.items()}
        plain: dict[str, Any] = {"backbone": dict(self.backbone), "heads": heads}
        if self.prototypes is not None:
            plain["prototypes"] = dict(self.prototypes)
        return plain


class PoseModel(nn.Module):
    """One backbone with named heads.

    Args:
        backbone: maps images (B, 3, h, w) to features (B, D, h, w).
        heads: name -> head, in order.
        expert_of: head -> number of its expert; empty if the backbone has no experts.
        mean, std: normalisation of RGB in 0..1.
        backbone_config: the backbone's settings as plain values, for the checkpoint.
        prototypes: an embedding with prototypes of all heads' keypoints, if the model has one.

    Attributes:
        held_in_eval: modules that are held in evaluation mode while the model trains (frozen ones).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        heads: Mapping[str, PoseHead],
        *,
        expert_of: Mapping[str, int],
        mean: Sequence[float],
        std: Sequence[float],
        backbone_config: Mapping[str, Any],
        prototypes: PrototypeSpace | None = None,
    ):
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(dict(heads))
        self.prototypes = prototypes
        self.expert_of = dict(expert_of)
        self.backbone_config = dict(backbone_config)
        self.held_in_eval: list[nn.Module] = []
        self.register_buffer("mean", per_channel(mean), persistent=False)
        self.register_buffer("std", per_channel(std), persistent=False)

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the heads in order."""
        return tuple(self.heads)

    def head(self, name: str) -> PoseHead:
        """Return a head by name; KeyError lists the names."""
        if name not in self.heads:
            raise KeyError(f"no head named '{name}' (heads: {', '.join(self.heads)})")
        found = self.heads[name]
        assert isinstance(found, PoseHead)  # noqa: S101 - narrows ModuleDict's value
        return found

    @property
    def specs(self) -> dict[str, HeadSpec]:
        """What each head is made from, in order."""
        return {name: self.head(name).spec for name in self.heads}

    def train(self, mode: bool = True) -> PoseModel:
        """Switch to training (or evaluation); the modules in `held_in_eval` stay in evaluation."""
        super().train(mode)
        for module in self.held_in_eval:
            module.eval()
        return self

    def describe(self) -> ModelDescription:
        """Return what build_model needs to make this model again."""
        return ModelDescription(self.backbone_config, self.specs, self.prototype_config)

    @property
    def prototype_config(self) -> dict[str, Any] | None:
        """The settings of the prototypes as plain values; None without any."""
        return None if self.prototypes is None else self.prototypes.config.model_dump(mode="json")

    def prototype_maps(self, features: Tensor, head: str) -> Tensor:
        """Return a head's heatmaps by its prototypes, (n, K, H, W), for features (n, D, h, w).

        Raises:
            ValueError: the model has no prototypes.
        """
        if self.prototypes is None:
            raise ValueError("this model has no prototypes; it was not trained with any")
        return self.prototypes.maps(self.prototypes.embedding(features), head)

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Return the layer of a parameter's name for timm's layer-wise decay (timm's interface)."""
        return self.backbone.layer_in_model

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 RGB images into the float images that the model takes.

        Args:
            images: uint8 (B, h, w, 3) or (B, 3, h, w).

        Returns:
            (B, 3, h, w) in the parameters' default float type, channels last in memory for
            images given as (B, h, w, 3).
        """
        return normalise_images(images, self.mean, self.std)

    def features(self, images: Tensor, groups: Groups | None = None) -> Tensor:
        """Return the backbone's map (B, D, h, w); groups are needed only for experts."""
        if not self.expert_of:
            return self.backbone(images)
        return self.backbone(images, self._routes(groups or (), images.shape[0]))

    def forward(
        self, images: Tensor | Sequence[Tensor], groups: Groups | Sequence[Groups]
    ) -> dict[str, Tensor]:
        """Return every head's output on its own rows.

        Args:
            images: float (B, 3, h, w), normalised; or several such tensors, one per input size.
            groups: (head, rows) for each group; a list of such lists for several tensors.

        Returns:
            head -> output, in the order of the groups. A head without rows has an output with
            no rows. Batch norm in a head sees its own rows only.

        Raises:
            ValueError: a head appears in two groups, or rows lie outside the batch.
        """
        if isinstance(images, Tensor):
            parts: list[tuple[Tensor, Any]] = [(images, groups)]
        else:
            parts = list(zip(images, groups, strict=True))
        outputs: dict[str, Tensor] = {}
        for part, part_groups in parts:
            for name, output in self.run_heads(
                self.features(part, part_groups), part_groups
            ).items():
                if name in outputs:
                    raise ValueError(f"head '{name}' appears in two groups of one batch")
                outputs[name] = output
        return outputs

    def run_heads(self, features: Tensor, groups: Groups) -> dict[str, Tensor]:
        """Return every head's output on its own rows of features (B, D, h, w); see `forward`."""
        outputs: dict[str, Tensor] = {}
        for name, rows in groups:
            if name in outputs:
                raise ValueError(f"head '{name}' appears in two groups of one batch")
            outputs[name] = self.run_head(name, features[_checked(rows, len(features), name)])
        return outputs

    def run_head(self, name: str, features: Tensor) -> Tensor:
        """Return one head's output for features (n, D, h, w); without rows, an output without."""
        head = self.head(name)
        if len(features) == 0:
            one = features.new_zeros(1, *features.shape[1:])
            return _shape_only(head, one)[:0]
        return head(features)

    def _routes(self, groups: Groups, rows: int) -> Routes:
        routes: list[tuple[int, int, int]] = []
        for name, part in groups:
            start, stop = _checked(part, rows, name).start, _checked(part, rows, name).stop
            expert = self.expert_of[name]
            if start == stop:
                continue
            if routes and routes[-1][0] == expert and routes[-1][2] == start:
                routes[-1] = (expert, routes[-1][1], stop)
            else:
                routes.append((expert, start, stop))
        return tuple(routes)


def _shape_only(head: nn.Module, features: Tensor) -> Tensor:
    training = head.training
    head.eval()
    with torch.no_grad():
        output = head(features)
    head.train(training)
    return output


def _checked(rows: slice, count: int, head: str) -> slice:
    # Not rows.indices(count): it turns the exporter's symbolic batch size into one fixed number.
    start, stop = rows.start or 0, count if rows.stop is None else rows.stop
    if rows.step not in (None, 1) or start < 0 or stop < start or stop > count:
        raise ValueError(f"head '{head}': rows {rows} do not lie in a batch of {count}")
    return slice(start, stop)


def normalise_images(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Turn uint8 RGB images, channels last or first, into normalised float (B, 3, h, w)."""
    factor, shift = 1 / (255 * std), mean / std
    if images.shape[-1] != 3 or images.shape[1] == 3:
        return images * factor - shift
    batch, height, width, _ = images.shape
    # Whole rows at once: three channels alone would make an inner loop of three numbers.
    rows = images.reshape(batch, height, width * 3).to(factor.dtype, copy=True)
    rows.mul_(factor.view(3).repeat(width)).sub_(shift.view(3).repeat(width))
    return rows.view(batch, height, width, 3).permute(0, 3, 1, 2)


def per_channel(values: Sequence[float]) -> Tensor:
    """Return float32 (1, 3, 1, 1) for three numbers."""
    # stated device: a model may be built on the meta device, this stays real
    return torch.tensor(list(values), dtype=torch.float32, device="cpu").view(1, 3, 1, 1)
