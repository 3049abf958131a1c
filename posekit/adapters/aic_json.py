"""AI Challenger's original keypoint JSON: a list of images, each with its people by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from posekit.adapters.base import EmptyImage, Instance
from posekit.adapters.fields import (
    Place,
    box_xywh,
    check_unique,
    field_of,
    image_path,
    keypoint_triples,
    listing,
    mapping,
    show,
)
from posekit.adapters.files import load_json
from posekit.config.base import Strict, validate
from posekit.config.cards import SplitCard
from posekit.schema import KeypointSchema

_CODES = {1: 2, 2: 1, 3: 0}  # 1 visible, 2 hidden, 3 not in the image


class AicOptions(Strict):
    """What a card can tell the adapter: the ending that image ids lack."""

    image_suffix: str = ".jpg"


def read(root: Path, split: SplitCard, schema: KeypointSchema) -> Iterator[Instance | EmptyImage]:
    """Stream the people of AI Challenger's original JSON in file order.

    Boxes become x, y, width, height; visibility 1, 2, 3 becomes 2, 1, 0. The file has no areas.

    Raises:
        DatasetError: anything malformed, and visibility codes other than 1, 2 and 3, by which a
            copy converted to COCO's codes is told apart.
        ConfigError: an unknown option in the card.
    """
    options = validate(AicOptions, split.options, f"split '{split.name}', options")
    file = Path(root) / split.annotations
    data = load_json(file)
    place = Place(file)
    if isinstance(data, dict):
        place.fail(
            "found an object, expected the original list of images",
            "if this is a COCO-style copy, set the card's adapter to coco_json",
        )
    records = listing(data, "the file", place)
    names = [_name(record, position, file) for position, record in enumerate(records)]
    check_unique(names, "image", file)
    count = 0
    for position, name in enumerate(names):
        record, records[position] = records[position], None
        place = Place(file, f"image {name}")
        path = image_path(split.images, name + options.image_suffix, place)
        poses = mapping(
            field_of(record, "keypoint_annotations", place), "keypoint_annotations", place
        )
        boxes = mapping(field_of(record, "human_annotations", place), "human_annotations", place)
        for who in [*boxes, *(who for who in poses if who not in boxes)]:
            count += 1
            where = Place(file, f"image {name}, {who}")
            points, visibility = np.zeros((len(schema), 2), np.float32), None
            if who in poses:
                points, visibility = keypoint_triples(poses[who], schema, where, _CODES)
            yield Instance(
                image=path,
                image_id=name,
                instance_id=count,
                keypoints=points,
                visibility=np.zeros(len(schema), np.uint8) if visibility is None else visibility,
                box_xywh=_box(boxes.get(who), where),
            )
        if not poses and not boxes:
            yield EmptyImage(path, name)


def _name(record: object, position: int, file: Path) -> str:
    place = Place(file, f"image at position {position}")
    name = field_of(mapping(record, "image", place), "image_id", place)
    if not isinstance(name, str) or not name:
        place.fail(f"image_id: found {show(name)}, expected the image's name without its ending")
    return name


def _box(corners: object, place: Place) -> np.ndarray | None:
    box = box_xywh(corners, place, "human_annotations")
    if box is not None:
        box[2:] -= box[:2]
    return box
