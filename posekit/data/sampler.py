"""What each batch holds, as a pure function of the settings, the seed and the step number.

Nothing is carried from step to step: how many samples each head gets in micro-batch s, and how
many it got in all micro-batches before, are formulas in s. So a run resumes anywhere at once.

The quotas of one micro-batch of B samples are found by systematic sampling. Lay the heads' shares
of the batch, B * p, one behind the other along a line of length B; the micro-batch takes the
points u, u + 1, ..., u + B - 1, with one offset 0 <= u < 1 for each micro-batch. Each head gets its
share rounded down or up and the sum is exactly B. Only the places between the shares' edges matter
for u, so there are at most as many different batches as heads ("patterns"; good for compiled
models), and a pattern must occur as often as its interval is long. The steps are dealt to the
patterns by halving: of the first n steps, the left half of the patterns gets round(n * weight), and
so on within each half. What carries over from step to step thus stays in closed form, and each
head's count stays within about two samples of its exact share however long the run is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from posekit.config.recipe import Sampling
from posekit.data.augment import stream_key
from posekit.errors import ConfigError

_UNIT = 1 << 64
_KEPT_PERMUTATIONS = 2


class Slot(NamedTuple):
    """One place in a batch.

    Attributes:
        head: name of the head.
        dataset: name of its dataset (and split).
        epoch: how often the dataset was gone through before.
        row: row of the dataset's index.
        position: place in the dataset's stream of samples, from 0; gives epoch and row.
    """

    head: str
    dataset: str
    epoch: int
    row: int
    position: int


@dataclass(frozen=True)
class Source:
    """A head and the dataset that feeds it.

    Attributes:
        head: name of the head.
        dataset: name of the dataset and split; keys its permutations.
        rows: int64 (n,), the rows that can be drawn; a whole memory-mapped `.npy` file pickles as
            its path.
    """

    head: str
    dataset: str
    rows: np.ndarray

    def __reduce__(self) -> tuple[Any, ...]:
        rows = self.rows
        if isinstance(rows, np.memmap) and rows.filename is not None:
            return _reopen_source, (self.head, self.dataset, str(rows.filename))
        return Source, (self.head, self.dataset, rows)


def _reopen_source(head: str, dataset: str, file: str) -> Source:
    """Open a source's rows by path, so that no copy of them travels to a worker."""
    return Source(head, dataset, np.load(file, mmap_mode="r"))


def shares(sampling: Sampling, sizes: Mapping[str, int]) -> dict[str, Fraction]:
    """Return each head's share of the samples, exactly; the shares add up to 1.

    Args:
        sampling: the recipe's settings.
        sizes: head -> number of instances, in order.

    Raises:
        ConfigError: a weight is missing.
    """
    if sampling.strategy == "equal":
        weights = dict.fromkeys(sizes, Fraction(1))
    elif sampling.strategy == "weights":
        missing = [head for head in sizes if head not in sampling.weights]
        if missing:
            raise ConfigError(f"data.sampling.weights: no weight for the head '{missing[0]}'")
        weights = {head: Fraction(sampling.weights[head]) for head in sizes}
    else:
        power = 1.0 if sampling.strategy == "proportional" else 1.0 / sampling.temperature
        largest = max(sizes.values())
        weights = {
            head: Fraction(size) if power == 1 else Fraction((size / largest) ** power)
            for head, size in sizes.items()
        }
    total = sum(weights.values())
    return {head: weight / total for head, weight in weights.items()}


