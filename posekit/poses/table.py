"""What prediction gives: named keypoints of instances in images, and their conversions."""

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


@dataclass(frozen=True)
class Poses:
    """N predicted instances in M images, by one head.

    Attributes:
        head: the head that predicted them, or the heads joined by '+'.
        schema: names of the K keypoints, skeleton.
        keypoints: float64 (N, K, 2), (x, y) in pixels of the image; NaN where missing.
        scores: float32 (N, K): confidence of each keypoint, 0 where missing.
        box_xywh: float64 (N, 4): the boxes that were given, or the whole image.
        box_scores: float64 (N,): the detector's, 1 where there was none.
        image_index: int64 (N,): position of the image, below M.
        image_names: M file paths or "image N".
        image_sizes: M times (height, width); (0, 0) where a file does not say.
        track_id: int64 (N,): identity across the frames of a video, or None.
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

    def __len__(self) -> int:
        return len(self.keypoints)

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
        arrays = ("keypoints", "scores", "box_xywh", "box_scores", "image_index")
        chosen: dict[str, Any] = {name: getattr(self, name)[rows] for name in arrays}
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
