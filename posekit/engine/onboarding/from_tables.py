"""Find out what DeepLabCut projects, landmark tables and SLEAP files hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from posekit.adapters.deeplabcut import UNIQUE, from_project, individuals, read_labels
from posekit.adapters.fields import Place
from posekit.adapters.files import read_csv_rows
from posekit.adapters.landmark_csv import CsvOptions, point_names
from posekit.engine.onboarding.found import (
    Found,
    common_root,
    files_below,
    find_images,
    relative,
    split_entries,
    without_split,
)
from posekit.errors import DatasetError

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
_BOX_WORDS = (
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("left", "top", "width", "height"),
)
_BOX_PREFIXES = ("bbox_", "box_", "bbox.", "box.", "rect_", "rect.", "face_")


def find_deeplabcut(path: Path) -> Found | None:
    """Describe a DeepLabCut project's folder or one of its label files; None if it is neither."""
    if path.is_dir():
        labels = path / "labeled-data" if (path / "labeled-data").is_dir() else path
        files = [f for f in files_below(labels, {".csv", ".h5"}) if f.name.startswith("Collected")]
        root, annotations = path.absolute(), relative(labels, path)
    else:
        is_label = path.suffix.lower() in {".h5", ".csv"} and _is_deeplabcut(path)
        files = [path] if is_label else []
        above = [p for p in path.absolute().parents if (p / "labeled-data").is_dir()]
        root = above[0] if above else path.absolute().parent
        annotations = relative(path, root)
    if not files:
        return None
    table = read_labels(sorted(files, key=lambda f: (f.suffix != ".csv", f))[0])
    parts = individuals(table)
    names = list(next((own for who, own in parts.items() if who != UNIQUE), parts.get(UNIQUE, {})))
    unsure = []
    if len(parts) > 1 and UNIQUE in parts:
        unsure.append("the unique body parts of 'single' belong to no animal and are left out")
    some = table.rows[:20]
    missing = [name for _, name, _ in some if not (root / from_project(name)).is_file()]
    if missing:
        unsure.append(
            f"{len(missing)} of the first {len(some)} images are missing, for example "
            f"{from_project(missing[0])} below {root}"
        )
    return Found(
        root=root,
        adapter="deeplabcut",
        names=names,
        splits={"all": {"annotations": annotations}},
        skeleton=_config_skeleton(root / "config.yaml", names),
        subject="animal",
        renames=True,
        unsure=unsure,
    )


def find_csv(path: Path) -> Found | None:
    """Describe a landmark table, with its siblings of other splits, or a folder of such tables."""
    if path.is_dir():
        files = [f for f in files_below(path, {".csv"}, 2) if not _is_deeplabcut(f)]
        if not files:
            return None
        pattern = without_split(files[0].stem)
    elif path.suffix.lower() in {".csv", ".tsv", ".txt"}:
        files, pattern = list(path.parent.glob(f"*{path.suffix}")), without_split(path.stem)
    else:
        return None
    files = sorted(f for f in files if without_split(f.stem) == pattern)
    main = path if path.is_file() else files[0]
    header, rows, delimiter = _table(main)
    options, names, unsure = _columns(main, header, rows, delimiter)
    top = path if path.is_dir() else path.parent
    found = {}
    for file in sorted(files, key=lambda f: (f != main, f)):
        head, cells, _ = _table(file)
        if head != header:
            continue
        column = header.index(options["image_column"]) if "image_column" in options else 0
        some = [row[column] for row in cells if column < len(row)][:40]
        found[file] = find_images(some, file, top, file.name)
    root = common_root([f.parent for f in found] + [i.folder for i in found.values()])
    splits = split_entries(list(found.items()), root, options, unsure)
    unsure.append("the table has no visibility; empty cells count as not labelled")
    return Found(root, "landmark_csv", names, splits, renames=True, unsure=unsure)


