"""Find out what a COCO-style file or a folder of such files holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posekit.adapters.blocks import NotInBlocks
from posekit.adapters.coco_file import load_coco_file
from posekit.adapters.files import load_json
from posekit.adapters.json_pieces import JsonMembers
from posekit.engine.onboarding.found import (
    Found,
    Images,
    common_root,
    files_below,
    find_images,
    split_entries,
    split_of,
    without_split,
)
from posekit.errors import DatasetError

_SAMPLE = 400
_IMAGES = 40


@dataclass
class _Peek:
    """A look into one file, in bounded memory."""

    file: Path
    image_names: list[str] = field(default_factory=list)
    categories: list[dict[str, Any]] = field(default_factory=list)
    sample: list[dict[str, Any]] = field(default_factory=list)
    of_category: Counter[Any] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)

    @property
    def posed(self) -> int:
        """How many annotations have keypoints."""
        return sum(self.lengths.values())


def find_coco(path: Path) -> Found | None:
    """Describe a COCO-style file, with its siblings of other splits, or a folder; None if it is no
    such thing.

    Raises:
        DatasetError: COCO-style files without any keypoints.
    """
    files = _siblings(path) if path.is_file() else files_below(path, {".json"})
    peeks = [peek for file in files if (peek := _peek(file)) is not None]
    if not peeks:
        return None
    posed = [peek for peek in peeks if peek.posed]
    if not posed:
        raise DatasetError(
            peeks[0].file,
            "none of its annotations has keypoints",
            fix="posekit needs keypoints; is this the right file?",
        )
    top = path if path.is_dir() else path.parent.parent
    images = [find_images(peek.image_names, peek.file, top, peek.file.name) for peek in posed]
    return _describe(_one_group(list(zip(posed, images, strict=True))), path)


def _siblings(file: Path) -> list[Path]:
    pattern = without_split(file.stem)
    return sorted(
        (f for f in file.parent.glob("*.json") if without_split(f.stem) == pattern or f == file),
        key=lambda f: (f != file, f.name),
    )


def _looks_like_coco(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(1 << 16)
        stream.seek(max(0, file.stat().st_size - (1 << 16)))
        ends = head + stream.read()
    return head.lstrip()[:1] == b"{" and (b'"annotations"' in ends or b'"images"' in ends)


def _peek(file: Path) -> _Peek | None:
    if not _looks_like_coco(file):
        return None
    peek = _Peek(file)
    try:
        with file.open("rb") as stream:
            members = JsonMembers(stream)
            for key in members:
                if key in ("images", "annotations"):
                    for records, _ in members.pieces():
                        _take(peek, key, records)
                elif key == "categories":
                    peek.categories = members.value()
                else:
                    members.skip()
    except NotInBlocks:
        data = load_json(file)
        if not isinstance(data, dict) or not {"images", "annotations"} <= set(data):
            return None
        load_coco_file(file, "")  # says what is wrong with it, if anything is
        peek = _Peek(file, categories=data.get("categories") or [])
        for key in ("images", "annotations"):
            _take(peek, key, [record for record in data[key] if isinstance(record, dict)])
    return peek if peek.image_names else None


def _take(peek: _Peek, key: str, records: list[dict[str, Any]]) -> None:
    if key == "images":
        names = (r.get("file_name", r.get("filename")) for r in records)
        peek.image_names += [name for name in names if isinstance(name, str)]
        if len(peek.image_names) > 10 * _IMAGES:
            peek.image_names = peek.image_names[:: len(peek.image_names) // (5 * _IMAGES)]
        return
    for record in records:
        points = record.get("keypoints")
        if isinstance(points, list) and points:
            nested = isinstance(points[0], list)
            peek.lengths[len(points) * 3 if nested else len(points)] += 1
            peek.of_category[record.get("category_id")] += 1
            if len(peek.sample) < _SAMPLE:
                peek.sample.append(record)


def _one_group(peeks: list[tuple[_Peek, Images]]) -> list[tuple[_Peek, Images]]:
    """Keep the files that are splits of one dataset: those whose images are most there."""
    groups: dict[tuple[Path, str], list[tuple[_Peek, Images]]] = {}
    for peek, images in peeks:
        key = peek.file.parent, without_split(peek.file.stem)
        groups.setdefault(key, []).append((peek, images))

    def rank(group: list[tuple[_Peek, Images]]) -> tuple[float, int, int]:
        present = float(np.mean([images.present for _, images in group]))
        return round(present, 2), len({split_of(p.file.name) for p, _ in group}), -len(group)

    return max(groups.values(), key=rank)


def _describe(peeks: list[tuple[_Peek, Images]], path: Path) -> Found:
    first = max((peek for peek, _ in peeks), key=lambda peek: peek.posed)
    category, unsure = _category(first)
    count = first.lengths.most_common(1)[0][0] // 3
    names = [str(name) for name in (category or {}).get("keypoints") or []]
    if len(names) != count:
        if names:
            unsure.append(
                f"{first.file.name}: its category lists {len(names)} names for {count} keypoints; "
                "names were made up"
            )
        names = [f"point_{i}" for i in range(count)]
    options = _options(first, category, names, unsure)
    files = [(peek.file, images) for peek, images in peeks]
    inputs = [file.parent for file, _ in files] + [images.folder for _, images in files]
    root = path.absolute() if path.is_dir() else common_root(inputs)
    splits = split_entries(files, root, options, unsure)
    return Found(
        root=root,
        adapter="coco_json",
        names=names,
        splits=splits,
        skeleton=_skeleton(category, count),
        flip_pairs=_declared_pairs(category, names),
        subject=str((category or {}).get("name") or ""),
        unsure=unsure,
    )


def _category(peek: _Peek) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the category of most poses, and a sentence if others have other keypoints."""
    known = {c.get("id"): c for c in peek.categories if isinstance(c, dict)}
    ranked = [known[i] for i, _ in peek.of_category.most_common() if i in known]
    named = [c for c in ranked if c.get("keypoints")]
    if not ranked:
        return None, []
    chosen = (named or ranked)[0]
    others = [str(c.get("name")) for c in named if c.get("keypoints") != chosen.get("keypoints")]
    if not others:
        return chosen, []
    return chosen, [
        f"the categories {', '.join(others)} have other keypoints and are left out; they need "
        "cards of their own"
    ]


