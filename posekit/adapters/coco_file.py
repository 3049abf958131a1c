"""A COCO-style annotation file, loaded once and checked: images, categories, annotations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from posekit.adapters.fields import (
    Place,
    check_unique,
    field_of,
    identifier,
    image_path,
    listing,
    mapping,
    number,
    show,
    whole,
)
from posekit.adapters.files import load_json
from posekit.adapters.names import lower_snake
from posekit.schema import KeypointSchema

LONGEST_SIDE = 1 << 30
"""A longer declared side is taken for an error."""
_PLAIN_NAME = re.compile(r"(?:\w[\w.\- ]*/)*\w[\w.\- ]*(?<! )")


@dataclass(slots=True, frozen=True)
class CocoImage:
    """An image record: id, path below the dataset's root, (height, width) or None, extras."""

    image_id: int | str
    path: str
    size: tuple[int, int] | None
    extras: dict[str, float]


@dataclass(slots=True, frozen=True)
class CocoFile:
    """The checked parts of a file; `annotations` are still raw records.

    Attributes:
        file: where it was read from.
        images: image id -> image.
        categories: category id -> raw record; empty if the file lists none.
        annotations: raw annotation records in file order.
    """

    file: Path
    images: dict[int | str, CocoImage]
    categories: dict[int, Mapping[str, Any]]
    annotations: list[Any]


def load_coco_file(
    file: Path,
    image_folder: str,
    image_extras: Mapping[str, str] | None = None,
    labelled_flag: str | None = None,
) -> CocoFile:
    """Load a COCO-style file.

    Args:
        file: the JSON file.
        image_folder: folder of the images, relative to the dataset's root.
        image_extras: name -> key of numbers to take from every image record (NaN where absent).

        labelled_flag: image field by which images that were never labelled are left out.

    Raises:
        DatasetError: not a COCO-style file, a malformed image or category, or a repeated id.
    """
    data = load_json(file)
    place = Place(file)
    image_folder = tidy_folder(image_folder)
    if isinstance(data, list):
        place.fail(
            "found a list, expected an object with 'images' and 'annotations'",
            "this looks like a results file or another format; check the card's adapter",
        )
    mapping(data, "the file", place)
    records = listing(field_of(data, "images", place), "images", place)
    images: dict[int | str, CocoImage] = {}
    for position, record in enumerate(records):
        image = _image(record, position, file, image_folder, image_extras or {})
        if labelled_flag and not record.get(labelled_flag, True):
            continue
        if images.setdefault(image.image_id, image) != image:
            Place(file, f"image {image.image_id}").fail(
                f"its id appears twice, for {images[image.image_id].path} and {image.path}",
                "give every image its own id",
            )
    check_unique(list(images), "image", file)
    annotations = listing(field_of(data, "annotations", place), "annotations", place)
    categories = read_categories(data.get("categories"), file)
    return CocoFile(file, images, categories, annotations)


def check_keypoint_names(coco: CocoFile, schema: KeypointSchema) -> None:
    """Compare the keypoint names that categories list with the schema's.

    Other words for the same points pass, since files and schemas often differ in them.

    Raises:
        DatasetError: a category lists another number of keypoints, or the very same names in
            another order.
    """
    for category_id, record in coco.categories.items():
        place = Place(coco.file, f"category {category_id}")
        names = record.get("keypoints")
        if not names:
            continue
        found = tuple(lower_snake(str(n)) for n in listing(names, "keypoints", place))
        if len(found) != len(schema):
            place.fail(
                f"it lists {len(found)} keypoints, expected the {len(schema)} of schema "
                f"'{schema.name}'",
                "use the card of this dataset, or the option 'categories' to leave it out",
            )
        if found != schema.keypoints and set(found) == set(schema.keypoints):
            at = next(i for i, name in enumerate(found) if name != schema.keypoints[i])
            place.fail(
                f"keypoint {at} is '{found[at]}' where the schema has '{schema.keypoints[at]}'; "
                "expected one order of keypoints in both",
                "reorder the schema of the card, or set the option trust_order: true if the "
                "file's list is wrong",
            )


def tidy_folder(folder: str) -> str:
    """Return a folder as paths below it start: no './', no double slash, '' for the root."""
    return "" if PurePosixPath(folder) == PurePosixPath() else str(PurePosixPath(folder))


def plain_image_path(folder: str, record: Mapping[str, Any]) -> str | None:
    """Return an image record's path below the root, or None if its name is not a plain one.

    Plain are words joined by slashes, where `image_path` has nothing to object to or to change.
    """
    name = record.get("file_name")
    if type(name) is not str or not _PLAIN_NAME.fullmatch(name):
        return None
    return f"{folder}/{name}" if folder else name


def _image(
    record: Any, position: int, file: Path, folder: str, extras: Mapping[str, str]
) -> CocoImage:
    place = Place(file, f"image at position {position}")
    mapping(record, "image", place)
    image_id = identifier(field_of(record, "id", place), "id", place)
    place = Place(file, f"image {image_id}")
    # The official ATRW files write `filename`.
    key = "filename" if "filename" in record and "file_name" not in record else "file_name"
    path = plain_image_path(folder, record)
    if path is None:
        path = image_path(folder, field_of(record, key, place), place)
    numbers = {
        name: float("nan") if record.get(key) is None else number(record[key], key, place)
        for name, key in extras.items()
    }
    return CocoImage(image_id, path, _size(record, place), numbers)


def _size(record: Mapping[str, Any], place: Place) -> tuple[int, int] | None:
    height, width = record.get("height"), record.get("width")
    if not height or not width:
        return None
    size = whole(height, "height", place), whole(width, "width", place)
    if min(size) <= 0 or max(size) > LONGEST_SIDE:
        place.fail(f"found height {show(height)} and width {show(width)}, expected positive sizes")
    return size


def read_categories(value: Any, file: Path) -> dict[int, Mapping[str, Any]]:
    """Return category id -> raw record; DatasetError if one is malformed or appears twice."""
    if value is None:
        return {}
    place = Place(file)
    found: dict[int, Mapping[str, Any]] = {}
    for record in listing(value, "categories", place):
        mapping(record, "category", place)
        category_id = whole(field_of(record, "id", place), "category id", place)
        if category_id in found:
            place.fail(f"category id {category_id} appears twice, expected every id once")
        found[category_id] = record
    return found
