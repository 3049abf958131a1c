"""Checked reading of the fields that annotation records have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NoReturn

import numpy as np

from posekit.errors import DatasetError, nearest
from posekit.schema import KeypointSchema

_INT64 = 1 << 63
_DRIVE_LENGTH = 2

VisibilityCodes = Literal["coco", "positive"] | Mapping[int, int]
"""'coco': 0, 1, 2 as they are; 'positive': anything above 0 is labelled and counts as visible;
a mapping translates the file's codes, for example {1: 2, 2: 1, 3: 0}."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which file a record stands, for messages."""

    file: Path
    record: str | int | None = None

    def fail(self, problem: str, fix: str | None = None) -> NoReturn:
        """Raise DatasetError for this place."""
        raise DatasetError(self.file, problem, record=self.record, fix=fix)


def show(value: Any) -> str:
    """Return a value as it would be written in Python, shortened to one line."""
    text = repr(value) if not isinstance(value, int) or abs(value) < _INT64 else "a huge integer"
    return text if len(text) <= 60 else text[:57] + "..."


def field_of(record: Mapping[str, Any], key: str, place: Place) -> Any:
    """Return a record's field; DatasetError names the fields that there are."""
    if key not in record:
        present = ", ".join(map(str, record)) or "nothing"
        hint = nearest(key, map(str, record))
        place.fail(f"key '{key}' is missing{hint} (found {show(present)[1:-1]})")
    return record[key]


def mapping(value: Any, what: str, place: Place) -> Mapping[str, Any]:
    """Return a JSON object; DatasetError if it is anything else."""
    if not isinstance(value, dict):
        place.fail(f"{what}: found {show(value)}, expected an object")
    return value


def listing(value: Any, what: str, place: Place) -> list[Any]:
    """Return a JSON list; DatasetError if it is anything else."""
    if not isinstance(value, list):
        place.fail(f"{what}: found {show(value)}, expected a list")
    return value


def number(value: Any, what: str, place: Place) -> float:
    """Return a finite number as a float; text that spells one is not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        place.fail(f"{what}: found {show(value)}, expected a number")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        place.fail(f"{what}: found {show(value)}, expected a finite number")
    return result


def text_number(text: str, what: str, place: Place) -> float:
    """Return the finite number that a cell of a text file spells."""
    try:
        result = float(text)
    except ValueError:
        place.fail(f"{what}: found {show(text)}, expected a number")
    if not math.isfinite(result):
        place.fail(f"{what}: found {show(text)}, expected a finite number")
    return result


def whole(value: Any, what: str, place: Place) -> int:
    """Return a whole number (3 or 3.0) that fits in 64 bits."""
    if type(value) is int and -_INT64 <= value < _INT64:
        return value
    result = number(value, what, place)
    if result != math.floor(result) or not -_INT64 <= result < _INT64:
        place.fail(f"{what}: found {show(value)}, expected a whole number of at most 64 bits")
    return int(value)


def identifier(value: Any, what: str, place: Place) -> int | str:
    """Return an id: a whole number of at most 64 bits, or text that is not empty."""
    if isinstance(value, str):
        if not value or "\0" in value:
            place.fail(f"{what}: found {show(value)}, expected a number or text")
        return value
    return whole(value, what, place)


def id_text(value: Any) -> str:
    """Return an id as a person writes it; text ids are bytes in columns."""
    return value.decode() if isinstance(value, bytes) else str(value)


def plain_id(value: Any) -> int | str:
    """Return an id of a column as JSON writes it."""
    return value.decode() if isinstance(value, bytes) else int(value)


def image_path(folder: str, name: Any, place: Place) -> str:
    """Return an image's path relative to the dataset's root, with forward slashes.

    Args:
        folder: the split's image folder, as the card gives it.
        name: the image's name as the annotation file gives it; backslashes count as slashes.
        place: where the name stands.

    Raises:
        DatasetError: not text, empty, absolute, or leaving the folder by '..'.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        place.fail(f"image name: found {show(name)}, expected a file name")
    plain = name.replace("\\", "/")
    if plain.startswith("/") or plain[1:_DRIVE_LENGTH] == ":":
        place.fail(
            f"image name {show(name)} is an absolute path, expected one below the image folder",
            "make it relative to the split's 'images' folder",
        )
    parts = PurePosixPath(plain).parts
    if ".." in parts or not parts:
        place.fail(
            f"image name {show(name)} does not name a file below the image folder",
            "take out the '..'",
        )
    try:
        plain.encode("utf-8")
    except UnicodeEncodeError:
        place.fail(f"image name {show(name)} is not valid Unicode text")
    return str(PurePosixPath(folder, *parts))


def box_xywh(value: Any, place: Place, what: str = "bbox") -> np.ndarray | None:
    """Return a box x, y, width, height as float64 (4,); None for null or an empty list.

    A box without area passes: files have them, and the index counts what it cannot crop.
    """
    if value is None or value == []:
        return None
    if not isinstance(value, list) or len(value) != 4:
        place.fail(f"{what}: found {show(value)}, expected 4 numbers x, y, width, height")
    return np.array([number(entry, what, place) for entry in value])


