"""Which datasets are on this machine, and how many instances they have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from posekit.config.cards import DatasetCard
from posekit.data.index import build_index
from posekit.errors import PosekitError


@dataclass(frozen=True)
class SplitPresence:
    """One split of a card as it is found below a data root.

    Attributes:
        split: its name.
        instances: number of instances, None if the split is not there or cannot be read.
        images: number of images with instances or listed by the file, likewise.
        problem: what is the matter, '' if nothing is.
    """

    split: str
    instances: int | None = None
    images: int | None = None
    problem: str = ""


def presence(card: DatasetCard, data_root: str | Path) -> list[SplitPresence]:
    """Look for a card's splits below a data root; reads (and caches) the ones that are there.

    Time: the first time the parsing of the annotation files, milliseconds afterwards.

    Returns:
        one entry a split; an empty list if the dataset's folder is not there at all.
    """
    root = Path(data_root).expanduser() / card.folder
    if not root.is_dir():
        return []
    found = []
    for split in card.splits.values():
        if not (root / split.annotations).exists():
            found.append(SplitPresence(split.name, problem=f"no {split.annotations}"))
            continue
        try:
            index = build_index(card, root, split.name)
        except PosekitError as error:
            found.append(SplitPresence(split.name, problem=str(error)))
            continue
        found.append(SplitPresence(split.name, len(index), len(index.columns.image_path)))
    return found


def presence_words(splits: list[SplitPresence]) -> str:
    """Summarise in one line which files of a dataset are present; '-' if none."""
    there = [f"{one.split} {one.instances:,}" for one in splits if one.instances is not None]
    wrong = [one.split for one in splits if one.instances is None]
    if not splits:
        return "-"
    words = ", ".join(there) or "none"
    return words + (f" (not readable: {', '.join(wrong)})" if wrong else "")
