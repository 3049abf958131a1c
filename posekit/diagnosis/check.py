"""The check of a dataset: every split, the splits against one another, and other datasets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from posekit.config.cards import DatasetCard
from posekit.data.index import PoseIndex, build_index
from posekit.diagnosis import frames, labels, order, origin, outliers, sides, swaps
from posekit.diagnosis.findings import CheckReport, Finding, SplitFacts, in_order
from posekit.diagnosis.leakage import (
    ImageSet,
    Leaks,
    duplicate_findings,
    exclusions,
    find_leaks,
    image_set,
    leakage_findings,
)
from posekit.diagnosis.pictures import ImageFacts, image_findings, look_at_images
from posekit.diagnosis.pose_shapes import PoseShapes, select_poses
from posekit.errors import DatasetError

Progress = Callable[[str, int, int], None]
"""Called with a split's name, images done and images in all."""


@dataclass(frozen=True)
class OtherSplit:
    """A split of another dataset that the training images must not be in.

    Attributes:
        card: the dataset's card.
        split: the split's name.
        root: the dataset's folder.
    """

    card: DatasetCard
    split: str
    root: Path


@dataclass(frozen=True)
class Checked:
    """A finished check.

    Attributes:
        report: what was found.
        indices: split -> its index, for pictures.
        train: name of the training split, "" if it is not here.
        excluded: training images to exclude -> why; paths relative to the dataset's root.
    """

    report: CheckReport
    indices: dict[str, PoseIndex]
    train: str
    excluded: dict[str, str]


