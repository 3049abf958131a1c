"""One optimizer step: forward of the micro-batches, losses that add up exactly, backward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from posekit.data.batch import Batch, Group, Part
from posekit.models import PoseModel
from posekit.models.batch_norm import SharedBatchNorm2d
from posekit.models.processes import rank_and_size
from posekit.training.losses import PointLoss, loss_term
from posekit.training.objective import Objective, Terms


@dataclass(frozen=True)
class PartOutputs:
    """The outputs of the model for one part of a batch.

    Attributes:
        part: the crops and their groups.
        images: float (B, 3, h, w), normalised; None where the features come from the cache.
        features: (B, D, gh, gw), the backbone's map; each row through its own head's expert.
        by_head: head -> the head's output for its own rows.
    """

    part: Part
    images: Tensor | None
    features: Tensor
    by_head: Mapping[str, Tensor]


class ExtraLoss(Protocol):
    """A loss beside the heads' own (distillation, prototypes, ...).

    Attributes:
        names: every name that it may return, 'HEAD.NAME' or '.NAME'.
    """

    names: tuple[str, ...]

    def step_begins(self, step: int) -> None:
        """Prepare for optimizer step number `step`."""

    def __call__(self, model: PoseModel, outputs: PartOutputs) -> dict[str, Tensor]:
        """Return name -> float32 (), the loss summed over samples of a part, its weight included.

        'HEAD.NAME' is divided by the head's samples in the whole step, '.NAME' by all samples.
        Runs inside the model's autocast; losses themselves belong in float32.
        """

    def without_rows(self, model: PoseModel, features: Tensor) -> dict[str, Tensor]:
        """Stand in for a part of which only other processes have samples.

        What exchanges something between processes in `__call__` must do so here too.

        Args:
            model: the model.
            features: (0, D, gh, gw).

        Returns:
            As `__call__`, totals of 0; empty if there is nothing to exchange.
        """

    def step_ends(self) -> None:
        """Follow up an optimizer step; called on every process."""


class LossModule(Objective):
    """Each head's loss of a batch before division, by a PoseModel."""

    model: PoseModel

    def __init__(
        self,
        model: PoseModel,
        losses: Mapping[str, PointLoss],
        extras: Sequence[ExtraLoss] = (),
    ):
        super().__init__()
        self.model = model
        self.losses = nn.ModuleDict(dict(losses))
        self.extras = tuple(extras)
        self._sizes = sorted({model.head(name).input_size for name in losses})
        self._shared = {
            name
            for name in self.losses
            if any(isinstance(m, SharedBatchNorm2d) for m in model.head(name).modules())
        }

    def forward(self, batch: Batch) -> Terms:
        """Return the terms of a micro-batch's loss.

        The heads run in one order on every process, and one that normalises over the rows of all
        processes runs without rows where a process has none: their exchanges then match.
        """
        features = [self._features(part) for part in batch.parts]
        places = {
            group.head: (number, group)
            for number, part in enumerate(batch.parts)
            for group in part.groups
        }
        by_head: list[dict[str, Tensor]] = [{} for _ in batch.parts]
        terms: dict[str, tuple[Tensor, Tensor]] = {}
        for head in self.losses:
            if head not in places:
                if head in self._shared and self.training and rank_and_size()[1] > 1:
                    terms[head] = self._without_rows(head, features[0][1])
                continue
            number, group = places[head]
            rows = (head, slice(group.start, group.stop))
            output = self.model.run_heads(features[number][1], [rows])[head]
            by_head[number][head] = output
            loss, codec = cast(PointLoss, self.losses[head]), self.model.head(head).codec
            with torch.autocast(output.device.type, enabled=False):
                terms[head] = loss_term(loss, codec, output, group.points, _labelled(group))
        parts = zip(batch.parts, features, by_head, strict=True)
        outputs = {
            self.model.head(part.groups[0].head).input_size: PartOutputs(part, images, found, own)
            for part, (images, found), own in parts
        }
        for size in self._sizes:  # in one order on every process, as the heads
            if size in outputs:
                self._add_extras(terms, outputs[size])
            elif self.training and rank_and_size()[1] > 1:
                self._add_extras_without_rows(terms, features[0][1])
        return terms

    def _features(self, part: Part) -> tuple[Tensor | None, Tensor]:
        images = None if part.is_cached else self.model.normalise(part.images)
        if images is None:
            return None, part.images.float()
        return images, self.model.features(images, groups_of(part))

    def _without_rows(self, head: str, features: Tensor) -> tuple[Tensor, Tensor]:
        """Run a head on no rows, for the other processes' sake; its loss is 0."""
        total = self.model.head(head)(features.detach()[:0]).float().sum()
        return total, torch.zeros_like(total)

    def _add_extras_without_rows(
        self, terms: dict[str, tuple[Tensor, Tensor]], features: Tensor
    ) -> None:
        for extra in self.extras:
            for name, total in extra.without_rows(self.model, features.detach()[:0]).items():
                before, count = terms.get(name, (0.0, torch.zeros_like(total)))
                terms[name] = (total + before, count)

    def _add_extras(self, terms: dict[str, tuple[Tensor, Tensor]], outputs: PartOutputs) -> None:
        rows = {group.head: len(group) for group in outputs.part.groups}
        for extra in self.extras:
            for name, total in extra(self.model, outputs).items():
                head = name.partition(".")[0]
                count = total.new_tensor(float(rows[head] if head else len(outputs.part.images)))
                before = terms.get(name, (0.0, 0.0))
                terms[name] = (total + before[0], count + before[1])

    def label_weight(self, batch: Batch) -> dict[str, Tensor]:
        """Return head -> sum of the weights that `forward` would give, without the model."""
        weights = {}
        for part in batch.parts:
            for group in part.groups:
                codec = self.model.head(group.head).codec
                weights[group.head] = codec.encode(group.points, _labelled(group))[1].sum()
        return weights


