"""The account of a conversion: what became of every tensor, and where every weight is from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from posekit.errors import CheckpointError

Action = Literal["used", "merged", "resized", "left out", "fresh"]


@dataclass(frozen=True)
class Entry:
    """What became of one tensor.

    Attributes:
        action: 'used' as it is, 'merged' with others or cut up, 'resized', 'left out' with the
            reason as note, or 'fresh' for a tensor of the model that no source tensor fills.
        source: its name in the source; empty if fresh.
        target: the name in the result; empty if left out.
        note: why, or how.
    """

    action: Action
    source: str
    target: str
    note: str = ""


@dataclass
class Ledger:
    """All entries of one conversion, in the order of the source."""

    source_file: str
    entries: list[Entry] = field(default_factory=list)

    def add(self, action: Action, source: str, target: str, note: str = "") -> None:
        """Write down what became of a tensor."""
        self.entries.append(Entry(action, source, target, note))

    def leave(self, source: str, reason: str) -> None:
        """Write down that a source tensor is left out, and why."""
        self.add("left out", source, "", reason)

    def counts(self) -> dict[str, int]:
        """Return action -> number of tensors, leaving out what did not occur."""
        actions = [entry.action for entry in self.entries]
        return {action: actions.count(action) for action in dict.fromkeys(actions)}

    def check(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        """Raise CheckpointError unless every source and every target tensor is accounted for."""
        explained = {entry.source for entry in self.entries}
        filled = {entry.target for entry in self.entries}
        unexplained = [name for name in sources if name not in explained]
        unfilled = [name for name in targets if name not in filled]
        if unexplained:
            raise CheckpointError(
                f"{self.source_file}: {len(unexplained)} tensors are not accounted for, "
                f"'{unexplained[0]}' first; nothing is loaded"
            )
        if unfilled:
            raise CheckpointError(
                f"{self.source_file}: it lacks {len(unfilled)} tensors that the model needs, "
                f"'{unfilled[0]}' first; nothing is loaded"
            )
