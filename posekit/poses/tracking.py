"""Identity across video frames, and smoothing of what is followed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from posekit.poses.similarity import box_iou, keypoint_oks
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema


@dataclass
class Track:
    """One followed instance: where it was last seen and the state of its smoothing filter."""

    id: int
    frame: int
    keypoints: np.ndarray
    scores: np.ndarray
    box_xywh: np.ndarray
    smooth: np.ndarray | None = None
    speed: np.ndarray | None = None


@dataclass
class Tracker:
    """Gives each instance of a video an identity, frame after frame.

    Instances are assigned to tracks so that the sum of similarities is largest. Similarity is OKS
    with the schema's sigmas, or the overlap (IoU) of the boxes where the schema has none; a pair
    below `least` is never joined. A track that is not seen for `patience` frames ends. With
    `smoothing`, keypoints pass a one-euro filter whose cutoff rises with their speed, so that
    slow motion is calm and fast motion is not delayed.

    Args:
        schema: the poses' schema.
        least: smallest similarity that joins.
        patience: frames that a track may be lost.
        smoothing: filter the keypoints.
        min_cutoff_hz: cutoff of a keypoint at rest.
        gain: what the cutoff gains in Hz per box side a second.

    Source: Casiez et al., CHI 2012 (one-euro filter), speed counted in sides of the box so that
    one setting suits every size.
    """

    schema: KeypointSchema
    least: float = 0.25
    patience: int = 30
    smoothing: bool = False
    min_cutoff_hz: float = 1.5
    gain: float = 4.0
    _tracks: list[Track] = field(default_factory=list)
    _next_id: int = 1

    def update(self, poses: Poses, frame: int, fps: float) -> Poses:
        """Return a frame's poses with `track_id`, smoothed if asked for.

        Args:
            poses: instances of one frame.
            frame: number of the frame; must rise from call to call.
            fps: frames per second, for the filter.
        """
        self._tracks = [track for track in self._tracks if frame - track.frame <= self.patience]
        ids = np.zeros(len(poses), dtype=np.int64)
        keypoints = np.array(poses.keypoints, dtype=np.float64)
        similarity = self._similarities(poses)
        rows, columns = linear_sum_assignment(-similarity)
        partner = {
            int(row): self._tracks[column]
            for row, column in zip(rows, columns, strict=True)
            if similarity[row, column] >= self.least
        }
        for i in range(len(poses)):
            track = partner.get(i) or self._new_track()
            if self.smoothing:
                size = max(float(poses.box_xywh[i, 2:].max()), 1.0)
                _one_euro(track, keypoints[i], frame, (fps, size, self.min_cutoff_hz, self.gain))
                keypoints[i] = track.smooth
            track.frame, track.keypoints, track.scores = frame, poses.keypoints[i], poses.scores[i]
            track.box_xywh, ids[i] = poses.box_xywh[i], track.id
        return replace(poses, keypoints=keypoints, track_id=ids)

    def _new_track(self) -> Track:
        empty = np.zeros(0)
        track = Track(self._next_id, 0, empty, empty, empty)
        self._tracks.append(track)
        self._next_id += 1
        return track

    def _similarities(self, poses: Poses) -> np.ndarray:
        """float64 (instances, tracks)."""
        if not self._tracks or not len(poses):
            return np.zeros((len(poses), len(self._tracks)))
        boxes = np.stack([track.box_xywh for track in self._tracks])
        if self.schema.sigmas is None:
            return box_iou(poses.box_xywh, boxes)
        points = np.stack([track.keypoints for track in self._tracks])
        weights = np.stack([track.scores for track in self._tracks])
        squared = ((poses.keypoints[:, None] - points[None]) ** 2).sum(-1)
        area = np.maximum(boxes[:, 2] * boxes[:, 3], 1.0)
        likeness = keypoint_oks(squared, area[None], np.asarray(self.schema.sigmas))
        trust = np.minimum(poses.scores[:, None], weights[None]).clip(1e-6)
        return (likeness * trust).sum(-1) / trust.sum(-1)


def _one_euro(
    track: Track, points: np.ndarray, frame: int, settings: tuple[float, float, float, float]
) -> None:
    """Move the track's filter on to the points (K, 2) of a frame."""
    fps, size, min_cutoff, gain = settings
    if track.smooth is None or track.speed is None:
        track.smooth, track.speed = points.copy(), np.zeros(len(points))
        return
    step = max(frame - track.frame, 1) / fps
    measured = np.linalg.norm(points - track.smooth, axis=1) / size / step
    track.speed = track.speed + _share(1.0, step) * (measured - track.speed)
    alpha = _share(min_cutoff + gain * track.speed, step)
    track.smooth = track.smooth + np.asarray(alpha)[:, None] * (points - track.smooth)


def _share(cutoff_hz: float | np.ndarray, step: float) -> float | np.ndarray:
    """Return the weight of a new sample in a low-pass filter of this cutoff."""
    angle = 2 * np.pi * cutoff_hz * step
    return angle / (angle + 1)