@dataclass(frozen=True)
class LossScale:
    """How the heads' loss terms become one loss (`training.loss_scale` of the recipe).

    Attributes:
        kind: 'head', 'share' or 'batch'; see the recipe.
        weights: head -> loss_weight.
        keypoints: head -> K.
    """

    kind: str
    weights: Mapping[str, float]
    keypoints: Mapping[str, int]

    def factors(
        self, label_weight: Mapping[str, Tensor], rows: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """Return the factor of each term's sum.

        Args:
            label_weight: sum of the weights of each head over the whole step, all processes; of a
                further loss any value.
            rows: samples of each head over the whole step, all processes.
        """
        total_rows = sum(rows.values())
        factors = {}
        for head, weight in label_weight.items():
            if head not in self.weights:
                own = head.partition(".")[0]
                samples = max(rows[own] if own else total_rows, 1.0)
                factors[head] = torch.full_like(weight, 1.0 / samples)
                continue
            if self.kind == "batch":
                divisor = torch.as_tensor(total_rows * self.keypoints[head]).to(weight)
            else:
                divisor = weight.clamp_min(1.0)
            share = rows[head] / total_rows if self.kind == "share" else 1.0
            factors[head] = self.weights[head] * share / divisor
        return factors


def groups_of(part: Part) -> list[tuple[str, slice]]:
    """Return (head, rows) of each group, as PoseModel takes them."""
    return [(group.head, slice(group.start, group.stop)) for group in part.groups]


def rows_of(batches: Sequence[Batch]) -> dict[str, float]:
    """Return head -> number of samples in the micro-batches of one step."""
    rows: dict[str, float] = {}
    for batch in batches:
        for part in batch.parts:
            for group in part.groups:
                rows[group.head] = rows.get(group.head, 0.0) + group.stop - group.start
    return rows


def sum_over_processes(values: dict[str, Tensor], heads: Sequence[str]) -> dict[str, Tensor]:
    """Add up each head's value over all processes; a head absent here counts as 0."""
    if not (dist.is_available() and dist.is_initialized()):
        return values
    some = next(iter(values.values()))
    stacked = torch.stack([values.get(head, torch.zeros_like(some)) for head in heads])
    dist.all_reduce(stacked)
    return {head: stacked[i] for i, head in enumerate(heads) if bool(stacked[i] > 0)}


def run_step(
    module: nn.Module,
    batches: Sequence[Batch],
    scale: LossScale,
    backward: Callable[[Tensor, bool], None],
    world_size: int = 1,
) -> Terms:
    """Run forward and backward of one optimizer step.

    Args:
        module: an Objective, possibly wrapped for several processes.
        batches: micro-batches of the step on this process's device.
        scale: how the heads' terms become one loss.
        backward: called with each micro-batch's loss and whether it is the last of the step.
        world_size: processes; their gradients are averaged, so the loss is multiplied by it.

    Returns:
        The terms of this process, detached, for logging.
    """
    inner = cast(Objective, getattr(module, "module", module))
    heads = list(scale.weights)
    device = batches[0].parts[0].images.device
    local_rows = {h: torch.tensor(float(n), device=device) for h, n in rows_of(batches).items()}
    rows = {h: float(n) for h, n in sum_over_processes(local_rows, heads).items()}
    # Divisors span all micro-batches, so with several of them the labels are counted before.
    ahead = None
    if len(batches) > 1:
        ahead = sum_over_processes(add_up([inner.label_weight(b) for b in batches]), heads)
    logged: list[Terms] = []
    for number, batch in enumerate(batches):
        terms: Terms = module(batch)
        detached = {head: (t.detach(), w.detach()) for head, (t, w) in terms.items()}
        logged.append(detached)
        own = {name: w for name, (_, w) in detached.items() if name in scale.weights}
        label_weight = ahead or sum_over_processes(own, heads)
        factors = scale.factors(_complete(label_weight, terms), {**dict.fromkeys(own, 1.0), **rows})
        loss = torch.stack([total * factors[head] for head, (total, _) in terms.items()]).sum()
        backward(loss * world_size, number + 1 == len(batches))
    return {
        name: (
            torch.stack([t[name][0] for t in logged if name in t]).sum(),
            torch.stack([t[name][1] for t in logged if name in t]).sum(),
        )
        for name in dict.fromkeys(name for terms in logged for name in terms)
    }


@contextmanager
def keyed_randomness(seed: int, step: int, rank: int, device: torch.device) -> Iterator[None]:
    """Make torch's draws inside (drop path, dropout) a function of (seed, step, rank) alone.

    The global generators are as before afterwards.
    """
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed((seed * 1_000_003 + step) * 4_099 + rank)
        yield


def _labelled(group: Group) -> Tensor:
    return (group.visibility > 0).float()


def _complete(weights: Mapping[str, Tensor], terms: Terms) -> dict[str, Tensor]:
    """Return every head of the micro-batch a weight: a head without any label gets its own 0."""
    return {head: weights.get(head, own) for head, (_, own) in terms.items()}


def add_up(maps: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return head -> sum over several mappings; a head may be absent from some."""
    total: dict[str, Tensor] = {}
    for values in maps:
        for head, value in values.items():
            total[head] = total[head] + value if head in total else value
    return total
