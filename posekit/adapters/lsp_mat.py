"""Leeds Sports Pose's `joints.mat`: one array of joints by (x, y, visible) by image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from posekit.adapters.base import Instance
from posekit.adapters.fields import Place, image_path, labelled_points
from posekit.adapters.files import load_mat
from posekit.config.base import Strict, validate
from posekit.config.cards import SplitCard
from posekit.errors import ConfigError
from posekit.schema import KeypointSchema


class LspOptions(Strict):
    """What a card can tell the adapter: the images' names by {number}, counted from 1."""

    image_name: str = "im{number:05d}.jpg"


def read(root: Path, split: SplitCard, schema: KeypointSchema) -> Iterator[Instance]:
    """Stream the people of a `joints.mat`, one an image, in order.

    The array `joints` is K x 3 x N. The third row is 1 where the joint is labelled and 0 where x
    and y mean nothing. Coordinates count from 0.

    Raises:
        DatasetError: not a MATLAB file, an array of another shape, or other flags than 0 and 1.
        ConfigError: an unknown option, or an image name without {number}.
    """
    options = validate(LspOptions, split.options, f"split '{split.name}', options")
    file = Path(root) / split.annotations
    joints = load_mat(file, ("joints",))["joints"]
    expected = (len(schema), 3)
    if joints.dtype.kind not in "biuf" or joints.ndim != 3 or joints.shape[:2] != expected:
        Place(file).fail(
            f"joints: found {joints.dtype} of shape {joints.shape}, expected numbers of shape "
            f"{expected} x images"
        )
    for position in range(joints.shape[2]):
        place = Place(file, f"image {position + 1}")
        name = _image_name(options.image_name, position + 1, split)
        person = joints[:, :, position].astype(np.float64)
        flags = person[:, 2]
        if not np.isin(flags, (0, 1)).all():
            place.fail("the third row holds other numbers than 0 and 1, expected a visible flag")
        visibility = np.where(flags == 1, 2, 0).astype(np.uint8)
        yield Instance(
            image=image_path(split.images, name, place),
            image_id=position + 1,
            instance_id=position + 1,
            keypoints=labelled_points(person[:, :2], visibility, schema, place),
            visibility=visibility,
        )


def _image_name(pattern: str, number: int, split: SplitCard) -> str:
    try:
        name = pattern.format(number=number)
    except (KeyError, IndexError, ValueError, AttributeError):
        name = pattern
    if name == pattern:
        raise ConfigError(
            f"split '{split.name}', options.image_name: found {pattern!r}, expected a name with "
            "{number} in it, such as im{number:05d}.jpg"
        )
    return name
