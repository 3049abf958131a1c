"""Leakage: training images that are also among the images that scores are made on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posekit.data.index import PoseIndex
from posekit.diagnosis.findings import MOST_EXAMPLES, Example, Finding, path_text
from posekit.diagnosis.near_hashes import near_pairs
from posekit.diagnosis.pictures import SIDE, ImageFacts
from posekit.errors import PosekitError
from posekit.output import write_text

RADIUS = 7
_MEAN_APART, _MOST_APART = 3.5, 20.0
_REPRESENTATIVES = 8


@dataclass(frozen=True)
class ImageSet:
    """The images of one split, for comparison with another's.

    Attributes:
        name: dataset and split.
        root: the dataset's folder.
        paths: M paths relative to it.
        facts: what was seen of them.
    """

    name: str
    root: Path
    paths: Sequence[str]
    facts: ImageFacts


@dataclass(frozen=True)
class Leaks:
    """Training images that are in another set, too.

    Attributes:
        train: int64 (n,), rows of the training images; each once.
        other: int64 (n,), the image of the other set that each equals.
        kind: n times 'bytes' (the same file), or 'picture' (re-encoded, resized, or a moment
            apart).
        alike: int64 (m,), training images that look like one of the other set without being the
            same picture: neighbouring frames, a fixed camera; alike_other: which one.
    """

    train: np.ndarray
    other: np.ndarray
    kind: tuple[str, ...]
    alike: np.ndarray
    alike_other: np.ndarray


def find_leaks(train: ImageFacts, other: ImageFacts) -> Leaks:
    """Find the training images that are also in another set.

    Equal bytes are found by sha256. The same picture after re-encoding and resizing is found by
    hashes at most RADIUS bits apart and verified on thumbnails, whose grey values may differ by 3.5
    of 255 on average and 20 at most, after brightness and contrast were made equal. Crops and
    mirrored copies are not found.

    Cost: that of `near_pairs` on the distinct hashes.
    """
    same = _equal_bytes(train.digest, other.digest)
    rows_a, rows_b = _candidates(train, other)
    verified = _same_picture(train.thumbnail[rows_a], other.thumbnail[rows_b])
    pictures: dict[int, int] = {}
    alike: dict[int, int] = {}
    for a, b, is_same in zip(rows_a.tolist(), rows_b.tolist(), verified.tolist(), strict=True):
        (pictures if is_same else alike).setdefault(a, b)
    found = {**pictures, **same}
    rows = sorted(found)
    only_alike = sorted(set(alike) - set(found))
    return Leaks(
        train=np.array(rows, np.int64),
        other=np.array([found[row] for row in rows], np.int64),
        kind=tuple("bytes" if row in same else "picture" for row in rows),
        alike=np.array(only_alike, np.int64),
        alike_other=np.array([alike[row] for row in only_alike], np.int64),
    )


def leakage_findings(train: ImageSet, other: ImageSet, leaks: Leaks) -> Iterator[Finding]:
    """Name the leaks between a training split and a split that scores are made on."""
    if len(leaks.train):
        same = leaks.kind.count("bytes")
        yield Finding(
            "leakage",
            "error",
            f"{len(leaks.train)} of {len(train.paths)} images of {train.name} are also in "
            f"{other.name} ({same} equal files, {len(leaks.train) - same} the same picture "
            "re-encoded, resized or a moment apart): scores there are too good",
            "write the exclusion list (--exclude-out FILE) and name it in the recipe, "
            "heads.NAME.exclude",
            len(leaks.train),
            _examples(train, other, leaks.train, leaks.other, leaks.kind),
        )
    if len(leaks.alike):
        yield Finding(
            "images_alike",
            "note",
            f"{len(leaks.alike)} of {len(train.paths)} images of {train.name} look like one of "
            f"{other.name} without being the same picture: frames of one recording or one camera; "
            "scores there say little about new recordings",
            "split by recording, if the score is to tell how the model does on new ones",
            len(leaks.alike),
            _examples(train, other, leaks.alike, leaks.alike_other, ["looks alike"]),
        )


def duplicate_findings(images: ImageSet) -> Iterator[Finding]:
    """Name files of one split that have equal bytes under several names."""
    digest = images.facts.digest
    known = np.flatnonzero(digest != b"")
    _, first, inverse = np.unique(digest[known], return_index=True, return_inverse=True)
    repeats = np.flatnonzero(first[inverse] != np.arange(len(known)))
    if len(repeats):
        rows, firsts = known[repeats], known[first[inverse[repeats]]]
        yield Finding(
            "images_repeated",
            "warning",
            f"{len(rows)} images of {images.name} are equal to another one of it, byte by byte",
            "keep one of each, unless they are annotated apart on purpose",
            len(rows),
            tuple(
                Example(
                    images.paths[a],
                    note=f"equals {images.paths[b]}",
                    image_index=a,
                    beside=images.root / images.paths[b],
                )
                for a, b in zip(
                    rows[:MOST_EXAMPLES].tolist(), firsts[:MOST_EXAMPLES].tolist(), strict=True
                )
            ),
        )


def write_exclusions(file: str | Path, images: dict[str, str], about: str) -> Path:
    """Write the exclusion list that a recipe's `heads.NAME.exclude` reads.

    Args:
        file: the file to write.
        images: path of the image relative to the dataset's root -> why it is excluded.
        about: one line about what was compared.

    Raises:
        PosekitError: a path cannot stand in such a list, or the file cannot be written.
    """
    lines = [f"# {about}"]
    for path, why in sorted(images.items()):
        if path != path.strip() or path.startswith("#") or "\n" in path or "\r" in path:
            raise PosekitError(
                f"{file}: the image path {path!r} cannot stand in a list of one path a line "
                "(blanks at its ends, a line break, or # in front); rename the image"
            )
        lines += [f"# {why}".replace("\n", " "), path]
    return write_text(Path(file).expanduser(), "\n".join(lines) + "\n")


def exclusions(train: ImageSet, leaks: Iterable[tuple[ImageSet, Leaks]]) -> dict[str, str]:
    """Return path -> reason of the training images to exclude."""
    excluded: dict[str, str] = {}
    for other, found in leaks:
        for row, at, kind in zip(
            found.train.tolist(), found.other.tolist(), found.kind, strict=True
        ):
            how = "the same file as" if kind == "bytes" else "the same picture as"
            excluded.setdefault(train.paths[row], f"{how} {other.paths[at]} of {other.name}")
    return excluded


def image_set(index: PoseIndex, facts: ImageFacts) -> ImageSet:
    """Return the images of a split, for comparison with another's."""
    paths = [path_text(index.columns, image) for image in range(len(index.columns.image_path))]
    return ImageSet(index.name, index.root, paths, facts)


