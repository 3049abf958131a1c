"""A COCO-style annotation file, loaded once and checked: images, categories, annotations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from posekit.adapters.base import EmptyImage
from posekit.adapters.coco_options import CocoOptions
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

_INT64 = 1 << 63
_LONGEST_SIDE = 1 << 30
"""A longer declared side is taken for an error."""
_PLAIN_NAME = re.compile(r"(?:\w[\w.\- ]*/)*\w[\w.\- ]*(?<! )")


@dataclass(slots=True)
class CocoFile:
    """The checked parts of a file; `annotations` are still raw records.

    Attributes:
        file: where it is read from.
        folder: folder of the images, relative to the dataset's root, as `tidy_folder` returns it.
        options: the card's.
        images: image id -> image.
        categories: category id -> raw record; empty if the file lists none.
        annotations: raw annotation records in file order.
    """

    file: Path
    folder: str = ""
    options: CocoOptions = field(default_factory=CocoOptions)
    images: dict[int | str, EmptyImage] = field(default_factory=dict)
    categories: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    annotations: list[Any] = field(default_factory=list)

    def add_images(self, records: list[Any], first: int = 0) -> None:
        """Add image records, of which the first stands at position `first` in the file.

        Raises:
            DatasetError: a malformed record, or an id of two different images.
        """
        flag = self.options.labelled_flag
        for position, record in enumerate(records, first):
            image = self._image(record, position)
            if flag and not record.get(flag, True):
                continue
            known = self.images.setdefault(image.image_id, image)
            if known is not image and known != image:
                Place(self.file, f"image {image.image_id}").fail(
                    f"its id appears twice, for {known.image} and {image.image}",
                    "give every image its own id",
                )

    def _image(self, record: Any, position: int) -> EmptyImage:
        image_id: Any = None
        path = None
        if type(record) is dict:
            image_id, path = record.get("id"), plain_image_path(self.folder, record)
        if path is None or not is_plain_id(image_id):
            image_id, path = self._id_and_path(record, position)
        height, width = record.get("height"), record.get("width")
        size = None
        if height and width:
            size = (height, width)
            # Places are costly to make for millions of images that have nothing wrong.
            if not type(height) is type(width) is int:
                place = Place(self.file, f"image {image_id}")
                size = whole(height, "height", place), whole(width, "width", place)
            if min(size) < 1 or max(size) > _LONGEST_SIDE:
                Place(self.file, f"image {image_id}").fail(
                    f"found height {show(height)} and width {show(width)}, expected positive sizes"
                )
        extras = {}
        for name, key in self.options.image_extras.items():
            place = Place(self.file, f"image {image_id}")
            value = record.get(key)
            extras[name] = float("nan") if value is None else number(value, key, place)
        return EmptyImage(path, image_id, size, extras)

    def _id_and_path(self, record: Any, position: int) -> tuple[int | str, str]:
        place = Place(self.file, f"image at position {position}")
        mapping(record, "image", place)
        image_id = identifier(field_of(record, "id", place), "id", place)
        place = Place(self.file, f"image {image_id}")
        # The official ATRW files write `filename`.
        key = "filename" if "filename" in record and "file_name" not in record else "file_name"
        return image_id, image_path(self.folder, field_of(record, key, place), place)


def load_coco_file(file: Path, image_folder: str, options: CocoOptions | None = None) -> CocoFile:
    """Load a COCO-style file whole.

    Raises:
        DatasetError: not a COCO-style file, a malformed image or category, or a repeated id.
    """
    data = load_json(file)
    place = Place(file)
    if isinstance(data, list):
        place.fail(
            "found a list, expected an object with 'images' and 'annotations'",
            "this looks like a results file or another format; check the card's adapter",
        )
    mapping(data, "the file", place)
    coco = CocoFile(file, tidy_folder(image_folder), options or CocoOptions())
    coco.add_images(listing(field_of(data, "images", place), "images", place))
    check_unique(list(coco.images), "image", file)
    coco.annotations = listing(field_of(data, "annotations", place), "annotations", place)
    coco.categories = read_categories(data.get("categories"), file)
    return coco


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


def is_plain_id(value: Any) -> bool:
    """Return whether `identifier` would return this value unchanged."""
    if type(value) is int:
        return -_INT64 <= value < _INT64
    return type(value) is str and bool(value) and "\0" not in value


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