def pair_of_numbers(value: Any, what: str, place: Place) -> tuple[float, float]:
    """Return a list of two finite numbers as a pair; DatasetError if it is anything else."""
    if not isinstance(value, list) or len(value) != 2:
        place.fail(f"{what}: found {show(value)}, expected two numbers")
    return number(value[0], what, place), number(value[1], what, place)


def keypoint_triples(
    values: Any,
    schema: KeypointSchema,
    place: Place,
    codes: VisibilityCodes = "coco",
    what: str = "keypoints",
) -> tuple[np.ndarray, np.ndarray]:
    """Read x, y, visibility of every keypoint, flat or nested, in the schema's order.

    Returns:
        float32 (K, 2) points, 0 where not labelled, and uint8 (K,) visibility 0, 1 or 2.

    Raises:
        DatasetError: not a list of 3 K numbers, an unknown visibility code, or a labelled
            keypoint without finite coordinates.
    """
    expected = 3 * len(schema)
    array = numeric_array(values, what, place)
    if array.size != expected or array.ndim > 2:
        place.fail(
            f"{what}: found {array.size} numbers, expected {expected} "
            f"(x, y, visibility of {len(schema)} keypoints)",
            f"check that the schema '{schema.name}' is the one of this file",
        )
    triples = array.reshape(len(schema), 3)
    visibility = _visibility(triples[:, 2], codes, schema, place)
    return labelled_points(triples[:, :2], visibility, schema, place), visibility


def first_triples(values: Any, count: int, kept: int, place: Place, what: str) -> list[float]:
    """Return the first `kept` of `count` keypoints as a flat list; DatasetError if fewer."""
    array = numeric_array(values, what, place)
    if array.size != 3 * count or kept > count:
        place.fail(
            f"{what}: found {array.size} numbers, expected {3 * count} (x, y, visibility of "
            f"{count} keypoints, of which the schema has the first {kept})"
        )
    return array.ravel()[: 3 * kept].tolist()


def numeric_array(values: Any, what: str, place: Place) -> np.ndarray:
    """Return a (nested) list of numbers as float64; DatasetError if anything in it is no number."""
    if isinstance(values, list):
        try:
            array = np.asarray(values)
            # Whole numbers beyond 64 bits.
            if array.dtype == object and {type(value) for value in values} <= {int, float}:
                array = np.asarray(values, dtype=np.float64)
        except (ValueError, OverflowError):
            array = np.empty(0, dtype=object)
        if array.dtype.kind in "iuf":
            return array.astype(np.float64)
    place.fail(f"{what}: found {show(values)}, expected a list of numbers")


def labelled_points(
    points: np.ndarray, visibility: np.ndarray, schema: KeypointSchema, place: Place
) -> np.ndarray:
    """Return float32 (K, 2) points with zeros where visibility is 0.

    Raises:
        DatasetError: a labelled keypoint is NaN, infinite or beyond float32; names it.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.where(visibility[:, None] > 0, points, 0.0).astype(np.float32)
    if not np.isfinite(result).all():
        worst = int(np.argmin(np.isfinite(result).all(axis=1)))
        x, y = points[worst]
        place.fail(
            f"keypoint '{schema.keypoints[worst]}' is labelled but stands at ({x}, {y}), "
            "expected finite coordinates",
            "correct it or mark it as not labelled (visibility 0)",
        )
    return result


def _visibility(
    raw: np.ndarray, codes: VisibilityCodes, schema: KeypointSchema, place: Place
) -> np.ndarray:
    if codes == "positive":
        known = np.isfinite(raw)
        result = np.where(raw > 0, 2, 0)
    elif codes == "coco":
        known = (raw == 0) | (raw == 1) | (raw == 2)
        result = raw
    else:
        known = np.isin(raw, list(codes))
        result = np.array([codes.get(value, 0) for value in raw.tolist()])
    if not known.all():
        at = int(np.argmin(known))
        valid = "0, 1 or 2" if isinstance(codes, str) else " or ".join(map(str, codes))
        place.fail(
            f"keypoint '{schema.keypoints[at]}': found visibility {raw[at]:g}, expected {valid}",
            "correct the file, or set the option 'visibility' of the split",
        )
    return result.astype(np.uint8)


def landmark_crop(points: np.ndarray) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Return centre and size (both float64 (2,)) of the square crop around face landmarks.

    The extent is widened to whole pixels, its middle is the centre and its longer side the size.
    Source: mmpose's conversions of WFLW and 300W; equals center and 200 x scale of their files.
    """
    if not len(points):
        return None, None
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    side = float((high - low).max())
    return (low + high).astype(np.float64) / 2, np.array([side, side])


def check_unique(ids: Sequence[int | str], what: str, file: Path, fix: str | None = None) -> None:
    """Raise DatasetError if an id appears twice, or if numbers and texts are mixed."""
    if len(set(ids)) != len(ids):
        seen: set[int | str] = set()
        twice = next(entry for entry in ids if entry in seen or seen.add(entry))  # type: ignore[func-returns-value]
        Place(file, f"{what} {twice}").fail("its id appears twice, expected every id once", fix)
    kinds = {type(entry) for entry in ids}
    if len(kinds) > 1:
        Place(file).fail(f"some ids of {what}s are numbers and some are text, expected one kind")
