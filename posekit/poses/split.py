"""Poses of a dataset's split: made for its images, or found among them by the images' names."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from posekit.data.columns import InstanceColumns
from posekit.errors import PredictionError
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema


def split_poses(
    truth: InstanceColumns,
    schema: KeypointSchema,
    image_index: np.ndarray,
    box_xywh: np.ndarray,
    **columns: Any,
) -> Poses:
    """Return poses in images of a split.

    Args:
        truth: the split's annotations.
        schema: of the K keypoints.
        image_index: int64 (N,), rows of the split's images.
        box_xywh: float64 (N, 4).
        columns: other attributes of Poses; keypoints and scores are 0 and box scores 1 if left out.
    """
    shape = (len(image_index), len(schema))
    filled = {
        "head": schema.name,
        "keypoints": np.zeros((*shape, 2)),
        "scores": np.zeros(shape),
        "box_scores": np.ones(len(image_index)),
    }
    return Poses(
        schema=schema,
        box_xywh=box_xywh,
        image_index=image_index,
        image_ids=np.asarray(truth.image_id),
        image_names=tuple(path.decode() for path in truth.image_path.tolist()),
        image_sizes=tuple((height, width) for height, width in truth.image_size.tolist()),
        **{**filled, **columns},
    )


def in_split(poses: Poses, truth: InstanceColumns, schema: KeypointSchema, file: Path) -> Poses:
    """Return predicted poses as poses of a split, whose images are found by name.

    Keypoints are taken by name, box scores become the poses' scores. Images are found by the ends
    of their paths, frames of a video ("clip.mp4, frame 3") as the images of a folder of its name.

    Args:
        poses: what `posekit predict` writes.
        truth: the split's annotations.
        schema: of the split.
        file: where the poses are from, for messages.

    Raises:
        PredictionError: a keypoint is missing, or an image is none of the split's.
    """
    names = poses.schema.keypoints
    missing = [name for name in schema.keypoints if name not in names]
    if missing:
        raise PredictionError(
            f"{file}: its {len(names)} keypoints lack {len(missing)} of the {len(schema)} of "
            f"schema '{schema.name}', the first is '{missing[0]}'; are they of another head?"
        )
    channels = [names.index(name) for name in schema.keypoints]
    found = np.array(_image_rows(poses.image_names, truth, file), dtype=np.int64)
    return split_poses(
        truth,
        schema,
        found[poses.image_index],
        poses.box_xywh,
        head=poses.head,
        # Missing keypoints (NaN) score 0 wherever they are.
        keypoints=np.nan_to_num(poses.keypoints[:, channels]),
        scores=poses.scores[:, channels].astype(np.float64),
        box_scores=poses.instance_scores,
        category_id=np.full(len(poses), default_category(truth)),
        track_id=poses.track_id,
    )


def default_category(truth: InstanceColumns) -> int:
    """Return the category of what does not name one: that of the first annotation."""
    return int(truth.category_id[0]) if len(truth) else 1


def _image_rows(names: tuple[str, ...], truth: InstanceColumns, file: Path) -> list[int]:
    paths = [raw.decode() for raw in np.asarray(truth.image_path).tolist()]
    known: dict[str, int | None] = {}
    folders: dict[str, list[int]] = {}
    for place in sorted(range(len(paths)), key=lambda place: _by_number(paths[place])):
        for end in _ends(paths[place]):
            known[end] = None if end in known else place  # two images of one name: neither
        folders.setdefault(Path(paths[place]).parent.name, []).append(place)
    of_video = Counter(name.rpartition(", frame ")[0] for name in names)
    rows: list[int] = []
    row: int | None
    for name in names:
        video, is_frame, number = name.rpartition(", frame ")
        if is_frame and number.isdigit():
            frames = folders.get(Path(video).stem, [])
            # the n-th frame is the n-th image only where every frame of the video is an image
            if frames and len(frames) != of_video[video]:
                raise PredictionError(
                    f"{file}: holds {of_video[video]} frames of '{video}', but the annotations "
                    f"have {len(frames)} images of it, so which frame is which image is not known; "
                    "predict the annotated images themselves"
                )
            row = frames[int(number)] if int(number) < len(frames) else None
        else:
            ends = _ends(Path(name).as_posix())
            row = next((known[end] for end in ends if known.get(end) is not None), None)
        if row is None:
            raise PredictionError(
                f"{file}: '{name}' is no image of the annotations (theirs are like "
                f"'{next(iter(paths), None)}')"
            )
        rows.append(row)
    return rows


def _ends(path: str) -> list[str]:
    """Return a path and its ever shorter ends: a/b/c.jpg, b/c.jpg, c.jpg."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _by_number(path: str) -> list[tuple[int, str]]:
    """Return the sort key of a path by which img2 comes before img10."""
    parts = re.split(r"([0-9]+)", path)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
