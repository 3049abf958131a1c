"""N instances with keypoints: the one form from readers through evaluation to pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from posekit.errors import PredictionError
from posekit.output import write_text
from posekit.poses import animal_programs, conversions, pictures
from posekit.schema import KeypointSchema

_FILLED: Any = None
"""Stands for an array that follows from the others."""

_ROWS = (
    *("keypoints", "scores", "box_xywh", "box_scores", "image_index", "track_id"),
    *("instance_id", "category_id", "input_area"),
)


@dataclass(frozen=True)
class Poses:
    """N instances with keypoints in M images, of one head.

    Attributes:
        head: the head that predicted them, or the heads joined by '+'.
        schema: names of the K keypoints, skeleton.
        keypoints: float64 (N, K, 2), (x, y) in pixels of the image; NaN where missing.
        scores: float (N, K): confidence of each keypoint, 0 where missing.
        box_xywh: float64 (N, 4): the boxes that were cropped, before padding, or the whole image.
        box_scores: float64 (N,): the detector's, 1 where there was none.
        image_index: int64 (N,): position of the image, below M.
        image_names: M file paths, ids or "image N".
        image_sizes: M times (height, width); (0, 0) where they are not known.
        track_id: int64 (N,): identity across the frames of a video, or None.
        image_ids: (M,) int64 or bytes: the images' ids in their dataset, or None.
        instance_id: (N,) int64 or bytes: the annotation whose box was used, or a running number
            where there is none.
        category_id: int64 (N,): 1 where a file does not say.
        input_area: float64 (N,): area of the padded, aspect-fixed crop in image pixels, which
            OKS-NMS takes as the instance's area; the box's where it is not known.
        has_box: False if no box was given (a predictions file may leave it out).
        left_out: (image id, instance id) of annotated instances that could not be cropped, such as
            those with an empty box; point metrics leave them out, OKS counts them as missed.

    Raises:
        PredictionError: arrays of different lengths.
    """

    head: str
    schema: KeypointSchema
    keypoints: np.ndarray
    scores: np.ndarray
    box_xywh: np.ndarray
    box_scores: np.ndarray
    image_index: np.ndarray
    image_names: tuple[str, ...]
    image_sizes: tuple[tuple[int, int], ...]
    track_id: np.ndarray | None = None
    image_ids: np.ndarray | None = None
    instance_id: np.ndarray = _FILLED
    category_id: np.ndarray = _FILLED
    input_area: np.ndarray = _FILLED
    has_box: bool = True
    left_out: frozenset[tuple[Any, Any]] = frozenset()

    def __post_init__(self) -> None:
        box = self.box_xywh
        filled = {
            "instance_id": lambda: np.arange(len(self)),
            "category_id": lambda: np.ones(len(self), dtype=np.int64),
            "input_area": lambda: box[:, 2] * box[:, 3],
        }
        for name, values in filled.items():
            if getattr(self, name) is _FILLED:
                object.__setattr__(self, name, values())
        lengths = {name: len(values) for name, values in self._rows().items()}
        if len(set(lengths.values())) > 1:
            raise PredictionError(f"predictions of different lengths: {lengths}")

    def __len__(self) -> int:
        return len(self.keypoints)

    @classmethod
    def of_dataset(cls, schema: KeypointSchema, *, image_id: np.ndarray, **arrays: Any) -> Poses:
        """Build poses of a dataset split from the image id of each, and the other attributes."""
        ids, index = np.unique(image_id, return_inverse=True)
        names = tuple(id_text(one) for one in ids.tolist())
        sizes = ((0, 0),) * len(ids)
        index = index.reshape(-1)
        return cls(
            "",
            schema,
            image_index=index,
            image_names=names,
            image_sizes=sizes,
            image_ids=ids,
            **arrays,
        )

    @property
    def image_id(self) -> np.ndarray:
        """(N,) int64 or bytes: the dataset's id of each instance's image, or its position."""
        return self.image_index if self.image_ids is None else self.image_ids[self.image_index]

    def check(self, schema: KeypointSchema) -> None:
        """Raise PredictionError unless the points fit the schema and are finite numbers."""
        if self.keypoints.shape[1:] != (len(schema), 2):
            raise PredictionError(
                f"predictions have {self.keypoints.shape[1]} keypoints each, but schema "
                f"'{schema.name}' has {len(schema)}; are they of another head or dataset?"
            )
        for name in ("keypoints", "scores", "box_scores"):
            finite = np.isfinite(getattr(self, name))
            bad = np.flatnonzero(~finite.all(axis=tuple(range(1, finite.ndim))))
            if bad.size:
                raise PredictionError(
                    f"prediction {bad[0]} (instance id {id_text(self.instance_id[bad[0]])}): field "
                    f"'{name}' holds NaN or infinity, expected finite numbers; "
                    f"{bad.size} of {len(self)} predictions are affected"
                )

    def _rows(self) -> dict[str, np.ndarray]:
        """Return the arrays that have a row for each instance."""
        values = {name: getattr(self, name) for name in _ROWS}
        return {name: array for name, array in values.items() if array is not None}

    @property
    def instance_scores(self) -> np.ndarray:
        """float64 (N,): box score times mean keypoint score."""
        if not len(self):
            return np.zeros(0)
        return self.box_scores * self.scores.mean(axis=1, dtype=np.float64)

    @overload
    def __getitem__(self, key: str) -> np.ndarray: ...
    @overload
    def __getitem__(self, key: int | slice | np.ndarray | list[Any]) -> Poses: ...
    def __getitem__(self, key: Any) -> Any:
        """Return instances by number, slice, mask or list; or a keypoint of all by its name.

        A number gives Poses of one instance; a name gives float64 (N, 3): x, y and score, and an
        unknown one is a ConfigError.
        """
        if isinstance(key, str):
            k = self.schema.index(key, "poses[...]")
            return np.concatenate([self.keypoints[:, k], self.scores[:, k, None]], axis=1)
        if isinstance(key, int | np.integer):
            return self.take(np.arange(len(self))[key][None])
        rows = np.asarray(key) if isinstance(key, list) else key
        return self.take(np.zeros(0, dtype=np.int64) if isinstance(key, list) and not key else rows)

    def __iter__(self) -> Iterator[Poses]:
        """Yield every instance as Poses of one."""
        return (self[i] for i in range(len(self)))

    def take(self, rows: np.ndarray | slice) -> Poses:
        """Return the chosen instances (indices or bool mask) of the same images."""
        chosen: dict[str, Any] = {name: array[rows] for name, array in self._rows().items()}
        return replace(self, **chosen)

    def by_image(self) -> Iterator[tuple[str, Poses]]:
        """Return each image's name and its instances, in order; images without any included."""
        for number, name in enumerate(self.image_names):
            part = self.take(np.flatnonzero(self.image_index == number))
            yield (
                name,
                replace(
                    part,
                    image_index=np.zeros(len(part), dtype=np.int64),
                    image_names=(name,),
                    image_sizes=(self.image_sizes[number],),
                    image_ids=None if self.image_ids is None else self.image_ids[[number]],
                ),
            )

    def __str__(self) -> str:
        images, poses = len(self.image_names), len(self)
        lines = [
            f"{poses} pose{'s' * (poses != 1)} of {len(self.schema)} keypoints in {images} "
            f"image{'s' * (images != 1)} by head '{self.head}'"
        ]
        for i in range(min(poses, 3)):
            x, y, w, h = self.box_xywh[i]
            track = "" if self.track_id is None else f"#{self.track_id[i]}, "
            lines.append(
                f"{self.image_names[self.image_index[i]]}: {track}"
                f"score {self.instance_scores[i]:.2f}, box {x:.0f} {y:.0f} {w:.0f} x {h:.0f}"
            )
            width = max(len(name) for name in self.schema.keypoints)
            lines += [
                f"  {name:<{width}} {px:8.1f} {py:8.1f}  {score:.2f}"
                for name, (px, py), score in zip(
                    self.schema.keypoints, self.keypoints[i], self.scores[i], strict=True
                )
            ][:8]
            if len(self.schema) > 8:
                lines.append(f"  and {len(self.schema) - 8} more")
        if poses > 3:
            lines.append(f"and {poses - 3} more poses")
        return "\n".join(lines)

    __repr__ = __str__

    _repr_html_ = pictures.html_of
    plot = pictures.plot
    show = pictures.show

    def save(self, path: str | Path) -> Path:
        """Write the poses to a file whose ending says how; returns what was written.

        .json is COCO with scores, as `posekit predict` writes it; .csv a line per instance; .h5
        DeepLabCut's table; .slp SLEAP's. With .jpg or .png the poses are drawn into their image,
        or, of several images, into one picture each in the folder `path` without its ending.

        Raises:
            PredictionError: another ending, a missing package, or an image that is not there.
        """
        path = Path(path)
        ending = path.suffix.lower()
        if ending == ".json":
            return write_text(path, json.dumps(self.to_coco()))
        if ending in {".jpg", ".jpeg", ".png"}:
            return pictures.save_pictures(self, path)
        if ending not in _WRITERS:
            raise PredictionError(
                f"{path}: unknown ending; poses are saved as .json or .csv, .h5 (DeepLabCut), .slp "
                "(SLEAP), .jpg or .png"
            )
        return _WRITERS[ending](self, path)

    # Other projects' forms: every `to_` is a method, every `from_` a class method.
    to_coco = conversions.to_coco
    to_csv = conversions.to_csv
    to_deeplabcut = animal_programs.to_deeplabcut
    to_pandas = conversions.to_pandas
    to_sleap = animal_programs.to_sleap
    to_supervision = conversions.to_supervision
    from_coco = classmethod(conversions.from_coco)
    from_file = classmethod(conversions.from_file)
    from_csv = classmethod(conversions.from_csv)
    from_deeplabcut = classmethod(animal_programs.from_deeplabcut)
    from_pandas = classmethod(conversions.from_pandas)
    from_sleap = classmethod(animal_programs.from_sleap)
    from_supervision = classmethod(conversions.from_supervision)


_WRITERS: dict[str, Callable[[Poses, Path], Path]] = {
    ".csv": conversions.to_csv,
    ".h5": animal_programs.to_deeplabcut,
    ".slp": animal_programs.to_sleap,
}


def id_text(value: Any) -> str:
    """Return an id as a person writes it."""
    return value.decode() if isinstance(value, bytes) else str(value)


def plain_id(value: Any) -> int | str:
    """Return an id as JSON writes it."""
    return value.decode() if isinstance(value, bytes) else int(value)