def _equal_bytes(a: np.ndarray, b: np.ndarray) -> dict[int, int]:
    known, first = np.unique(b, return_index=True)
    place = np.searchsorted(known, a).clip(max=max(len(known) - 1, 0))
    equal = np.flatnonzero((a != b"") & (known[place] == a)) if len(known) else np.zeros(0, int)
    return {row: int(first[place[row]]) for row in equal.tolist()}


def _candidates(train: ImageFacts, other: ImageFacts) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of image rows with near hashes, nearest first for each training image.

    Of images with one hash only the first few of the other set stand for all of them.
    """
    own, theirs = (np.flatnonzero(facts.has_hash) for facts in (train, other))
    values_a, inverse_a = np.unique(train.hash[own], return_inverse=True)
    values_b, inverse_b = np.unique(other.hash[theirs], return_inverse=True)
    if not len(values_a) or not len(values_b):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    at_b, at_a, _ = near_pairs(values_b, values_a, RADIUS)
    groups_a, groups_b = (_groups(inverse) for inverse in (inverse_a, inverse_b))
    pairs_a: list[np.ndarray] = []
    pairs_b: list[np.ndarray] = []
    for i, j in zip(at_a.tolist(), at_b.tolist(), strict=True):
        rows, others = own[groups_a[i]], theirs[groups_b[j][:_REPRESENTATIVES]]
        pairs_a.append(np.repeat(rows, len(others)))
        pairs_b.append(np.tile(others, len(rows)))
    if not pairs_a:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(pairs_a), np.concatenate(pairs_b)


def _groups(inverse: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.cumsum(np.bincount(inverse))[:-1])


def _same_picture(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """bool (n,): the thumbnails (n, SIDE, SIDE) are those of one picture."""
    values_a, values_b = (v.reshape(len(v), SIDE * SIDE).astype(np.float32) for v in (a, b))
    values_b = values_b - values_b.mean(axis=1, keepdims=True)
    values_a = values_a - values_a.mean(axis=1, keepdims=True)
    spread_a, spread_b = values_a.std(axis=1), values_b.std(axis=1)
    gain = (spread_a / np.maximum(spread_b, 1e-6))[:, None]
    apart = np.abs(values_a - values_b * gain)
    alike = np.abs(np.log(np.maximum(gain[:, 0], 1e-6))) < 0.5
    return alike & (apart.mean(axis=1) <= _MEAN_APART) & (apart.max(axis=1) <= _MOST_APART)


def _examples(
    train: ImageSet, other: ImageSet, rows: np.ndarray, others: np.ndarray, kinds: Sequence[str]
) -> tuple[Example, ...]:
    words = {"bytes": "equals", "picture": "same picture as", "looks alike": "looks like"}
    return tuple(
        Example(
            train.paths[a],
            note=f"{words[kinds[i % len(kinds)]]} {other.paths[b]} of {other.name}",
            image_index=a,
            beside=other.root / other.paths[b],
        )
        for i, (a, b) in enumerate(
            zip(rows[:MOST_EXAMPLES].tolist(), others[:MOST_EXAMPLES].tolist(), strict=True)
        )
    )
