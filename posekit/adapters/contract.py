"""What every adapter must keep to, as checks that users can run on their own."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import numpy as np

from posekit.adapters.base import EmptyImage, Instance
from posekit.errors import DatasetError
from posekit.schema import KeypointSchema


def check_instance(instance: Any, schema: KeypointSchema, where: str) -> None:
    """Check one yielded item against the contract of `Instance` or `EmptyImage`.

    Raises:
        DatasetError: names `where` and the first field that breaks the contract.
    """
    for problem in _problems(instance, len(schema)):
        if problem:
            raise DatasetError(where, problem, fix="correct the adapter")


def _problems(instance: Any, count: int) -> list[str | None]:
    if isinstance(instance, EmptyImage):
        return [_path_problem(instance.image), _id_problem("image_id", instance.image_id)]
    if not isinstance(instance, Instance):
        return [f"found {type(instance).__name__}, expected posekit.adapters.Instance"]
    return [
        _path_problem(instance.image),
        _id_problem("image_id", instance.image_id),
        _id_problem("instance_id", instance.instance_id),
        _array_problem("keypoints", instance.keypoints, np.float32, (count, 2)),
        _array_problem("visibility", instance.visibility, np.uint8, (count,))
        or _visibility_problem(instance),
        _optional_problem("box_xywh", instance.box_xywh, (4,)),
        _optional_problem("crop_center", instance.crop_center, (2,)),
        _optional_problem("crop_size", instance.crop_size, (2,)),
        None
        if (instance.crop_center is None) == (instance.crop_size is None)
        else "crop_center and crop_size must come together",
        None
        if instance.area is None or (np.isfinite(instance.area) and instance.area >= 0)
        else f"area: found {instance.area}, expected square pixels or None",
        None
        if isinstance(instance.extras, dict)
        and all(isinstance(v, (int, float)) for v in instance.extras.values())
        else "extras: expected a mapping of names to numbers",
    ]


def _path_problem(path: Any) -> str | None:
    if not isinstance(path, str) or not path:
        return f"image: found {path!r}, expected a path relative to the dataset's root"
    if path.startswith("/") or "\\" in path or path[1:2] == ":":
        return f"image: found {path!r}, expected a relative path with forward slashes"
    return None if PurePosixPath(path).parts else f"image: found {path!r}, expected a file"


def _id_problem(name: str, value: Any) -> str | None:
    fits = isinstance(value, (int, np.integer)) and -(2**63) <= value < 2**63
    if isinstance(value, bool) or not (fits or (isinstance(value, str) and value)):
        return f"{name}: found {value!r}, expected a whole number of at most 64 bits or text"
    return None


def _array_problem(name: str, value: Any, dtype: Any, shape: tuple[int, ...]) -> str | None:
    if not isinstance(value, np.ndarray) or value.dtype != dtype or value.shape != shape:
        is_array = isinstance(value, np.ndarray)
        found = f"{value.dtype} {value.shape}" if is_array else type(value).__name__
        return f"{name}: found {found}, expected {np.dtype(dtype).name} {shape}"
    return None


def _visibility_problem(instance: Instance) -> str | None:
    if instance.visibility.size and instance.visibility.max() > 2:
        return f"visibility: found {instance.visibility.max()}, expected 0, 1 or 2"
    labelled = instance.visibility > 0
    points = instance.keypoints
    fits = isinstance(points, np.ndarray) and points.shape[:1] == labelled.shape
    if fits and not np.isfinite(points[labelled]).all():
        return "keypoints: a labelled one is not finite; mark it 0 (not labelled) instead"
    return None


def _optional_problem(name: str, value: Any, shape: tuple[int, ...]) -> str | None:
    if value is None:
        return None
    problem = _array_problem(name, value, np.float64, shape)
    return problem or (None if np.isfinite(value).all() else f"{name}: expected finite numbers")
