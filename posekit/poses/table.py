"""What prediction gives: named keypoints of instances in images, and their conversions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from posekit.errors import PredictionError
from posekit.output import write_text
from posekit.poses import conversions
from posekit.schema import KeypointSchema


@dataclass(frozen=True)
class Poses:
    """N predicted instances in M images, by one head.

    Attributes:
        head: the head that predicted them, or the heads joined by '+'.
        schema: names of the K keypoints, skeleton.
        keypoints: float64 (N, K, 2), (x, y) in pixels of the image.
        scores: float32 (N, K): confidence of each keypoint.
        box_xywh: float64 (N, 4): the boxes that were given, or the whole image.
        box_scores: float64 (N,): the detector's, 1 where there was none.
        image_index: int64 (N,): position of the image, below M.
        image_names: M file paths or "image N".
        image_sizes: M times (height, width).
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
            lines.append(
                f"{self.image_names[self.image_index[i]]}: score {self.instance_scores[i]:.2f}, "
                f"box {x:.0f} {y:.0f} {w:.0f} x {h:.0f}"
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

    def to_coco(self) -> dict[str, Any]:
        """Return a COCO keypoint file's content: images, categories, annotations with scores.

        Keypoints are x, y, 2 (all predicted), their confidences stand in `keypoint_scores`.
        """
        return conversions.to_coco(self)

    def save(self, file: str | Path) -> Path:
        """Write the poses: .json (COCO with scores, as `posekit predict` writes it) or .csv.

        Raises:
            PredictionError: another ending.
        """
        path = Path(file)
        if path.suffix == ".json":
            return write_text(path, json.dumps(self.to_coco()))
        if path.suffix == ".csv":
            return self.to_csv(path)
        raise PredictionError(f"{path}: unknown ending; poses are saved as .json or .csv")

    def to_csv(self, file: str | Path) -> Path:
        """Write one line per instance: image, box, score, then x, y, score of each keypoint."""
        return conversions.write_csv(self, Path(file))

    def to_deeplabcut(self, file: str | Path, scorer: str = "posekit") -> Path:
        """Write a DeepLabCut CSV (scorer, bodyparts, coords; a line per image).

        With several instances in an image the file has DeepLabCut's multi-animal header.
        """
        return conversions.write_deeplabcut(self, Path(file), scorer)

    def to_pandas(self) -> Any:
        """Return a pandas.DataFrame with one line per keypoint; PredictionError without pandas."""
        return conversions.to_pandas(self)

    def to_supervision(self) -> Any:
        """Return supervision's KeyPoints; PredictionError without the package supervision."""
        return conversions.to_supervision(self)
