"""N instances with named keypoints: the one form from readers and models to scores and pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from posekit.errors import PredictionError
from posekit.output import write_text
from posekit.poses import animal_programs, conversions, pictures
from posekit.schema import KeypointSchema

_OF_INSTANCES = (
    "keypoints", "scores", "box_xywh", "box_scores", "image_index", "instance_id", "category_id",
    "input_area",
)  # fmt: skip


@dataclass(frozen=True)
class Poses:
    """N instances with keypoints in M images, of one head.

    Poses of a dataset's split also know the ids of its images and instances, by which they are
    scored (see `posekit.poses.split`).

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
        image_ids: (M,) int64 or bytes: ids of the dataset's images, or None.
        instance_id: (N,) int64 or bytes: the annotation whose box was used, or a running number.
        category_id: int64 (N,), 1 if not given.
        input_area: float64 (N,): area of the padded, aspect-fixed crop in image pixels, which
            OKS-NMS takes as the instance's area; that of the box if not given.
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
    # None only until __post_init__ has filled them in.
    instance_id: np.ndarray = None  # type: ignore[assignment]
    category_id: np.ndarray = None  # type: ignore[assignment]
    input_area: np.ndarray = None  # type: ignore[assignment]
    has_box: bool = True
    left_out: frozenset[tuple[Any, Any]] = frozenset()

    def __post_init__(self) -> None:
        n = len(self.keypoints)
        if self.instance_id is None:
            object.__setattr__(self, "instance_id", np.arange(n))
        if self.category_id is None:
            object.__setattr__(self, "category_id", np.ones(n, dtype=np.int64))
        if self.input_area is None:
            object.__setattr__(self, "input_area", self.box_xywh[:, 2] * self.box_xywh[:, 3])
        lengths = {name: len(getattr(self, name)) for name in _OF_INSTANCES}
        if set(lengths.values()) - {n}:
            raise PredictionError(f"poses of different lengths: {lengths}")

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def image_id(self) -> np.ndarray:
        """(N,) int64 or bytes: id of each instance's image in the dataset."""
        if self.image_ids is None:
            raise PredictionError(
                f"these {len(self)} poses do not say which images of a dataset they are of; read "
                "them with posekit.poses.read.read_predictions, or evaluate the model on the split"
            )
        return self.image_ids[self.image_index]

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
        chosen: dict[str, Any] = {name: getattr(self, name)[rows] for name in _OF_INSTANCES}
        track = None if self.track_id is None else self.track_id[rows]
        return replace(self, **chosen, track_id=track)

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


def join(parts: Sequence[Poses]) -> Poses:
    """Join the poses of several sets of images, at least one, into one without a dataset's ids."""
    shift = np.cumsum([0, *(len(part.image_names) for part in parts)])

    def all_of(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    return Poses(
        head=parts[0].head,
        schema=parts[0].schema,
        keypoints=all_of("keypoints"),
        scores=all_of("scores"),
        box_xywh=all_of("box_xywh"),
        box_scores=all_of("box_scores"),
        image_index=np.concatenate([p.image_index + shift[i] for i, p in enumerate(parts)]),
        image_names=tuple(name for part in parts for name in part.image_names),
        image_sizes=tuple(size for part in parts for size in part.image_sizes),
        track_id=None if any(p.track_id is None for p in parts) else all_of("track_id"),
    )
