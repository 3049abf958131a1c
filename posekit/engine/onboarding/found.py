"""What is found out about somebody's annotations, and the search for files that belong together."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

_SPLIT_WORDS = {
    "train": ("training", "train"),
    "val": ("validation", "valid", "val", "eval", "dev"),
    "test": ("testing", "test"),
}
_CANONICAL = {word: split for split, words in _SPLIT_WORDS.items() for word in words}
_SPLIT = re.compile(
    r"(?<![a-z])(" + "|".join(sorted(_CANONICAL, key=len, reverse=True)) + r")(?![a-z])",
    re.IGNORECASE,
)
_SKIPPED = {".git", "__pycache__", "node_modules", ".cache"}
_MOST_FOLDERS = 5000


@dataclass
class Found:
    """A dataset as its files tell it.

    Attributes:
        root: the dataset's folder.
        adapter: name of the built-in adapter that reads it.
        names: keypoint names as the files spell them, in order.
        splits: split name -> the keys of a `SplitCard`.
        skeleton: links as positions, as far as the files have them.
        flip_pairs: pairs of positions that the files declare, or None.
        subject: what an instance is, as far as the files tell.
        renames: whether the adapter takes the option `names` for other spellings.
        unsure: what a person should look at, one sentence each.
    """

    root: Path
    adapter: str
    names: list[str]
    splits: dict[str, dict[str, Any]]
    skeleton: list[tuple[int, int]] = field(default_factory=list)
    flip_pairs: list[tuple[int, int]] | None = None
    subject: str = ""
    renames: bool = False
    unsure: list[str] = field(default_factory=list)


def split_of(name: str) -> str | None:
    """Return 'train', 'val' or 'test' if a file or folder's name has a word for it."""
    found = _SPLIT.findall(re.sub(r"\d+", "_", PurePosixPath(name).stem))
    return _CANONICAL[found[-1].lower()] if found else None


def without_split(name: str) -> str:
    """Return a name with its words for splits and its digits taken out: what siblings share."""
    return _SPLIT.sub("*", re.sub(r"\d+", "_", name))


def folders_below(top: Path, depth: int = 3) -> Iterator[Path]:
    """Return a folder and those below it, nearest first, at most 5000."""
    level, count = [top], 0
    for _ in range(depth + 1):
        deeper: list[Path] = []
        for folder in level:
            count += 1
            if count > _MOST_FOLDERS:
                return
            yield folder
            try:
                with os.scandir(folder) as entries:
                    names = sorted(e.name for e in entries if e.is_dir(follow_symlinks=True))
            except OSError:
                continue
            deeper += [folder / n for n in names if n not in _SKIPPED and not n.startswith(".")]
        level = deeper


def files_below(top: Path, suffixes: set[str], depth: int = 3) -> list[Path]:
    """Return the files with these endings in a folder and below, nearest folders first."""
    found: list[Path] = []
    for folder in folders_below(top, depth):
        found += sorted(f for f in folder.iterdir() if f.suffix.lower() in suffixes and f.is_file())
    return found


@dataclass(frozen=True)
class Images:
    """Where the images of one annotation file lie.

    Attributes:
        folder: the folder that their names are relative to.
        present: share of the names looked for that are there, 0 to 1.
    """

    folder: Path
    present: float


def find_images(names: Sequence[str], beside: Path, top: Path, hint: str) -> Images:
    """Find the folder that image names are relative to.

    Args:
        names: some image names as the annotations have them.
        beside: the annotation file.
        top: where to search.
        hint: the annotation file's name; of equals the folder wins that shares a word with it.
    """
    names = [name.replace("\\", "/") for name in names]
    words = set(re.findall(r"[a-z]{3,}", hint.lower()))
    best = Images(beside.parent, 0.0)
    best_rank: tuple[float, int, int] = (0.0, -1, -1)
    seen: set[Path] = set()
    for number, folder in enumerate(
        [*folders_below(beside.parent, 2), *folders_below(top), beside.parent.parent]
    ):
        if folder in seen:
            continue
        seen.add(folder)
        present = sum((folder / name).is_file() for name in names) / max(len(names), 1)
        shared = len(words & set(re.findall(r"[a-z]{3,}", folder.name.lower())))
        rank = (present, shared, -number)
        if present and rank > best_rank:
            best, best_rank = Images(folder, present), rank
    return best


def split_entries(
    files: Sequence[tuple[Path, Images]], root: Path, options: dict[str, Any], unsure: list[str]
) -> dict[str, dict[str, Any]]:
    """Return split -> the keys of a `SplitCard` for annotation files with their images.

    The first file of a split counts; images that are missing are left out by the option `subset`.
    Both are told in `unsure`.
    """
    splits: dict[str, dict[str, Any]] = {}
    for file, images in files:
        name = split_of(file.name) or split_of(file.parent.name) or "all"
        if name in splits:
            unsure.append(f"{file.name}: a second file of split '{name}' was left out")
            continue
        splits[name] = {
            "annotations": relative(file, root),
            "images": relative(images.folder, root),
            "options": dict(options),
        }
        if images.present < 1:
            splits[name]["options"]["subset"] = {"present": True}
            unsure.append(
                f"{file.name}: only {images.present:.0%} of the images looked for were found; the "
                "split leaves out the others"
            )
    return splits


def common_root(paths: Iterable[Path]) -> Path:
    """Return the deepest folder that holds all paths."""
    return Path(os.path.commonpath([str(path.absolute()) for path in paths]))


def relative(path: Path, root: Path) -> str:
    """Return a path below (or beside) a root with forward slashes; '' for the root itself."""
    text = Path(os.path.relpath(path.absolute(), root.absolute())).as_posix()
    return "" if text == "." else text
