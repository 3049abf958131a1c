"""Learning a teacher's output, whatever its size and heads.

Where teacher and student describe keypoints alike (the same kind of codec and size of maps), the
student learns the teacher's maps by its own loss: squared error between heatmaps, which is
ViTPose's equation 4, or cross-entropy between distributions, which is DWPose's on SimCC vectors up
to a constant. Where they differ, it learns the teacher's keypoints, drawn by its own codec and
weighted by the teacher's scores. Either way every keypoint counts, labelled or not, as in both
papers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from posekit.codecs.base import Codec
from posekit.data.batch import Group
from posekit.errors import ConfigError, nearest
from posekit.models import PoseModel
from posekit.models.pose_model import PoseHead
from posekit.training.losses import PointLoss
from posekit.training.step import PartOutputs
from posekit.warp import Warp

NAME = "teacher"


@dataclass(frozen=True)
class HeadMatch:
    """A head and the head of the teacher that teaches it.

    Attributes:
        head, teacher: their names.
        order: the teacher's keypoint for each of the head's.
        kind: whether the teacher's maps or its keypoints are learned.
    """

    head: str
    teacher: str
    order: tuple[int, ...]
    kind: Literal["maps", "points"]


def match_heads(
    student: PoseModel, teacher: PoseModel, named: Mapping[str, str]
) -> dict[str, HeadMatch]:
    """Find the teacher's head for each head of a student.

    Args:
        student: the model that learns.
        teacher: the model that teaches.
        named: head -> teacher's head; by default the one of the same name, if there is one.

    Returns:
        head -> match, for the heads that have one.

    Raises:
        ConfigError: no head has a match, the teacher lacks a head or a keypoint, or its crops have
            another aspect.
    """
    matches = {}
    for head in student.head_names:
        name = named.get(head, head)
        if name in teacher.head_names:
            matches[head] = _match(head, student.head(head), name, teacher.head(name))
        elif head in named:
            raise ConfigError(
                f"distillation.heads: the teacher has no head '{name}'"
                f"{nearest(name, teacher.head_names)} (heads: {', '.join(teacher.head_names)})"
            )
    if not matches:
        raise ConfigError(
            f"distillation: the teacher's heads ({', '.join(teacher.head_names)}) are none of the "
            f"run's ({', '.join(student.head_names)}); say who teaches whom in distillation.heads"
        )
    return matches


def _match(head: str, student: PoseHead, name: str, teacher: PoseHead) -> HeadMatch:
    places = {keypoint: i for i, keypoint in enumerate(teacher.schema.keypoints)}
    for keypoint in student.schema.keypoints:
        if keypoint not in places:
            raise ConfigError(
                f"distillation: the teacher's head '{name}' has no keypoint '{keypoint}', which "
                f"head '{head}' has; let another head teach it (distillation.heads)"
            )
    (height, width), (rows, columns) = student.input_size, teacher.input_size
    if abs(height * columns / (width * rows) - 1) > 0.01:
        raise ConfigError(
            f"distillation: head '{head}' sees crops of {height}x{width} and the teacher's head "
            f"'{name}' of {rows}x{columns} (h x w), so of another aspect; give both the same"
        )
    order = tuple(places[keypoint] for keypoint in student.schema.keypoints)
    alike = _describe(student.codec) == _describe(teacher.codec)
    return HeadMatch(head, name, order, "maps" if alike else "points")


def _describe(codec: Codec) -> tuple[object, ...]:
    return (type(codec), codec.heatmap_size, codec.warp, codec.activation)


class Distillation:
    """The terms 'HEAD.teacher': the mean over samples and keypoints of the loss to the teacher.

    With `training.loss_scale` other than 'head' there is one term '.teacher' over all samples, so
    that annotations and teacher are weighed alike.

    The teacher runs without gradient in evaluation mode on the student's own crops, resized where
    its input size differs. It is no part of what is trained or saved.

    Args:
        teacher: the model that teaches, on the device of the run.
        matches: what teaches what.
        losses: head -> loss of the student's head.
        weights: head -> weight.
        fade_steps: steps over which the weights fall linearly to 0; None keeps them.
        per_head: give a term for each head.
    """

    def __init__(
        self,
        teacher: PoseModel,
        matches: Mapping[str, HeadMatch],
        losses: Mapping[str, PointLoss],
        weights: Mapping[str, float],
        fade_steps: int | None = None,
        per_head: bool = True,
    ):
        self.teacher = teacher.eval().requires_grad_(False)
        self.matches, self.losses = dict(matches), dict(losses)
        self.weights, self.fade_steps, self.per_head = dict(weights), fade_steps, per_head
        self.factor = 1.0
        self.names = tuple(f"{head}.{NAME}" for head in matches) if per_head else (f".{NAME}",)

    def step_begins(self, step: int) -> None:
        """Let the weight fade."""
        if self.fade_steps is not None:
            self.factor = max(0.0, 1.0 - step / self.fade_steps)

    def without_rows(self, model: PoseModel, features: Tensor) -> dict[str, Tensor]:
        """Return nothing: no process waits for another here; see ExtraLoss."""
        return {}

    def step_ends(self) -> None:
        """Do nothing."""

    def __call__(self, model: PoseModel, outputs: PartOutputs) -> dict[str, Tensor]:
        """Return the summed losses of a part; see ExtraLoss."""
        groups = [
            group for group in outputs.part.groups if group.head in self.matches and len(group)
        ]
        taught = self._outputs(model, outputs.part.images, groups)
        totals: dict[str, Tensor] = {}
        with torch.autocast(outputs.features.device.type, enabled=False):
            for group in groups:
                loss = self._loss(model, group, outputs.by_head[group.head], taught[group.head])
                name = f"{group.head}.{NAME}" if self.per_head else f".{NAME}"
                total = loss.mean(1).sum() * (self.weights[group.head] * self.factor)
                totals[name] = totals[name] + total if name in totals else total
        return totals

    def _outputs(
        self, model: PoseModel, images: Tensor, groups: Sequence[Group]
    ) -> dict[str, Tensor]:
        """Return head -> the output of the teacher's head for the head's rows of uint8 images."""
        found: dict[str, Tensor] = {}
        with torch.no_grad():
            for group in groups:
                match = self.matches[group.head]
                head, own = self.teacher.head(match.teacher), model.head(group.head)
                crops = self.teacher.normalise(images[group.start : group.stop])
                crops = resize_crops(crops, own.codec.warp, head.input_size, head.codec.warp)
                features = self.teacher.features(crops, [(match.teacher, slice(0, len(crops)))])
                found[group.head] = head(features)
        return found

    def _loss(self, model: PoseModel, group: Group, output: Tensor, taught: Tensor) -> Tensor:
        """Return float32 (n, K), the loss of each keypoint times the teacher's certainty."""
        match = self.matches[group.head]
        loss, codec = self.losses[group.head], model.head(group.head).codec
        theirs = self.teacher.head(match.teacher).codec
        with torch.no_grad():
            maps = _in_order(theirs.to_heatmap(taught), match.order, theirs.channels_per_keypoint)
            if match.kind == "maps":
                points = theirs.decode(maps)[0] if loss.uses_points else group.points
                target, weights = maps, points.new_ones(points.shape[:2])
            else:
                points, scores = theirs.decode(maps)
                points = move_points(points, theirs, codec)
                target, weights = codec.encode(points, scores.clamp(0, 1))
        return loss(codec, output, target, points) * weights


