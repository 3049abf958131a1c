"""Find out what an Ultralytics YOLO-pose dataset holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from posekit.engine.onboarding.found import Found, files_below, relative
from posekit.errors import DatasetError

_PARTS = ("train", "val", "test")


def find_yolo(path: Path) -> Found | None:
    """Describe a YOLO-pose YAML, or the one in a folder; None if none has `kpt_shape`.

    Raises:
        DatasetError: kpt_shape is malformed, or no part of the dataset is where the YAML says.
    """
    files = files_below(path, {".yaml", ".yml"}, 1) if path.is_dir() else [path]
    for file in files:
        data = _mapping(file) if file.suffix.lower() in {".yaml", ".yml"} else None
        if data is not None and "kpt_shape" in data:
            return _describe(file.absolute(), data)
    return None


def _mapping(file: Path) -> dict[str, Any] | None:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _describe(file: Path, data: dict[str, Any]) -> Found:
    shape = data["kpt_shape"]
    if not isinstance(shape, list) or len(shape) != 2 or not isinstance(shape[0], int):
        raise DatasetError(file, f"kpt_shape: found {shape!r:.40}, expected [keypoints, 2 or 3]")
    root = _root(file, data)
    unsure: list[str] = []
    names = _names(data, shape[0])
    if not names:
        names = [f"point_{i}" for i in range(shape[0])]
        unsure.append("the YAML names no keypoints (kpt_names), so names were made up")
    flip = data.get("flip_idx")
    pairs = None
    if isinstance(flip, list) and sorted(flip) == list(range(shape[0])):
        pairs = [(i, j) for i, j in enumerate(flip) if i < j and flip[j] == i]
        if any(flip[j] != i for i, j in enumerate(flip)):
            unsure.append("flip_idx does not undo itself when applied twice; correct the YAML")
    classes: Any = data.get("names") or []
    labels = list(classes.values()) if isinstance(classes, dict) else list(classes)
    if len(labels) > 1:
        unsure.append(f"all classes ({', '.join(map(str, labels))}) are one dataset here")
    splits: dict[str, dict[str, Any]] = {}
    taken: dict[str, str] = {}
    for part in _PARTS:
        entry = data.get(part)
        if not _exists(root, entry):
            continue
        if str(entry) in taken:
            unsure.append(f"'{part}' is the same as '{taken[str(entry)]}' and was left out")
            continue
        taken[str(entry)] = part
        splits[part] = {"annotations": relative(file, root), "options": {"part": part}}
    return Found(
        root=root,
        adapter="yolo_pose",
        names=names,
        splits=splits,
        flip_pairs=pairs,
        subject=str(labels[0]) if labels else "",
        unsure=unsure,
    )


def _root(file: Path, data: dict[str, Any]) -> Path:
    """Find the folder that the YAML's parts are relative to; `path` is often stale."""
    named = str(data.get("path") or "").replace("\\", "/")
    last = named.rstrip("/").rpartition("/")[2]
    candidates = [file.parent, file.parent / named, file.parent / last, file.parent.parent / last]
    for folder in candidates:
        if any(_exists(folder, data.get(part)) for part in _PARTS):
            return folder.resolve()
    raise DatasetError(
        file,
        "none of its train, val and test is there",
        fix="put the YAML beside its folder of images, and paths in it relative to it",
    )


def _exists(root: Path, entry: Any) -> bool:
    entries = entry if isinstance(entry, list) else [entry]
    return bool(entries) and all(
        isinstance(e, str) and not Path(e).is_absolute() and (root / e).exists() for e in entries
    )


def _names(data: dict[str, Any], count: int) -> list[str]:
    """Read kpt_names: a list, or lists by class of which the first counts."""
    value: Any = data.get("kpt_names", data.get("keypoint_names"))
    if isinstance(value, dict) and value:
        value = next(iter(value.values()))
    fits = isinstance(value, list) and len(value) == count
    return [str(name) for name in value] if fits else []
