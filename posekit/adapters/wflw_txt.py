"""WFLW's text format: landmarks, face rectangle, attributes and image name on one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from posekit.adapters.base import Instance
from posekit.adapters.fields import (
    Place,
    image_path,
    labelled_points,
    landmark_crop,
    show,
    text_number,
)
from posekit.adapters.files import read_text
from posekit.config.base import Strict, validate
from posekit.config.cards import SplitCard
from posekit.schema import KeypointSchema

ATTRIBUTES = ("pose", "expression", "illumination", "make_up", "occlusion", "blur")


class WflwOptions(Strict):
    """This format needs no options."""


def read(root: Path, split: SplitCard, schema: KeypointSchema) -> Iterator[Instance]:
    """Stream the faces of a `list_98pt_rect_attr_*.txt` in file order.

    A line holds x y of every landmark, x_min y_min x_max y_max of the face's rectangle, six
    attributes of 0 or 1, and the image's name. The format has no visibility: every landmark
    counts as visible. The rectangle is the box, the crop is the square around the landmarks, and
    the attributes become extras under the names in `ATTRIBUTES`.

    Raises:
        DatasetError: a line of another form; names its number.
        ConfigError: an unknown option in the card.
    """
    validate(WflwOptions, split.options, f"split '{split.name}', options")
    file = Path(root) / split.annotations
    coordinates = 2 * len(schema)
    expected = coordinates + 4 + len(ATTRIBUTES) + 1
    count = 0
    for line, text in enumerate(read_text(file).splitlines(), start=1):
        if not text.strip():
            continue
        place = Place(file, f"line {line}")
        cells = text.split(None, expected - 1)
        if len(cells) != expected:
            place.fail(
                f"found {len(cells)} columns, expected {expected} ({coordinates} coordinates, "
                f"4 of the rectangle, {len(ATTRIBUTES)} attributes, the image's name)"
            )
        numbers = np.array([text_number(cell, "column", place) for cell in cells[:-1]])
        count += 1
        yield _face(numbers, cells[-1].strip(), count, split, schema, place)
    if not count:
        Place(file).fail("the file is empty, expected one face a line")


def _face(
    numbers: np.ndarray,
    name: str,
    count: int,
    split: SplitCard,
    schema: KeypointSchema,
    place: Place,
) -> Instance:
    visibility = np.full(len(schema), 2, np.uint8)
    coordinates = 2 * len(schema)
    points = labelled_points(numbers[:coordinates].reshape(-1, 2), visibility, schema, place)
    left, top, right, bottom = numbers[coordinates : coordinates + 4]
    attributes = numbers[coordinates + 4 :]
    if not np.isin(attributes, (0, 1)).all():
        place.fail(f"attributes: found {show(attributes.tolist())}, expected 0 and 1 only")
    center, size = landmark_crop(points)
    return Instance(
        image=image_path(split.images, name, place),
        image_id=name,
        instance_id=count,
        keypoints=points,
        visibility=visibility,
        box_xywh=np.array([left, top, right - left, bottom - top]),
        crop_center=center,
        crop_size=size,
        extras=dict(zip(ATTRIBUTES, attributes.tolist(), strict=True)),
    )