def resize_crops(images: Tensor, warp: Warp, size: tuple[int, int], new_warp: Warp) -> Tensor:
    """Return crops (B, 3, h, w) as another input size and warp would have cut them, bilinear.

    Both warps lay the box's upper left corner on pixel 0 and differ in scale only: sides are
    counted in pixels (plain) or in intervals between them (udp).
    """
    if tuple(images.shape[2:]) == tuple(size) and warp == new_warp:
        return images
    scale = [
        _length(old, warp) / _length(new, new_warp)
        for old, new in zip(images.shape[2:], size, strict=True)
    ]
    # grid_sample with align_corners counts from -1 (first pixel's centre) to 1 (the last's).
    axes = [
        (torch.arange(new, device=images.device) * factor) / max(old - 1, 1) * 2 - 1
        for new, factor, old in zip(size, scale, images.shape[2:], strict=True)
    ]
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    grid = torch.stack([columns, rows], dim=-1).to(images.dtype)
    return nn.functional.grid_sample(
        images, grid.expand(len(images), -1, -1, -1), padding_mode="border", align_corners=True
    )


def move_points(points: Tensor, old: Codec, new: Codec) -> Tensor:
    """Take points (B, K, 2) from one codec's crops to another's of the same boxes."""
    factors = [
        _length(to, new.warp) / _length(side, old.warp)
        for to, side in zip(new.input_size[::-1], old.input_size[::-1], strict=True)
    ]
    return points * points.new_tensor(factors)


def _length(side: int, warp: Warp) -> int:
    return side - 1 if warp == "udp" else side


def _in_order(maps: Tensor, order: Sequence[int], per_keypoint: int) -> Tensor:
    if list(order) == list(range(maps.shape[1] // per_keypoint)):
        return maps
    split = maps.unflatten(1, (-1, per_keypoint))
    return split[:, list(order)].flatten(1, 2)