def _options(
    peek: _Peek, category: dict[str, Any] | None, names: list[str], unsure: list[str]
) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if unsure and category is not None:
        options["categories"] = [category["id"]]
    codes = _flat(peek.sample, len(names))[:, :, 2]
    seen = {float(code) for code in np.unique(codes)}
    if not seen <= {0.0, 1.0, 2.0}:
        options["visibility"] = "positive"
        unsure.append(
            "the third number of keypoints is not 0, 1 or 2 but something between "
            f"{min(seen):g} and {max(seen):g}; whatever is above 0 counts as labelled"
        )
    elif len(seen) == 1:
        unsure.append(
            f"visibility is {seen.pop():g} everywhere, so it carries no information; are points "
            "at (0, 0) labelled?"
        )
    if peek.of_category and None in peek.of_category:
        unsure.append("some annotations have no category")
    _look_at_boxes(peek, len(names), unsure)
    return options


def _look_at_boxes(peek: _Peek, count: int, unsure: list[str]) -> None:
    rows = [i for i, r in enumerate(peek.sample) if _is_box(r.get("bbox"))]
    if not rows:
        unsure.append("there are no boxes; crops come from the labelled keypoints")
        return
    boxes = np.array([peek.sample[i]["bbox"] for i in rows], dtype=float)
    flat = _flat(peek.sample, count)[rows]
    labelled = flat[:, :, 2] > 0
    inside = {}
    for form, high in (("sizes", boxes[:, :2] + boxes[:, 2:]), ("corners", boxes[:, 2:])):
        fits = (flat[:, :, :2] >= boxes[:, None, :2] - 2) & (flat[:, :, :2] <= high[:, None] + 2)
        tight = np.abs(boxes[:, 2:] if form == "sizes" else boxes[:, 2:] - boxes[:, :2])
        share = float(np.asarray(fits.all(axis=2))[labelled].mean())
        inside[form] = share, float(np.median(tight))
    if inside["corners"][0] > 0.9 and inside["corners"][1] < 0.8 * inside["sizes"][1]:
        unsure.append(
            "bbox looks like two corners (x1, y1, x2, y2) where COCO has x, y, width, height; "
            "convert the file, or crops will be too large"
        )


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(v, (int, float)) for v in value)
    )


def _flat(records: Iterable[dict[str, Any]], count: int) -> np.ndarray:
    """Return keypoints as float (N, count, 3), zeros where a record has another number of them."""
    rows = []
    for record in records:
        try:
            values = np.asarray(record["keypoints"], dtype=np.float64).ravel()
        except (ValueError, TypeError):
            values = np.zeros(0)
        rows.append(values if values.size == 3 * count else np.zeros(3 * count))
    return np.nan_to_num(np.array(rows).reshape(-1, count, 3))


def _skeleton(category: dict[str, Any] | None, count: int) -> list[tuple[int, int]]:
    links = (category or {}).get("skeleton") or []
    pairs = [
        (int(a), int(b))
        for link in links
        if isinstance(link, list) and len(link) == 2
        for a, b in [link]
        if isinstance(a, (int, float)) and isinstance(b, (int, float))
    ]
    first = 0 if any(0 in pair for pair in pairs) else 1
    shifted = [(a - first, b - first) for a, b in pairs]
    return [(a, b) for a, b in shifted if min(a, b) >= 0 and max(a, b) < count and a != b]


def _declared_pairs(
    category: dict[str, Any] | None, names: list[str]
) -> list[tuple[int, int]] | None:
    """Read the field `flip_pairs` that `posekit datasets convert` writes."""
    pairs = (category or {}).get("flip_pairs")
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
        return None
    if not {name for pair in pairs for name in pair} <= set(names):
        return None
    return [(names.index(a), names.index(b)) for a, b in pairs]
