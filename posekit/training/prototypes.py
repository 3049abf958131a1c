"""Learning with keypoint prototypes, and from what they and the heads agree on (PoseBH)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from posekit.config.prototypes import PosebhConfig
from posekit.data.batch import Group
from posekit.models import PoseModel
from posekit.models.pose_model import PoseHead
from posekit.models.prototypes import PrototypeSpace
from posekit.training.losses import PointLoss, mse
from posekit.training.step import PartOutputs


@dataclass(frozen=True)
class KeypointPixels:
    """Pixels of one head's maps that lie on a keypoint.

    Attributes:
        embedded: float32 (P, D), unit vectors.
        keypoint: int64 (P,), the keypoint with the largest target.
        target: float32 (P,), that target.
    """

    embedded: Tensor
    keypoint: Tensor
    target: Tensor


class PrototypeLearning:
    """The further losses of PoseBH; moves the prototypes after each step.

    The intended form of the method, not the released code's: every index is within the head's own
    prototypes, distances are in both coordinates, pseudo points average both decodings. The
    assignment that the loss uses is the one that moves the prototypes (no Gumbel draw), a pixel
    counts with the sign of its cosine (the maps are blind to it), and sums over all processes move
    them. Foreign samples go through a head with the running statistics of its batch norm.

    Args:
        model: has prototypes.
        config: the settings.
        losses: head -> per-point loss, for pseudo points.
        unit_steps: optimizer steps in the unit of the settings' times.

    Attributes:
        names: see ExtraLoss: HEAD.prototypes, HEAD.prototype_map, .self_supervision.

    Source: PoseBH (arXiv 2505.17475); kpt_proto_module.py, ppce_loss.py, top_down_moe_proto.py.
    """

    def __init__(
        self,
        model: PoseModel,
        config: PosebhConfig,
        losses: Mapping[str, PointLoss],
        unit_steps: float,
    ):
        assert model.prototypes is not None  # noqa: S101 - built with them
        self.config, self.losses, self.unit_steps = config, dict(losses), unit_steps
        self.space: PrototypeSpace = model.prototypes
        kinds = ("prototypes", "prototype_map")
        self.names = tuple(f"{head}.{kind}" for head in model.head_names for kind in kinds)
        self.names += (".self_supervision",)
        self.moves = self.supervises = False
        self._moved: dict[str, Tensor] = {}

    def step_begins(self, step: int) -> None:
        """Switch on what the settings ask for at this step."""
        until, start = self.config.update_until, self.config.self_from
        self.moves = until is None or step < until * self.unit_steps
        self.supervises = start is not None and step >= start * self.unit_steps
        self._moved = {}

    def __call__(self, model: PoseModel, outputs: PartOutputs) -> dict[str, Tensor]:
        """Return the summed losses of a part; see ExtraLoss."""
        embedded = self.space.embedding(outputs.features)
        totals: dict[str, Tensor] = {}
        for group in outputs.part.groups:
            if not len(group):
                continue
            codec = model.head(group.head).codec
            rows = embedded[group.start : group.stop]
            target, weights = codec.encode(group.points, (group.visibility > 0).float())
            pull, shape = self._both(model, group.head, rows, target, weights, self.moves)
            totals[f"{group.head}.prototypes"] = pull * len(group)
            totals[f"{group.head}.prototype_map"] = shape * len(group)
        if self.supervises:
            parts = [self._agree(model, outputs, embedded, group) for group in outputs.part.groups]
            totals[".self_supervision"] = torch.stack(parts).sum()
        return totals

    def without_rows(self, model: PoseModel, features: Tensor) -> dict[str, Tensor]:
        """Let the embedding's batch norms exchange their moments; see ExtraLoss."""
        return {self.names[0]: self.space.embedding(features).sum()}

    def step_ends(self) -> None:
        """Move the prototypes by what the step's pixels of all processes say."""
        if not self.moves:
            return
        for head in self.space.vectors:
            moved = self._moved.get(head)
            if moved is None:
                moved = torch.zeros_like(self.space.of(head))
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(moved)
            self.space.update(head, moved, self.config.momentum)
        self._moved = {}

    def _both(
        self,
        model: PoseModel,
        head: str,
        embedded: Tensor,
        target: Tensor,
        weights: Tensor,
        moves: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return the weighted mean losses at keypoint pixels and of the maps."""
        config = self.config
        with torch.autocast(embedded.device.type, enabled=False):
            weighted = target * (weights > 0)[..., None, None]
            pixels = keypoint_pixels(embedded, weighted, config.min_target, config.max_pixels)
            cosines = torch.einsum("pd,kmd->pkm", pixels.embedded, self.space.of(head))
            chosen = assign(cosines.detach(), pixels.keypoint, config)
            contrast, distance = pixel_losses(cosines, pixels.keypoint, chosen)
            if moves:
                moved = directions(pixels, cosines.detach(), chosen)
                before = self._moved.get(head)
                self._moved[head] = moved if before is None else before + moved
            values = mse(model.head(head).codec, self.space.maps(embedded, head), target)
            shape = (values * weights).mean() if weights.numel() else values.sum()
        return config.contrast * contrast + config.distance * distance, config.map_loss * shape

    def _agree(
        self, model: PoseModel, outputs: PartOutputs, embedded: Tensor, group: Group
    ) -> Tensor:
        """Return the loss of one head to its pseudo points on the other heads' samples, summed."""
        rows = torch.ones(len(outputs.features), dtype=torch.bool, device=outputs.features.device)
        rows[group.start : group.stop] = False
        if not rows.any():
            return outputs.features.new_zeros((), dtype=torch.float32)
        head, others = model.head(group.head), embedded[rows]
        with running_statistics(head):
            output = head(outputs.features[rows])
        with torch.autocast(embedded.device.type, enabled=False):
            points, weights = self.pseudo_points(head, output, self.space.maps(others, group.head))
            target, weights = head.codec.encode(points, weights)
            values = self.losses[group.head](head.codec, output, target, points)
            loss = (values * weights).mean()
        pull, shape = self._both(model, group.head, others, target, weights, moves=False)
        return self.config.self_supervision * (loss + pull + shape) * len(others)

    @torch.no_grad()
    def pseudo_points(self, head: PoseHead, output: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return points where a head and its prototypes agree.

        Args:
            head: the head.
            output: (n, K, H, W), what it gave.
            maps: float32 (n, K, H, W), of its prototypes.

        Returns:
            float32 points (n, K, 2) in crop pixels, both decodings averaged by the heights of
            their peaks, and weights (n, K): the smaller peak, 0 where they do not agree.
        """
        config, codec = self.config, head.codec
        first, height = codec.decode(codec.to_heatmap(output.detach()))
        second, _ = codec.decode(maps.detach())
        other_height = maps.detach().flatten(2).amax(-1)
        rows, columns = codec.heatmap_size
        step = first.new_tensor([codec.input_size[1] / columns, codec.input_size[0] / rows])
        apart = ((first - second) / step).norm(dim=-1)
        lower = torch.minimum(height, other_height)
        agrees = (lower > config.min_score) & (apart <= config.max_distance)
        both = (height + other_height)[..., None].clamp_min(1e-6)
        points = (first * height[..., None] + second * other_height[..., None]) / both
        return points, lower * agrees


def keypoint_pixels(embedded: Tensor, target: Tensor, above: float, most: int) -> KeypointPixels:
    """Collect the pixels whose largest target exceeds `above`.

    Args:
        embedded: float32 (n, D, H, W), unit vectors.
        target: float32 (n, K, H, W), zero where a keypoint is not labelled.
        above: the threshold.
        most: at most so many pixels, evenly spread over those found.
    """
    largest, keypoint = target.max(1)
    found = (largest > above).nonzero()
    if len(found) > most:
        spread = torch.linspace(0, len(found) - 1, most, device=found.device).long()
        found = found[spread]
    row, y, x = found.unbind(1)
    return KeypointPixels(embedded[row, :, y, x], keypoint[row, y, x], largest[row, y, x])


def assign(cosines: Tensor, keypoint: Tensor, config: PosebhConfig) -> Tensor:
    """Return the prototype (P,) of its keypoint that each pixel belongs to.

    Sinkhorn's iteration balances each keypoint's pixels over its prototypes, so that none is
    left without any; then each pixel takes the likeliest.

    Args:
        cosines: float32 (P, K, M), to all prototypes of the head.
        keypoint: int64 (P,).
        config: temperature and iterations.
    """
    count, keypoints, prototypes = cosines.shape
    own = cosines[torch.arange(count, device=cosines.device), keypoint].abs()
    # |cosine| <= 1, so subtracting 1 keeps the exponential from overflowing; Sinkhorn rescales.
    share = torch.exp((own - 1) / config.temperature)
    for _ in range(config.iterations):
        sums = share.new_zeros(keypoints, prototypes).index_add_(0, keypoint, share)
        share = share / sums[keypoint].clamp_min(torch.finfo(share.dtype).tiny)
        share = share / share.sum(1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)
    return share.argmax(1)


def pixel_losses(cosines: Tensor, keypoint: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return cross-entropy over |cosines| and mean squared distance to the assigned prototype.

    Both are 0 without pixels.
    """
    count, _, prototypes = cosines.shape
    if not count:
        return cosines.sum(), cosines.sum()
    logits = cosines.abs().flatten(1)
    index = keypoint * prototypes + chosen
    assigned = logits.gather(1, index[:, None])[:, 0]
    return cross_entropy(logits, index), (1 - assigned).square().mean()


def directions(pixels: KeypointPixels, cosines: Tensor, chosen: Tensor) -> Tensor:
    """Return for each prototype the sum of its pixels' vectors, weighted by the squared target.

    Only pixels whose nearest prototype in the head is of their own keypoint count. A vector
    opposite to its prototype counts turned round.

    Returns:
        float32 (K, M, D).
    """
    count, keypoints, prototypes = cosines.shape
    # Flat index k * M + m, so dividing by M gives the keypoint.
    nearest = cosines.abs().flatten(1).argmax(1) // prototypes if count else pixels.keypoint
    index = pixels.keypoint * prototypes + chosen
    signs = cosines.flatten(1).gather(1, index[:, None]).sign()
    weight = pixels.target.square() * (nearest == pixels.keypoint)
    vectors = pixels.embedded.detach() * signs * weight[:, None]
    width = pixels.embedded.shape[1]
    sums = vectors.new_zeros(keypoints * prototypes, width).index_add_(0, index, vectors)
    return sums.view(keypoints, prototypes, width)


@contextmanager
def running_statistics(module: nn.Module) -> Iterator[None]:
    """Let the batch norms inside use, and keep, their running statistics."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
