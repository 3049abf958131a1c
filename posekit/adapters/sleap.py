"""SLEAP's `.slp` labels, and whatever else sleap-io loads; needs the extra `lab`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pydantic import Field

from posekit.adapters.base import EmptyImage, Instance
from posekit.adapters.fields import Place, image_path, labelled_points
from posekit.adapters.files import require_file
from posekit.adapters.names import match_names
from posekit.config.base import Strict, validate
from posekit.config.cards import SplitCard
from posekit.errors import ConfigError
from posekit.output import write_bytes
from posekit.schema import KeypointSchema


class SleapOptions(Strict):
    """What a card can tell the adapter.

    Attributes:
        names: node of the file -> keypoint, where they differ by more than spelling.
        predicted: also take instances that SLEAP predicted, where a frame has no labelled one.
    """

    names: dict[str, str] = Field(default_factory=dict)
    predicted: bool = False


def read(root: Path, split: SplitCard, schema: KeypointSchema) -> Iterator[Instance | EmptyImage]:
    """Stream the labelled animals of a SLEAP file by frame.

    Frames of image lists are named as the file names them, below the dataset's root. Frames of
    videos are `VIDEO/FRAME.png` below the split's image folder, the frame's number with six
    digits; `write_frames` puts them there. Nodes that are not visible are not labelled.

    Raises:
        DatasetError: sleap-io cannot load the file, or its skeleton does not fit the schema.
        ConfigError: sleap-io is not installed, or an unknown option in the card.
    """
    options = validate(SleapOptions, split.options, f"split '{split.name}', options")
    file = Path(root) / split.annotations
    place = Place(file)
    count = 0
    orders: dict[tuple[str, ...], list[int]] = {}
    for frame in load_labels(file).labeled_frames:
        where = Place(file, f"frame {frame.frame_idx} of {Path(_video_name(frame.video)).name}")
        path = _image_of(frame, Path(root), split, where)
        animals = list(frame.user_instances)
        if not animals and options.predicted:
            animals = list(frame.predicted_instances)
        before = count
        for animal in animals:
            nodes = tuple(animal.skeleton.node_names)
            if nodes not in orders:
                orders[nodes] = match_names(nodes, schema, place, options.names)
            points = np.asarray(animal.numpy(), dtype=np.float64)[orders[nodes], :2]
            visibility = np.where(np.isfinite(points).all(axis=1), 2, 0).astype(np.uint8)
            if not visibility.any():
                continue
            count += 1
            yield Instance(
                image=path,
                image_id=path,
                instance_id=count,
                keypoints=labelled_points(points, visibility, schema, where),
                visibility=visibility,
            )
        if count == before:
            yield EmptyImage(path, path)


def read_skeleton(
    file: Path,
) -> tuple[list[str], list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the names of a SLEAP file's nodes, its links and its symmetries as positions.

    Raises:
        DatasetError: sleap-io cannot load the file, or no frame of it is labelled.
        ConfigError: sleap-io is not installed.
    """
    for frame in load_labels(file).labeled_frames:
        for animal in (*frame.user_instances, *frame.predicted_instances):
            skeleton = animal.skeleton
            names = [str(name) for name in skeleton.node_names]
            links = [(int(a), int(b)) for a, b in skeleton.edge_inds]
            mirrored = [
                tuple(sorted(names.index(node.name) for node in pair.nodes))
                for pair in skeleton.symmetries
            ]
            return names, links, sorted({(a, b) for a, b in mirrored})
    Place(file).fail("no frame of it is labelled")


def write_frames(root: Path, split: SplitCard) -> int:
    """Write the labelled frames of a SLEAP file's videos as PNG; return how many were written.

    Frames that are there already, and frames that are images of their own, stay as they are.

    Raises:
        DatasetError: sleap-io cannot load the file or decode a frame.
        ConfigError: sleap-io is not installed.
    """
    import cv2  # noqa: PLC0415 - only this function decodes

    file = Path(root) / split.annotations
    written = 0
    for frame in load_labels(file).labeled_frames:
        place = Place(file, f"frame {frame.frame_idx}")
        target = Path(root) / _image_of(frame, Path(root), split, place)
        if target.is_file():
            continue
        try:
            pixels = np.asarray(frame.image)
        # Any of sleap-io's video backends may fail in its own way.
        except Exception as error:
            place.fail(f"it cannot be decoded ({type(error).__name__}: {error})")
        colours = pixels[:, :, ::-1] if pixels.shape[-1] == 3 else pixels
        encoded, data = cv2.imencode(".png", np.ascontiguousarray(colours))
        if not encoded:
            place.fail("it cannot be written as PNG")
        write_bytes(target, data)
        written += 1
    return written


def load_labels(file: Path) -> Any:
    """Return sleap-io's Labels of a file.

    Raises:
        DatasetError: sleap-io cannot load it.
        ConfigError: sleap-io is not installed.
    """
    try:
        import sleap_io  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(
            "reading SLEAP files needs sleap-io, which is not installed; pip install 'posekit[lab]'"
        ) from None
    require_file(file)
    try:
        labels = sleap_io.load_file(str(file))
        list(labels.labeled_frames)
        return labels
    # sleap-io raises errors of many kinds for a damaged file.
    except Exception as error:
        text = str(error).splitlines()[0] if str(error) else ""
        Place(file).fail(f"sleap-io cannot load it ({type(error).__name__}: {text})")


def _video_name(video: Any) -> str:
    name = video.filename
    return str(name[0] if isinstance(name, (list, tuple)) else name)


def _image_of(frame: Any, root: Path, split: SplitCard, place: Place) -> str:
    names = frame.video.filename
    if isinstance(names, (list, tuple)):
        name = PurePosixPath(str(names[frame.frame_idx]).replace("\\", "/"))
        if name.is_absolute() and root.absolute() in Path(name).parents:
            return image_path("", Path(name).relative_to(root.absolute()).as_posix(), place)
        return image_path(split.images, str(name), place)
    stem = PurePosixPath(str(names).replace("\\", "/")).stem
    return image_path(split.images, f"{stem}/{frame.frame_idx:06d}.png", place)
