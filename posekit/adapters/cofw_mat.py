"""COFW's MATLAB files (v7.3, which is HDF5): landmarks, boxes, and the images themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posekit.adapters.base import Instance
from posekit.adapters.fields import Place, image_path, labelled_points
from posekit.adapters.files import open_hdf5
from posekit.config.base import Strict, validate
from posekit.config.cards import SplitCard
from posekit.output import write_bytes
from posekit.schema import KeypointSchema

_MAX_PIXELS = 1 << 28


class CofwOptions(Strict):
    """This format needs no options."""


def read(root: Path, split: SplitCard, schema: KeypointSchema) -> Iterator[Instance]:
    """Stream the faces of a `COFW_*_color.mat` in file order; image i is `{i:06d}.png`, from 1.

    Landmarks count from 1 and lose 1; those marked occluded become 1, the others 2. Boxes are
    taken as they stand. The images are inside the file: `write_images` puts them beside it once.

    Raises:
        DatasetError: not such a file, or arrays of another shape.
        ConfigError: an unknown option in the card.
    """
    validate(CofwOptions, split.options, f"split '{split.name}', options")
    file = Path(root) / split.annotations
    with open_hdf5(file, "COFW") as store:
        place = Place(file)
        landmarks = _rows(store, "phis", 3 * len(schema), place)
        boxes = _rows(store, "bboxes", 4, place)
    if len(landmarks) != len(boxes):
        place.fail(f"found landmarks of {len(landmarks)} faces and boxes of {len(boxes)}")
    for number, (face, box) in enumerate(zip(landmarks, boxes, strict=True), start=1):
        where = Place(file, f"face {number}")
        x, y, occluded = face.reshape(3, len(schema))
        if not np.isin(occluded, (0, 1)).all() or not np.isfinite(box).all():
            where.fail("found occlusion flags other than 0 and 1, or a box that is not finite")
        visibility = np.where(occluded == 1, 1, 2).astype(np.uint8)
        name = f"{number:06d}.png"
        yield Instance(
            image=image_path(split.images, name, where),
            image_id=number,
            instance_id=number,
            keypoints=labelled_points(np.stack([x, y], axis=1) - 1, visibility, schema, where),
            visibility=visibility,
            box_xywh=box,
        )


def write_images(root: Path, split: SplitCard) -> int:
    """Write the images of a COFW file as PNG into the split's image folder; return their number.

    Images that are there already stay. Each is written under another name first, so that an
    interrupted run leaves no half image.

    Raises:
        DatasetError: not such a file, or an image in it is damaged.
    """
    file = Path(root) / split.annotations
    folder = Path(root) / split.images
    folder.mkdir(parents=True, exist_ok=True)
    with open_hdf5(file, "COFW") as store:
        references = store[_name_of(store, "Is", Place(file))][()].ravel()
        for number, reference in enumerate(references, start=1):
            target = folder / f"{number:06d}.png"
            if target.is_file():
                continue
            place = Place(file, f"image {number}")
            encoded, data = cv2.imencode(".png", _image(store[reference], place))
            if not encoded:
                place.fail("it cannot be written as PNG")
            write_bytes(target, data)
    return len(references)


def _name_of(store: Any, start: str, place: Place) -> str:
    """Return the array's name: the training file ends them in Tr, the test file in T."""
    for name in (f"{start}Tr", f"{start}T"):
        if name in store:
            return name
    place.fail(f"expected an array {start}Tr or {start}T, found {', '.join(store) or 'nothing'}")


def _rows(store: Any, start: str, width: int, place: Place) -> np.ndarray:
    """Return an array as float64 (N, width), whichever way round MATLAB's columns arrive."""
    array = store[_name_of(store, start, place)][()]
    if getattr(array, "dtype", np.dtype("O")).kind not in "biuf" or array.ndim != 2:
        place.fail(f"{start}: expected a table of numbers")
    if array.shape[0] != width and array.shape[1] == width:
        array = array.T
    if array.shape[0] != width:
        place.fail(f"{start}: found shape {array.shape}, expected {width} numbers a face")
    return array.T.astype(np.float64)


def _image(stored: Any, place: Place) -> np.ndarray:
    """Return one image as OpenCV has it, from RGB or grey stored with rows and columns swapped."""
    if stored.dtype != np.uint8 or stored.ndim not in {2, 3} or stored.size > _MAX_PIXELS:
        place.fail(f"found {stored.dtype} of shape {stored.shape}, expected an 8-bit image")
    pixels = stored[()]
    if pixels.ndim == 2:
        return np.ascontiguousarray(pixels.T)
    if pixels.shape[0] != 3:
        place.fail(f"found shape {pixels.shape}, expected 3 channels first")
    return np.ascontiguousarray(pixels.transpose(2, 1, 0)[:, :, ::-1])
