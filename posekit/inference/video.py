"""Video in, poses and overlay video out, at constant memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np

from posekit.drawing import PALETTE, PoseStyle, draw_boxes, draw_poses
from posekit.errors import PredictionError
from posekit.inference.boxes_file import BoxFile
from posekit.inference.fusion import fuse, union_schema
from posekit.inference.images import LoadedImage
from posekit.inference.predictor import ALL, Predictor, Work, check_boxes
from posekit.inference.results import Poses
from posekit.inference.tracking import Tracker
from posekit.schema import KeypointSchema

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"}
)
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Look:
    """How predictions are followed and drawn.

    Attributes:
        overlay: write pictures or a video with the poses drawn in.
        threshold: keypoints that score less are not drawn; files hold them all.
        track: give instances an identity across the frames of a video.
        smooth: one-euro smoothing of tracked keypoints.
    """

    overlay: bool = True
    threshold: float = 0.15
    track: bool = True
    smooth: bool = False


@dataclass(frozen=True)
class VideoInfo:
    """What a video says of itself; `frames` is the container's claim, or None."""

    size: tuple[int, int]
    fps: float
    frames: int | None


class VideoReader:
    """Frames of a video file, one after the other.

    Raises:
        PredictionError: there is no such file, it is no video, or it has no frame.
    """

    def __init__(self, file: Path):
        if not file.is_file():
            raise PredictionError(f"{file}: there is no such video")
        self.file = file
        self._capture = cv2.VideoCapture(str(file))
        first: np.ndarray | None = self._capture.read()[1] if self._capture.isOpened() else None
        if first is None:
            self.close()
            raise PredictionError(
                f"{file}: no frame of it can be read; the file is empty, cut off, or no video"
            )
        self._first = first
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.info = VideoInfo(
            size=(self._first.shape[0], self._first.shape[1]),
            fps=fps if np.isfinite(fps) and 0 < fps <= 1000 else 25.0,
            frames=count if count > 0 else None,
        )

    def __iter__(self) -> Iterator[np.ndarray]:
        frame: np.ndarray | None = self._first
        while frame is not None:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            good, frame = self._capture.read()
            if not good:
                return

    def close(self) -> None:
        """Let the file go."""
        self._capture.release()


class VideoSink:
    """Writes frames to an MP4 file; odd sizes get one more row or column.

    Raises:
        PredictionError: the file cannot be written.
    """

    def __init__(self, file: Path, info: VideoInfo):
        self.file = file
        self._height, self._width = (side + side % 2 for side in info.size)
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(file), code, info.fps, (self._width, self._height))
        if not self._writer.isOpened():
            raise PredictionError(f"{file}: the video cannot be written")

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, uint8 (H, W, 3) RGB."""
        height, width = frame.shape[:2]
        if (height, width) != (self._height, self._width):
            frame = cv2.copyMakeBorder(
                frame, 0, max(self._height - height, 0), 0, max(self._width - width, 0),
                cv2.BORDER_REPLICATE,
            )[: self._height, : self._width]  # fmt: skip
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the file."""
        self._writer.release()


def predict_video(
    predictor: Predictor,
    file: Path,
    target: Path,
    *,
    head: str | None = None,
    boxes: BoxFile | None = None,
    look: Look | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Predict every frame of a video.

    Writes TARGET.jsonl: a line that describes the video and the schema, then a line for each frame
    as soon as it is done; and TARGET.mp4 with the poses drawn in. Memory does not grow with the
    number of frames. With head="all" the fused poses are followed, drawn and written.

    Args:
        predictor: the model.
        file: the video.
        target: path of the results without ending.
        head: as in `Predictor.predict`.
        boxes: boxes of each frame; whole frames if left out.
        look: drawing, tracking and smoothing.
        progress: called with name, frames done and frames in all (None if unknown).

    Returns:
        The files written.

    Raises:
        PredictionError: the video cannot be read, or a file not written.
    """
    look = look or Look()
    head = head or predictor.choose(None)[0]
    with ExitStack() as stack:
        reader = VideoReader(file)
        stack.callback(reader.close)
        schema = _schema(predictor, head)
        tracker = Tracker(schema, smoothing=look.smooth) if look.track or look.smooth else None
        lines = target.with_name(f"{target.name}.jsonl")
        stream = stack.enter_context(_open(lines))
        written = [lines]
        sink = None
        if look.overlay:
            sink = VideoSink(target.with_name(f"{target.name}.mp4"), reader.info)
            stack.callback(sink.close)
            written.append(sink.file)
        header = {
            "video": file.name, "fps": reader.info.fps, "height": reader.info.size[0],
            "width": reader.info.size[1], "head": head, "schema": schema.to_dict(),
        }  # fmt: skip
        stream.write(json.dumps(header) + "\n")
        work = _frames(reader, file, boxes)
        for number, (image, heads) in enumerate(predictor.stream(work, head)):
            poses = fuse(heads) if head == ALL else heads[head]
            if tracker is not None:
                poses = tracker.update(poses, number, reader.info.fps)
            stream.write(json.dumps(frame_record(poses, number, reader.info.fps)) + "\n")
            if sink is not None:
                sink.write(draw(image.pixels, poses, look))
            if progress is not None:
                progress(file.name, number + 1, reader.info.frames)
    return written


def frame_record(poses: Poses, number: int, fps: float) -> dict[str, Any]:
    """Give a frame's line: number, time and each instance's identity, box, keypoints, score."""
    values = np.concatenate([poses.keypoints, poses.scores[..., None]], axis=2)
    instances = []
    for i in range(len(poses)):
        entry: dict[str, Any] = {} if poses.track_id is None else {"track": int(poses.track_id[i])}
        entry["score"] = round(float(poses.instance_scores[i]), 5)
        entry["bbox"] = [round(float(v), 2) for v in poses.box_xywh[i]]
        entry["keypoints"] = [[round(float(v), 4) for v in row] for row in values[i]]
        instances.append(entry)
    return {"frame": number, "time_s": round(number / fps, 5), "poses": instances}


def draw(image: np.ndarray, poses: Poses, look: Look) -> np.ndarray:
    """Draw poses into a picture; boxes and identities too where there are several instances."""
    if len(poses) > 1:
        tags = np.arange(len(poses)) if poses.track_id is None else poses.track_id
        colours = [PALETTE[int(tag) % len(PALETTE)] for tag in tags]
        labels = [] if poses.track_id is None else [f"#{tag}" for tag in tags]
        image = draw_boxes(image, poses.box_xywh, labels, colours)
    style = PoseStyle(threshold=look.threshold)
    return draw_poses(image, poses.keypoints, poses.schema, scores=poses.scores, style=style)


def _frames(reader: VideoReader, file: Path, boxes: BoxFile | None) -> Iterator[Work]:
    for number, pixels in enumerate(reader):
        image = LoadedImage(f"{file}, frame {number}", pixels)
        given = None if boxes is None else boxes.of(file, number)
        yield Work(image, check_boxes(given, image))


def _schema(predictor: Predictor, head: str) -> KeypointSchema:
    schemas = [predictor.model.head(name).schema for name in predictor.choose(head)]
    return union_schema(schemas) if head == ALL else schemas[0]


def _open(file: Path) -> TextIO:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open("w", encoding="utf-8")
    except OSError as error:
        raise PredictionError(f"{file}: cannot be written ({error.strerror})") from None
