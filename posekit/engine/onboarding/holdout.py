"""Holds a part of the images out for evaluation, where a dataset comes without such a split."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from posekit.adapters.subset import group_of, natural_key

SHARE = 0.2
_FEW_GROUPS = 50
_FEWEST_GROUPS = 4


@dataclass(frozen=True)
class HoldOut:
    """Two rules of the option `subset` that share out the images, and how, in words."""

    train: dict[str, Any]
    held_out: dict[str, Any]
    words: str


def hold_out(images: Sequence[str]) -> HoldOut:
    """Choose how about a fifth of the images is held out; the same on every machine.

    What belongs together stays together: images of one folder or of one name but for its number
    (a video's frames, one person's pictures), if that makes enough groups. Frames of one video are
    cut in two by their number, since neighbours are alike. Everything else is drawn by hash.

    Args:
        images: paths relative to the dataset's root, each once.
    """
    for by, what in (("folder", "folders"), ("stem", "names up to the last number")):
        groups = Counter(group_of(image, by) for image in images)
        largest = max(groups.values())
        if _FEWEST_GROUPS <= len(groups) < len(images) and largest <= 0.5 * len(images):
            return _by_groups(groups, by, what)
    if _is_one_video(images):
        ordered = sorted(images, key=natural_key)
        cut = ordered[min(len(ordered) - 1, max(1, round(len(ordered) * (1 - SHARE))))]
        words = f"the images look like frames of one video: those from {cut} on are held out"
        return HoldOut({"before": cut}, {"starting": cut}, words)
    train, held_out = {"fraction": [0, 1 - SHARE]}, {"fraction": [1 - SHARE, 1]}
    return HoldOut(train, held_out, f"{SHARE:.0%} of the images are held out, drawn by hash")


def _by_groups(groups: Counter[str], by: str, what: str) -> HoldOut:
    if len(groups) > _FEW_GROUPS:
        words = f"{SHARE:.0%} of the {len(groups)} {what} are held out, drawn by hash"
        return HoldOut(
            {"fraction": [0, 1 - SHARE], "by": by}, {"fraction": [1 - SHARE, 1], "by": by}, words
        )
    total = sum(groups.values())
    chosen: list[str] = []
    count = 0
    for name in sorted(groups, key=lambda name: hashlib.sha256(name.encode()).digest()):
        # A group that would take much more than the share is skipped.
        if count + groups[name] <= 1.5 * SHARE * total or not chosen:
            chosen.append(name)
            count += groups[name]
        if count >= SHARE * total:
            break
    words = f"{count} of {total} images are held out, all of {', '.join(sorted(chosen))} ({what})"
    return HoldOut(
        {"leave_out_groups": sorted(chosen), "by": by},
        {"groups": sorted(chosen), "by": by},
        words,
    )


def _is_one_video(images: Sequence[str]) -> bool:
    """Return whether all images are of one name but for a number, with a word or hardly a gap."""
    stems = {group_of(image, "stem") for image in images}
    if len(stems) != 1:
        return False
    numbers = [re.search(r"([0-9]+)$", PurePosixPath(image).stem) for image in images]
    if not all(numbers):
        return False
    has_word = any(letter.isalpha() for letter in PurePosixPath(images[0]).stem)
    values = [int(found[1]) for found in numbers if found]
    return has_word or max(values) - min(values) + 1 <= 2 * len(values)