class Quotas:
    """How many samples each head gets in each micro-batch.

    Args:
        shares: the heads' shares, adding up to 1.
        batch_size: samples of a micro-batch, all heads and all processes together.

    Attributes:
        patterns: the different quotas that occur, each one number a head.

    Example: shares 1/2, 3/8, 1/8 of a batch of 4 are 2, 1.5 and 0.5 long, with edges at 0, 2, 3.5
    and 4. The points u, u + 1, u + 2, u + 3 fall on them as (2, 2, 0) for u < 0.5 and as (2, 1, 1)
    otherwise. Of n steps round(n / 2) take the first pattern, so that the two alternate: after
    every second step the heads have had 4, 3 and 1 samples more, exactly their shares.
    """

    def __init__(self, shares: Sequence[Fraction], batch_size: int):
        if batch_size < 1:
            raise ConfigError(f"batch size {batch_size}: expected at least 1")
        # Integers of 2^-64 of a sample: sums are exact, so quotas add up to the batch for ever.
        whole = _UNIT * batch_size
        lengths = [max(1, int(share * whole)) for share in shares]
        lengths[lengths.index(max(lengths))] += whole - sum(lengths)
        edges = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
        # A head's quota changes only where u passes an edge's fractional part.
        cuts = [*sorted({edge % _UNIT for edge in edges}), _UNIT]
        floors = [[(cut - edge) // _UNIT for edge in edges] for cut in cuts[:-1]]
        self.patterns = [[a - b for a, b in pairwise(row)] for row in floors]
        self._ends = cuts

    def of_step(self, step: int) -> list[int]:
        """Return each head's quota in micro-batch `step`; they add up to the batch size."""
        first, last, steps = 0, len(self.patterns), step
        while last - first > 1:
            middle = self._middle(first, last)
            left = self._left(first, middle, last, steps)
            # This step is the left half's if one step more gives that half one more.
            if self._left(first, middle, last, steps + 1) > left:
                last, steps = middle, left
            else:
                first, steps = middle, steps - left
        return self.patterns[first]

    def before(self, step: int) -> list[int]:
        """Return how many samples each head got in the micro-batches 0 ... step - 1."""
        times = self._times(0, len(self.patterns), step)
        heads = zip(*self.patterns, strict=True)
        return [sum(n * quota for n, quota in zip(times, head, strict=True)) for head in heads]

    def _times(self, first: int, last: int, steps: int) -> list[int]:
        """Return how often each of the patterns first ... last - 1 occurs in so many steps."""
        if last - first == 1:
            return [steps]
        middle = self._middle(first, last)
        left = self._left(first, middle, last, steps)
        return [*self._times(first, middle, left), *self._times(middle, last, steps - left)]

    def _middle(self, first: int, last: int) -> int:
        both = self._ends[first] + self._ends[last]
        return min(range(first + 1, last), key=lambda i: abs(2 * self._ends[i] - both))

    def _left(self, first: int, middle: int, last: int, steps: int) -> int:
        """Return how many of `steps` go to the patterns before `middle`, to the nearest."""
        part = self._ends[middle] - self._ends[first]
        whole = self._ends[last] - self._ends[first]
        return (2 * steps * part + whole) // (2 * whole)


class MixedSampler:
    """What each batch holds, as a function of the settings alone.

    Args:
        sources: heads with their datasets.
        sampling: how the heads share a batch.
        batch_size: samples of a micro-batch in one process.
        seed: key of the permutations.
        world_size: number of processes that share each micro-batch of world_size * batch_size.
        rank: number of this process.
        accumulate: micro-batches of an optimizer step in one process.

    Raises:
        ConfigError: there is no source, a source is empty, or a head appears twice.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        sampling: Sampling,
        batch_size: int,
        seed: int = 0,
        world_size: int = 1,
        rank: int = 0,
        accumulate: int = 1,
    ):
        _check(sources, world_size, rank)
        self.sources = tuple(sources)
        self.seed, self.world_size, self.rank = seed, world_size, rank
        self.accumulate = accumulate
        sizes = {source.head: len(source.rows) for source in sources}
        self.shares = shares(sampling, sizes)
        samples = batch_size * world_size * accumulate
        self._quotas = Quotas(list(self.shares.values()), samples)
        self._keys = [stream_key(seed, source.dataset) for source in sources]
        self._rows = [np.asarray(source.rows) for source in sources]
        self._kept: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": OrderedDict(), "_rows": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._rows = [np.asarray(source.rows) for source in self.sources]

    def batch(self, number: int) -> list[Slot]:
        """Return this process's part of micro-batch `number`, sorted by head in the sources' order.

        All samples of an optimizer step, sorted by head, are dealt like cards to the micro-batches
        of all processes: each gets exactly the batch size, each head's samples are spread as evenly
        as can be. The deal begins one place further on in every step, so that no process is always
        without a rare head. What a step holds does not depend on how many processes share it.
        """
        step, part = divmod(number, self.accumulate)
        places = self.world_size * self.accumulate
        place = self.rank + self.world_size * part
        started, dealt = self._quotas.before(step), 0
        slots: list[Slot] = []
        for source, quota in enumerate(self._quotas.of_step(step)):
            first = (place - dealt - step) % places
            positions = range(started[source] + first, started[source] + quota, places)
            slots.extend(self.slot(source, position) for position in positions)
            dealt += quota
        return slots

    def slot(self, source: int, position: int) -> Slot:
        """Return what stands at a place of a source's endless stream of samples."""
        rows = self._rows[source]
        epoch, place = divmod(position, len(rows))
        row = int(rows[self._permutation(source, epoch)[place]])
        named = self.sources[source]
        return Slot(named.head, named.dataset, epoch, row, position)

    def substitute(self, slot: Slot, attempt: int) -> Slot:
        """Return another row of the same dataset for a bad one: the next in the epoch's order.

        Args:
            slot: the place whose record is bad.
            attempt: 1 for the next row, 2 for the one after, ...
        """
        source = next(i for i, one in enumerate(self.sources) if one.head == slot.head)
        size = len(self.sources[source].rows)
        place = (slot.position + attempt) % size
        other = self.slot(source, slot.epoch * size + place)
        return slot._replace(row=other.row)

    def plan(self, steps: int) -> dict[str, tuple[int, float]]:
        """Return head -> (samples, times that each instance is shown) over the first `steps`."""
        counts = self._quotas.before(steps)
        return {
            source.head: (count, count / len(source.rows))
            for source, count in zip(self.sources, counts, strict=True)
        }

    def quotas(self, step: int) -> dict[str, int]:
        """Return head -> samples in optimizer step `step`, all processes together."""
        return dict(zip(self.shares, self._quotas.of_step(step), strict=True))

    def _permutation(self, source: int, epoch: int) -> np.ndarray:
        """Return a dataset's order in an epoch: O(n) the first time, kept for the next calls."""
        key = (source, epoch)
        if key not in self._kept:
            self._forget(source)
            seeded = np.random.Philox(key=np.array([self._keys[source], epoch], dtype=np.uint64))
            size = len(self.sources[source].rows)
            dtype = np.uint32 if size < 1 << 32 else np.int64
            order = np.arange(size, dtype=dtype)
            np.random.Generator(seeded).shuffle(order)
            self._kept[key] = order
        return self._kept[key]

    def _forget(self, source: int) -> None:
        mine = [key for key in self._kept if key[0] == source]
        for key in mine[: len(mine) - _KEPT_PERMUTATIONS + 1]:
            del self._kept[key]


def _check(sources: Sequence[Source], world_size: int, rank: int) -> None:
    if not sources:
        raise ConfigError("there is nothing to sample from, expected at least one head")
    heads = [source.head for source in sources]
    for source in sources:
        if not len(source.rows):
            raise ConfigError(
                f"head '{source.head}': dataset '{source.dataset}' has no instance to train on"
            )
        if heads.count(source.head) > 1:
            raise ConfigError(f"the head '{source.head}' appears twice among the sources")
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank {rank} of {world_size} processes: expected 0 to {world_size - 1}")
