"""Ultralytics YOLO-pose: a YAML for the dataset and one text file of fractions an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pydantic import Field

from posekit.adapters.base import EmptyImage, Instance
from posekit.adapters.fields import Place, image_path, labelled_points, show, text_number
from posekit.adapters.files import read_text, require_folder
from posekit.adapters.image_size import image_size
from posekit.config.base import Strict, parse_mapping, validate
from posekit.config.cards import SplitCard
from posekit.errors import ConfigError
from posekit.schema import KeypointSchema

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
_BOX_COLUMNS = 5


class YoloOptions(Strict):
    """What a card can tell the adapter.

    Attributes:
        part: which of the YAML's keys to read (train, val, test); the split's name by default.
        classes: keep these class numbers only; all if empty.
    """

    part: str | None = None
    classes: list[int] = Field(default_factory=list)


def read(root: Path, split: SplitCard, schema: KeypointSchema) -> Iterator[Instance | EmptyImage]:
    """Stream the instances of a YOLO-pose dataset by path of the image.

    The split's annotations is the dataset's YAML: `path` (taken as the dataset's root), `train`
    and `val` (folder of images, or a text file that lists them), `kpt_shape`, `flip_idx`. Labels
    lie where Ultralytics looks for them: `/images/` becomes `/labels/`, the ending `.txt`. A line
    is class, centre x, centre y, width, height and x, y (, visibility) of every keypoint, all as
    fractions of the image. They become pixels as x * width, which undoes Ultralytics' conversion of
    COCO's 0-based pixels. Without a visibility column a point at (0, 0) is not labelled and the
    others are visible.

    Reads each image's header for its size. An image without a label file has no instances.

    Raises:
        DatasetError: the YAML or a line is malformed, an image unreadable, fractions outside -1 to
            2, or the YAML's flip_idx is not the schema's.
        ConfigError: an unknown option in the card.
    """
    options = validate(YoloOptions, split.options, f"split '{split.name}', options")
    main = Place(Path(root) / split.annotations)
    description = _description(main)
    columns = _columns(description, schema, main)
    count = 0
    for name in _images(Path(root), description, options.part or split.name, main):
        path = image_path("", name, main)
        file = Path(root) / path
        labels = Path(root) / _label_path(path)
        lines = _lines(labels) if labels.is_file() else []
        size = image_size(file)
        before = count
        for line, cells in lines:
            place = Place(labels, f"line {line}")
            numbers = _numbers(cells, len(schema) * columns + _BOX_COLUMNS, place)
            if options.classes and numbers[0] not in options.classes:
                continue
            count += 1
            yield _instance(numbers, path, size, count, columns, schema, place)
        if count == before:
            yield EmptyImage(path, path, size)


def _instance(
    numbers: np.ndarray,
    path: str,
    size: tuple[int, int],
    count: int,
    columns: int,
    schema: KeypointSchema,
    place: Place,
) -> Instance:
    scale = np.array(size[::-1], dtype=np.float64)
    center, extent = numbers[1:3] * scale, numbers[3:5] * scale
    table = numbers[_BOX_COLUMNS:].reshape(len(schema), columns)
    if columns == 3:
        codes = table[:, 2]
        if not np.isin(codes, (0, 1, 2)).all():
            place.fail(f"found visibility {show(sorted(set(codes.tolist())))}, expected 0, 1 or 2")
        visibility = codes.astype(np.uint8)
    else:
        visibility = np.where((table != 0).any(axis=1), 2, 0).astype(np.uint8)
    fractions = np.concatenate([numbers[1:_BOX_COLUMNS], table[:, :2].ravel()])
    if (fractions < -1).any() or (fractions > 2).any():
        place.fail(
            "found numbers far outside 0 to 1, expected fractions of the image",
            "divide pixels by the image's width and height",
        )
    points = table[:, :2] * scale
    return Instance(
        image=path,
        image_id=path,
        instance_id=count,
        keypoints=labelled_points(points, visibility, schema, place),
        visibility=visibility,
        box_xywh=np.concatenate([center - extent / 2, extent]),
        category_id=int(numbers[0]),
        image_size=size,
    )


def _description(main: Place) -> dict[str, Any]:
    text = read_text(main.file)
    try:
        return parse_mapping(text, "the file")
    except ConfigError as error:
        main.fail(str(error))


def _columns(description: dict[str, Any], schema: KeypointSchema, main: Place) -> int:
    shape = description.get("kpt_shape")
    if not isinstance(shape, list) or len(shape) != 2 or shape[1] not in (2, 3):
        main.fail(f"kpt_shape: found {show(shape)}, expected [keypoints, 2 or 3]")
    if shape[0] != len(schema):
        main.fail(
            f"kpt_shape names {show(shape[0])} keypoints, expected the {len(schema)} of schema "
            f"'{schema.name}'"
        )
    flip = description.get("flip_idx")
    if flip is not None and flip != schema.flip_indices.tolist():
        main.fail(
            f"flip_idx is {show(flip)}, the schema's flip pairs give "
            f"{show(schema.flip_indices.tolist())}",
            "correct the card's flip_pairs or the file",
        )
    return int(shape[1])


def _images(root: Path, description: dict[str, Any], part: str, main: Place) -> Iterator[str]:
    """Return the images of a part, relative to the root."""
    if part not in description:
        present = ", ".join(key for key in ("train", "val", "test") if key in description)
        main.fail(
            f"it has no part '{part}' (parts: {present or 'none'})",
            "name one of them in the option 'part' of the split",
        )
    entries = description[part]
    for entry in entries if isinstance(entries, list) else [entries]:
        name = image_path("", entry, Place(main.file, f"key '{part}'"))
        if name.endswith(".txt"):
            for line in read_text(root / name).splitlines():
                if line.strip():
                    yield line.strip().removeprefix("./")
            continue
        folder = require_folder(root / name)
        found = sorted(f for f in folder.rglob("*") if f.suffix.lower() in _IMAGE_SUFFIXES)
        for file in found:
            yield file.relative_to(root).as_posix()


def _label_path(image: str) -> str:
    parts = list(PurePosixPath(image).with_suffix(".txt").parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return str(PurePosixPath(*parts))


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    lines = enumerate(read_text(file).splitlines(), start=1)
    return [(number, text.split()) for number, text in lines if text.strip()]


def _numbers(cells: list[str], expected: int, place: Place) -> np.ndarray:
    if len(cells) != expected:
        place.fail(
            f"found {len(cells)} numbers, expected {expected} (class, box, keypoints)",
            "check kpt_shape of the dataset's YAML; labels of plain detection have no keypoints",
        )
    numbers = np.array([text_number(cell, "column", place) for cell in cells])
    if numbers[0] != int(numbers[0]) or not 0 <= numbers[0] < 1 << 31:
        place.fail(f"class: found {show(cells[0])}, expected a whole number from 0")
    return numbers
