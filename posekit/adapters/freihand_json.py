"""FreiHAND as it is released: hands in 3D and the cameras that saw them, each a JSON list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from posekit.adapters.base import Instance
from posekit.adapters.fields import Place, image_path, labelled_points, listing, numeric_array
from posekit.adapters.files import load_json
from posekit.config.base import Strict, validate
from posekit.config.cards import SplitCard
from posekit.schema import KeypointSchema


class FreiHandOptions(Strict):
    """What a card can tell the adapter.

    Attributes:
        cameras: file of the camera matrices, relative to the dataset's root; by default the
            annotations' name with K in place of xyz, as in the release.
        image_size: (height, width) of all images.
        versions: how often the list of hands is gone through: the training images come on four
            backgrounds, version v of hand i being image i + v * (number of hands).
    """

    cameras: str = ""
    image_size: tuple[int, int] = (224, 224)
    versions: int = Field(1, ge=1)


def read(root: Path, split: SplitCard, schema: KeypointSchema) -> Iterator[Instance]:
    """Stream the hands of a `*_xyz.json`, projected into their images; all points are visible.

    Image i is `{i:08d}.jpg`. The crop is the whole image. There is no box.

    Raises:
        DatasetError: the two lists differ in length, a hand is not K x 3 numbers, a camera not
            3 x 3, or a point lies behind its camera.
        ConfigError: an unknown option in the card.
    """
    options = validate(FreiHandOptions, split.options, f"split '{split.name}', options")
    file = Path(root) / split.annotations
    camera_file = file.with_name(file.name.replace("xyz", "K"))
    if options.cameras:
        camera_file = Path(root) / options.cameras
    hands = listing(load_json(file), "the file", Place(file))
    cameras = listing(load_json(camera_file), "the file", Place(camera_file))
    if len(hands) != len(cameras):
        Place(file).fail(
            f"found {len(hands)} hands and {len(cameras)} cameras in {camera_file.name}, expected "
            "one camera a hand",
            "take both files from one release",
        )
    height, width = options.image_size
    size = np.array([width, height], dtype=np.float64)
    for version in range(options.versions):
        for position, (hand, camera) in enumerate(zip(hands, cameras, strict=True)):
            place = Place(file, f"hand {position}")
            points = _project(hand, camera, len(schema), place, Place(camera_file, place.record))
            number = position + version * len(hands)
            visibility = np.full(len(schema), 2, dtype=np.uint8)
            yield Instance(
                image=image_path(split.images, f"{number:08d}.jpg", place),
                image_id=number,
                instance_id=number,
                keypoints=labelled_points(points, visibility, schema, place),
                visibility=visibility,
                image_size=options.image_size,
                crop_center=size / 2,
                crop_size=size,
            )


def _project(hand: Any, camera: Any, count: int, place: Place, camera_place: Place) -> np.ndarray:
    """Return float64 (K, 2) pixels of a hand's (K, 3) points in the camera's frame."""
    points = numeric_array(hand, "hand", place)
    matrix = numeric_array(camera, "camera", camera_place)
    if points.shape != (count, 3):
        place.fail(f"found numbers of shape {points.shape}, expected {(count, 3)}")
    if matrix.shape != (3, 3):
        camera_place.fail(f"found numbers of shape {matrix.shape}, expected (3, 3)")
    if not (points[:, 2] > 0).all():
        place.fail("a point lies behind the camera, expected depths above 0")
    with np.errstate(all="ignore"):
        seen = points @ matrix.T
        return np.asarray(seen[:, :2] / seen[:, 2:])
