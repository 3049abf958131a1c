"""`posekit datasets new`: from somebody's annotations to a card, a picture and a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posekit.adapters.base import Instance
from posekit.adapters.files import require_file
from posekit.adapters.names import squash
from posekit.adapters.registry import get_adapter
from posekit.config.cards import DatasetCard, available, dataset_card_from_dict, load_dataset_card
from posekit.diagnosis.sides import MOST_POSES, NamedSides, find_mirror, mean_shape, read_sides
from posekit.engine.onboarding.card_text import card_text, recipe_text
from posekit.engine.onboarding.found import Found
from posekit.engine.onboarding.from_coco import find_coco
from posekit.engine.onboarding.from_tables import find_csv, find_deeplabcut, find_sleap
from posekit.engine.onboarding.from_yolo import find_yolo
from posekit.engine.onboarding.holdout import hold_out
from posekit.engine.onboarding.sheet import write_sheet
from posekit.errors import ConfigError, DatasetError
from posekit.output import write_text

_GENERIC = {"annotations", "labels", "data", "dataset", "tmp", "all", "project", "images"}
_ORDER = ("train", "val", "test")
_LOOKUPS: dict[str, Callable[[Path], Found | None]] = {
    "DeepLabCut project": find_deeplabcut,
    "YOLO-pose dataset": find_yolo,
    "COCO-style JSON": find_coco,
    "SLEAP labels": find_sleap,
    "landmark CSV": find_csv,
}


@dataclass
class NewDataset:
    """What was found out and written.

    Attributes:
        name: the dataset's name.
        root: the dataset's folder.
        card, recipe, sheet: files that were written; None if not wanted or not possible.
        form: the format in words.
        instances: split -> number of instances with a labelled keypoint.
        keypoints: the keypoints' names.
        pairs: pairs of names that trade places in the mirror, each with where it comes from.
        unsure: what a person should look at, one sentence each.
        next_commands: what to run next.
    """

    name: str
    root: Path
    card: Path
    form: str
    instances: dict[str, int]
    keypoints: tuple[str, ...]
    pairs: list[tuple[str, str, str]]
    recipe: Path | None = None
    sheet: Path | None = None
    unsure: list[str] = field(default_factory=list)
    next_commands: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            key: str(value) if isinstance(value, Path) else value
            for key, value in vars(self).items()
        }


def new_dataset(
    path: str | Path,
    out: str | Path | None = None,
    *,
    name: str | None = None,
    recipe: str | Path | None = None,
    overwrite: bool = False,
) -> NewDataset:
    """Describe a dataset by its files and write a card that trains as it is.

    Args:
        path: an annotation file, or a folder: COCO-style JSON, a DeepLabCut project or label file,
            a YOLO-pose YAML, a SLEAP file, a landmark CSV.
        out: the card to write; NAME.yaml here by default. A contact sheet goes beside it.
        name: the dataset's name; from the path by default.
        recipe: also write a recipe that trains on it.
        overwrite: replace files that are there.

    Raises:
        ConfigError: nothing there that posekit can read, or a file to write is there already.
        DatasetError: the annotations are malformed.
    """
    path = Path(path).expanduser()
    found, form = discover(path)
    name = name or _name_of(path, found)
    card_file = Path(out).expanduser() if out is not None else Path(f"{name}.yaml")
    sheet_file = card_file.with_suffix(".jpg")
    recipe_file = Path(recipe).expanduser() if recipe is not None else None
    for file in (card_file, recipe_file):
        if file is not None and file.exists() and not overwrite:
            raise ConfigError(f"{file}: it is there already; name another file, or --overwrite")
    sides = read_sides(found.names)
    _set_renames(found, sides)
    draft = _card(name, found, sides)
    poses = _read(draft, found)
    _share_out(found, poses)
    found.splits = {
        split: found.splits[split]
        for split in sorted(found.splits, key=lambda s: (s not in _ORDER, (*_ORDER, s).index(s)))
    }
    pairs, sources = _pairs(found, sides, poses)
    links = [(sides.names[a], sides.names[b]) for a, b in found.skeleton]
    named = [(sides.names[a], sides.names[b]) for a, b in pairs]
    _note_known_schema(sides.names, found.unsure)
    text = card_text(name, found, sides.names, named, links, form)
    write_text(card_file, text)
    card = load_dataset_card(card_file.absolute())
    counts = {split: _count(card, split, found.root) for split in card.splits}
    for split, count in counts.items():
        if not count:
            raise DatasetError(
                found.root, f"split '{split}' of {card_file} has no labelled instance in it"
            )
    done = NewDataset(
        name=name,
        root=found.root,
        card=card_file,
        form=form,
        instances=counts,
        keypoints=sides.names,
        pairs=[(a, b, source) for (a, b), source in zip(named, sources, strict=True)],
        unsure=found.unsure,
    )
    done.sheet = write_sheet(
        sheet_file, card, found.root, found.unsure, sides_known="geometry" not in sources
    )
    if recipe_file is not None:
        write_text(recipe_file, recipe_text(name, card_file, found))
        done.recipe = recipe_file
    done.next_commands = _next(done)
    return done


def discover(path: Path) -> tuple[Found, str]:
    """Find out what a file or folder of annotations holds, and name the format.

    Raises:
        ConfigError: nothing that posekit can read; says what it looked for.
        DatasetError: it can tell what it is, but the files are malformed.
    """
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file or folder")
    if path.is_file():
        require_file(path)
    for form, look in _LOOKUPS.items():
        found = look(path)
        if found is not None:
            return found, form
    raise ConfigError(
        f"{path}: found nothing that posekit can read on its own (it looked for "
        f"{', '.join(_LOOKUPS)}); if a dataset that ships has this format, extend its card, else "
        "write an adapter: posekit datasets adapter-template FILE"
    )


@dataclass(frozen=True)
class _Poses:
    images: list[str]
    points: np.ndarray
    labelled: np.ndarray


def _read(card: DatasetCard, found: Found) -> _Poses:
    """Read the splits: images with a labelled instance in file order, some poses."""
    images: dict[str, None] = {}
    points, labelled = [], []
    read = get_adapter(card)
    for split in card.splits.values():
        for item in read(found.root, split, card.keypoint_schema):
            if isinstance(item, Instance) and item.visibility.any():
                images.setdefault(item.image)
                points.append(item.keypoints)
                labelled.append(item.visibility > 0)
    if not points:
        raise DatasetError(found.root, "no instance in it has a labelled keypoint")
    step = -(-len(points) // MOST_POSES)
    return _Poses(list(images), np.stack(points[::step]), np.stack(labelled[::step]))


def _share_out(found: Found, poses: _Poses) -> None:
    """Make the splits train and val (or test) where the files have one split only."""
    if len(found.splits) > 1 and "train" in found.splits:
        return
    if len(found.splits) > 1:
        kept = next(iter(found.splits))
        found.unsure.append(
            f"no split is called train, so all of {', '.join(found.splits)} but '{kept}' were "
            "left out"
        )
        found.splits = {kept: found.splits[kept]}
    if len(poses.images) < 2:
        raise DatasetError(
            found.root, "it has labelled instances in one image only, expected two or more"
        )
    (split,) = found.splits.values()
    parts = hold_out(poses.images)
    found.unsure.append(f"the files have one split only; {parts.words}")
    found.splits = {
        part: _with_subset(split, rule)
        for part, rule in (("train", parts.train), ("val", parts.held_out))
    }


def _with_subset(split: dict[str, Any], rule: dict[str, Any]) -> dict[str, Any]:
    options = dict(split.get("options", {}))
    options["subset"] = {**options.get("subset", {}), **rule}
    return {**split, "options": options}


def _pairs(
    found: Found, sides: NamedSides, poses: _Poses
) -> tuple[list[tuple[int, int]], list[str]]:
    """Choose the flip pairs: declared by the files, else by names, else by geometry."""
    shape = mean_shape(poses.points, poses.labelled)
    mirror = None if shape is None else find_mirror(shape)
    seen = {frozenset(pair) for pair in mirror.pairs} if mirror and mirror.is_clear else None
    if found.flip_pairs is not None:
        pairs, source = sorted(found.flip_pairs), "declared"
    else:
        pairs, source = list(sides.pairs), "names"
    if not pairs and found.flip_pairs is None:
        if mirror is not None and seen:
            pairs, source = list(mirror.pairs), "geometry"
            found.unsure.append(
                "no name tells left from right; flip pairs come from the mirror symmetry of the "
                f"mean pose (residual {mirror.residual:.3f}): look at them on the contact sheet"
            )
        else:
            found.unsure.append(
                "no flip pairs: neither names nor the poses tell which keypoints trade places in "
                "the mirror; add flip_pairs to the card if there are any"
            )
    sources = []
    for pair in pairs:
        agrees = seen is None or frozenset(pair) in seen
        sources.append(source if agrees else f"{source}, against geometry")
        if not agrees:
            left, right = (sides.names[i] for i in pair)
            found.unsure.append(
                f"{left} and {right} are a pair by {source}, but the mean pose's mirror image says "
                "otherwise; are labels swapped?"
            )
    for a, b in sides.guessed:
        if (a, b) in pairs and source == "names":
            found.unsure.append(
                f"{found.names[a]} and {found.names[b]} were taken for left and right by one letter"
            )
    for alone in sides.alone:
        if not any(alone in pair for pair in pairs):
            found.unsure.append(f"{found.names[alone]} names a side but has no partner")
    return pairs, sources


def _set_renames(found: Found, sides: NamedSides) -> None:
    """Record which names of the file became which keypoints, where the adapter cannot see it."""
    odd = {
        raw: name
        for raw, name in zip(found.names, sides.names, strict=True)
        if squash(raw) != squash(name)
    }
    if found.renames and odd and not all(raw.isdecimal() for raw in found.names):
        for split in found.splits.values():
            split.setdefault("options", {})["names"] = odd


def _card(name: str, found: Found, sides: NamedSides) -> DatasetCard:
    """Return a card to read the files by; flip pairs as they declare them, since they may check."""
    pairs = [] if found.flip_pairs is None else found.flip_pairs
    named = [[sides.names[a], sides.names[b]] for a, b in pairs]
    data = {
        "name": name,
        "source": str(found.root),
        "licence": "unknown",
        "subject": found.subject or "unknown",
        "adapter": found.adapter,
        "splits": found.splits,
        "evaluator": "pck",
        "schema": {"keypoints": list(sides.names), "flip_pairs": named},
    }
    return dataset_card_from_dict(data, name)


def _count(card: DatasetCard, split: str, root: Path) -> int:
    items = get_adapter(card)(root, card.split(split), card.keypoint_schema)
    return sum(isinstance(item, Instance) and bool(item.visibility.any()) for item in items)


def _note_known_schema(names: tuple[str, ...], unsure: list[str]) -> None:
    for known, file in available("datasets").items():
        text = file.read_text(encoding="utf-8")  # reading the YAML of all would take a second
        if not all(name in text for name in names):
            continue
        if load_dataset_card(known).keypoint_schema.keypoints == names:
            unsure.append(
                f"the keypoints are those of the card '{known}' that ships; extend it (extends: "
                f"{known}) for its skeleton, sigmas and official score"
            )
            return


def _name_of(path: Path, found: Found) -> str:
    """Name a dataset by its folder, or by the annotation file if the folder says nothing."""
    own = path.resolve().name if path.is_dir() else ""
    for stem in (own, found.root.resolve().name, path.stem):
        words = "".join(c if c.isascii() and c.isalnum() else " " for c in stem.lower()).split()
        if set(words) - _GENERIC:
            return "_".join(words)
    return "dataset"


def _next(done: NewDataset) -> list[str]:
    held_out = next((s for s in done.instances if s != "train"), "train")
    root = done.root
    commands = [
        f"posekit datasets check {done.card} --root {root}",
        f"posekit view {done.card} --split {held_out} --root {root}",
    ]
    if done.recipe is not None:
        commands += [f"posekit train {done.recipe} --plan", f"posekit train {done.recipe}"]
    return commands