def check_dataset(
    card: DatasetCard,
    root: str | Path,
    *,
    splits: Sequence[str] = (),
    train: str = "train",
    against: Sequence[OtherSplit] = (),
    decode: bool = True,
    threads: int = 4,
    cache_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> Checked:
    """Check a dataset's splits and name all that looks wrong.

    Each split is checked alone; every other split is compared with the training split (order of
    the keypoints, leakage), but for those whose name starts with the training split's, which hold
    it on purpose; then the training images are looked for in the splits `against`.

    Cost: reads every image once (about 3 ms an image and core), unless `decode` is False; the rest
    takes seconds for 100,000 instances. Memory: 300 bytes an image, and bounded by 50,000 poses.

    Args:
        card: the dataset's card.
        root: its folder.
        splits: the splits to check; by default all of the card whose annotations are there.
        train: name of the training split.
        against: splits of other datasets that scores are made on.
        decode: look into the images; otherwise only whether they are there (no leakage check).
        threads: threads that read images.
        cache_dir: as in `build_index`.
        progress: called while images are read.

    Raises:
        ConfigError: the card has no such split, or its adapter cannot be used.
        DatasetError: none of the card's splits is there.
    """
    root = Path(root).expanduser()
    chosen = list(splits) or present_splits(card, root)
    for name in chosen:
        card.split(name)
    indices: dict[str, PoseIndex] = {}
    findings: list[Finding] = []
    for name in chosen:
        try:
            indices[name] = build_index(card, root, name, cache_dir)
        except DatasetError as error:
            if not root.is_dir():
                raise
            findings.append(_unreadable(name, error))
    facts: list[SplitFacts] = []
    images: dict[str, ImageSet] = {}
    for name, index in indices.items():
        start = time.perf_counter()
        seen = look_at_images(
            index, decode=decode, threads=threads, progress=_for_split(progress, name)
        )
        images[name] = image_set(index, seen)
        findings += [replace(found, split=name) for found in split_findings(index, seen)]
        facts.append(split_facts(index, time.perf_counter() - start))
    findings += _between_splits(indices, train)
    leaks = list(_leaks(images, train, against, decode, threads, cache_dir, progress))
    for other, found in leaks:
        findings += [
            replace(one, split=train) for one in leakage_findings(images[train], other, found)
        ]
    absent = {
        name: f"no {split.annotations}"
        for name, split in card.splits.items()
        if name not in chosen and not (root / split.annotations).exists()
    }
    report = CheckReport(card.name, tuple(facts), in_order(findings), absent)
    excluded = exclusions(images[train], leaks) if train in images else {}
    return Checked(report, indices, train if train in indices else "", excluded)


def present_splits(card: DatasetCard, root: Path) -> list[str]:
    """Return the splits of a card whose annotations are there; all of them if none is."""
    here = [name for name, s in card.splits.items() if (root / s.annotations).exists()]
    return here or list(card.splits)[:1]


def split_findings(index: PoseIndex, seen: ImageFacts) -> Iterator[Finding]:
    """Name all that looks wrong in one split.

    Args:
        index: the split.
        seen: what was seen of its images; their sizes decide what is outside.
    """
    columns, schema = index.columns, index.schema
    yield from image_findings(index, seen)
    yield from duplicate_findings(image_set(index, seen))
    yield from labels.repeated_ids(columns)
    yield from labels.duplicate_annotations(columns)
    yield from labels.area_findings(columns)
    yield from labels.keypoint_findings(columns, schema)
    yield from frames.outside_image(columns, seen.size)
    wrong_boxes = list(frames.box_format(columns, seen.size))
    yield from wrong_boxes
    # boxes in a wrong format explain points outside of them
    misplaced = [] if wrong_boxes else list(frames.points_and_boxes(columns))
    yield from misplaced
    yield from origin.origin_findings(columns, seen.size)
    yield from sides.pairs_by_name(schema)
    if not wrong_boxes and not any(found.severity == "error" for found in misplaced):
        yield from _pose_findings(index)


def split_facts(index: PoseIndex, seconds: float = 0.0) -> SplitFacts:
    """Count what a split holds."""
    columns = index.columns
    counts = labels.visibility_counts(columns)
    with_instances = len(np.unique(np.asarray(columns.image_index)))
    return SplitFacts(
        name=index.split,
        instances=len(columns),
        images=len(columns.image_path),
        empty_images=len(columns.image_path) - with_instances,
        labelled=int((columns.num_labelled > 0).sum()),
        trainable=len(index.trainable),
        skipped=dict(index.skipped),
        visibility=counts,
        visibility_says=labels.visibility_says(counts),
        seconds=round(seconds, 2),
    )


def _pose_findings(index: PoseIndex) -> Iterator[Finding]:
    """Checks that compare each pose with the others; one that explains the next ends them."""
    columns, schema = index.columns, index.schema
    poses = select_poses(columns)
    shuffled = list(order.shuffled_records(columns, poses, schema))
    yield from shuffled
    yield from order.skeleton_fits(poses, schema)
    yield from sides.pairs_by_geometry(poses, schema)
    if not shuffled:
        yield from swaps.swapped_sides(columns, poses, schema)
        yield from outliers.outlier_findings(columns, poses, schema)


def _between_splits(indices: dict[str, PoseIndex], train: str) -> Iterator[Finding]:
    if train not in indices:
        return
    own = select_poses(indices[train].columns)
    for name, index in indices.items():
        if not name.startswith(train):
            poses: PoseShapes = select_poses(index.columns)
            for found in order.order_against(poses, own, index.schema, train):
                yield replace(found, split=name)


def _leaks(
    images: dict[str, ImageSet],
    train: str,
    against: Sequence[OtherSplit],
    decode: bool,
    threads: int,
    cache_dir: str | Path | None,
    progress: Progress | None,
) -> Iterator[tuple[ImageSet, Leaks]]:
    if not decode or train not in images:
        return
    others = [found for name, found in images.items() if not name.startswith(train)]
    for other in against:
        index = build_index(other.card, other.root, other.split, cache_dir)
        seen = look_at_images(index, threads=threads, progress=_for_split(progress, index.name))
        others.append(image_set(index, seen))
    for other_images in others:
        yield other_images, find_leaks(images[train].facts, other_images.facts)


def _unreadable(split: str, error: DatasetError) -> Finding:
    return Finding(
        "annotations_unreadable",
        "error",
        str(DatasetError(error.file, error.problem, record=error.record)),
        error.fix or "fix the file; nothing else of this split can be checked before",
        split=split,
    )


def _for_split(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total)