def find_sleap(path: Path) -> Found | None:
    """Describe a SLEAP file (.slp), or the first one in a folder; None if there is none."""
    files = files_below(path, {".slp"}, 2) if path.is_dir() else [path]
    if not files or files[0].suffix.lower() != ".slp":
        return None
    from posekit.adapters.sleap import read_skeleton  # noqa: PLC0415 - only here

    file = files[0]
    nodes, links, symmetries = read_skeleton(file)
    root = (path if path.is_dir() else file.parent).absolute()
    unsure = [f"{extra.name}: only {file.name} was taken" for extra in files[1:2]]
    return Found(
        root=root,
        adapter="sleap",
        names=nodes,
        splits={"all": {"annotations": relative(file, root)}},
        skeleton=links,
        flip_pairs=symmetries or None,
        subject="animal",
        renames=True,
        unsure=unsure,
    )


def _is_deeplabcut(file: Path) -> bool:
    if file.suffix.lower() == ".h5":
        return True
    with file.open("rb") as stream:
        lines = stream.read(1 << 14).split(b"\n")[:2]
    is_table = len(lines) == 2 and lines[0].startswith(b"scorer")
    return is_table and lines[1].startswith((b"individuals", b"bodyparts"))


def _config_skeleton(config: Path, names: list[str]) -> list[tuple[int, int]]:
    try:
        data = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return []
    links = data.get("skeleton") if isinstance(data, dict) else None
    return [
        (names.index(link[0]), names.index(link[1]))
        for link in links or []
        if isinstance(link, list) and len(link) == 2 and {*link} <= {*names}
    ]


def _table(file: Path) -> tuple[list[str], list[list[str]], str]:
    """Return the header, the first rows and the delimiter of a text table."""
    with file.open("rb") as stream:
        first = stream.readline(1 << 16).decode("utf-8", "replace")
    delimiter = max(",;\t", key=first.count)
    rows = read_csv_rows(file, delimiter)
    _, header = next(rows, (0, []))
    return header, [cells for (_, cells), _ in zip(rows, range(200), strict=False)], delimiter


def _columns(
    file: Path, header: list[str], rows: list[list[str]], delimiter: str
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Find out what the columns are: options, names of points, what is unsure."""
    options: dict[str, Any] = {} if delimiter == "," else {"delimiter": delimiter}
    unsure: list[str] = []
    image = next(
        (i for i in range(len(header)) if rows and _is_picture(rows[0], i)),
        None,
    )
    if image is None:
        raise DatasetError(
            file,
            "no column holds image names (ending in .jpg, .png, ...)",
            fix="name the image of every row in one column",
        )
    if image:
        options["image_column"] = header[image]
    box = _box_columns(header)
    if box:
        options["box_columns"] = box
    else:
        unsure.append("there are no boxes; crops come from the labelled keypoints")
    ignored: list[str] = []
    place = Place(file, "header")
    while True:
        try:
            names = point_names(header, CsvOptions(**options, ignore=ignored), place)
            break
        except DatasetError:
            strange = [c for c in header if c not in {*ignored, *(box or ()), header[image]}]
            more = [c for c in strange if not _is_axis(c)]
            if not more:
                raise
            ignored.append(more[0])
    if ignored:
        options["ignore"] = ignored
        unsure.append(f"the columns {', '.join(ignored)} are ignored")
    return options, names, unsure


def _is_picture(row: list[str], column: int) -> bool:
    return column < len(row) and row[column].lower().endswith(_PICTURES)


def _is_axis(column: str) -> bool:
    plain = column.lower()
    ends = tuple(f"{sign}{axis}" for sign in "_.- " for axis in ("x", "y", "v", "visibility"))
    starts = tuple(f"{axis}{sign}" for sign in "_.- " for axis in ("x", "y", "v"))
    return (
        plain.endswith(ends)
        or plain.startswith(starts)
        or plain.isdecimal()
        or (plain[:1] in {"x", "y", "v"} and plain[1:].isdecimal())
    )


def _box_columns(header: list[str]) -> list[str] | None:
    plain = {name.lower(): name for name in header}
    for prefix in _BOX_PREFIXES:
        for words in _BOX_WORDS:
            wanted = [prefix + word for word in words]
            if all(name in plain for name in wanted):
                return [plain[name] for name in wanted]
    return None
