"""Video in, poses and overlay video out, at constant memory; a stopped run can go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from posekit.data.any_image import LoadedImage
from posekit.inference.detectors import Detector
from posekit.inference.predictor import ALL, PendingImage, Predictor
from posekit.inference.video_io import (
    VIDEO_SUFFIXES,
    Camera,
    VideoInfo,
    VideoReader,
    VideoSink,
    camera_number,
)
from posekit.inference.video_log import VideoLog, frame_record
from posekit.poses.boxes import BoxFile
from posekit.poses.fusion import fuse, union_schema
from posekit.poses.pictures import draw
from posekit.poses.read import poses_of_frames
from posekit.poses.table import Poses
from posekit.poses.tracking import Tracker
from posekit.schema import KeypointSchema
from posekit.warp import check_boxes

__all__ = [
    "VIDEO_SUFFIXES",
    "Camera",
    "Progress",
    "VideoDone",
    "VideoInfo",
    "VideoOptions",
    "VideoReader",
    "VideoSink",
    "camera_number",
    "draw",
    "find_boxes",
    "predict_video",
]

Progress = Callable[[str, int, int | None], None]
_TOLERATED_FRAMES = 0.95


@dataclass(frozen=True)
class VideoOptions:
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
class VideoDone:
    """What was made of a video.

    Attributes:
        written: the files.
        frames: how many frames they hold.
        resumed: how many of them an earlier, stopped run had predicted.
        warning: a sentence if the file ended long before the number of frames that it claims.
    """

    written: list[Path]
    frames: int
    resumed: int
    warning: str | None


def predict_video(
    predictor: Predictor,
    source: Path | VideoReader,
    target: Path,
    *,
    head: str | None = None,
    boxes: BoxFile | Detector | None = None,
    options: VideoOptions | None = None,
    progress: Progress | None = None,
    resume: bool = False,
    frames: int | None = None,
) -> VideoDone:
    """Predict every frame of a video or of a camera.

    Writes TARGET.jsonl: a line that describes the video and the schema, then a line for each
    frame; and TARGET.mp4 with the poses drawn in. Until the end is reached they are called
    TARGET.partial.*, with a line as soon as a frame is done. Memory does not grow with the number
    of frames. With head="all" the fused poses are followed, drawn and written. Ctrl-C ends a
    camera's recording as its end would.

    Args:
        predictor: the model.
        source: a video file, or an opened reader or camera (closed at the end).
        target: path of the results without ending.
        head: as in `Predictor.predict`.
        boxes: boxes of each frame or a detector; whole frames if left out.
        options: drawing, tracking and smoothing.
        progress: called with name, frames done and frames in all (None if unknown).
        resume: go on after the last frame of a stopped run; what it predicted is not predicted
            again, and the result is that of an uninterrupted run (up to the rounding of batches
            that begin at another frame).
        frames: stop after so many frames.

    Raises:
        PredictionError: the video cannot be read, a file not written, or the stopped run was of
            another video or head.
    """
    options = options or VideoOptions()
    head = head or predictor.choose(None)[0]
    schema = _schema(predictor, head)
    with ExitStack() as stack:
        reader = source if isinstance(source, VideoReader) else VideoReader(source)
        stack.callback(reader.close)
        files = VideoLog(target, options.overlay)
        header = {
            "video": reader.name, "fps": reader.info.fps, "height": reader.info.size[0],
            "width": reader.info.size[1], "head": head, "schema": schema.to_dict(),
        }  # fmt: skip
        if reader.file is not None:
            header["file"] = str(reader.file.absolute())
        earlier = files.recorded(header) if resume and not reader.live else 0
        follow = _Follower(schema, options, reader.info.fps)
        sink = VideoSink(files.part_video, reader.info) if options.overlay else None
        if sink is not None:
            stack.callback(sink.close)
        images = islice(_images(reader, source), frames)
        count = 0
        for record, image in zip(files.replay(earlier), images, strict=False):
            about = schema, head, (image.name,), (image.size,), files.part_lines
            poses = follow(poses_of_frames([record], *about, before_smoothing=True), count)[0]
            _show(sink, image, poses, options)
            count += 1
        stream = stack.enter_context(files.open(header, earlier))
        work = (find_boxes(boxes, image, reader.name, n) for n, image in enumerate(images, count))
        at_once = 1 if reader.live else None
        try:
            for image, heads in predictor.stream(work, head, images_at_once=at_once):
                found = fuse(heads) if head == ALL else heads[head]
                poses, record = follow(found, count)
                stream.write(json.dumps(record) + "\n")
                _show(sink, image, poses, options)
                count += 1
                if progress is not None:
                    progress(reader.name, count, frames or reader.info.frames)
        except KeyboardInterrupt:
            if not reader.live:
                raise
    claimed = min(filter(None, (reader.info.frames, frames)), default=0)
    return VideoDone(files.finish(), count, earlier, _warning(reader, count, claimed))


def find_boxes(
    boxes: BoxFile | Detector | None, image: LoadedImage, name: str | Path, frame: int = 0
) -> PendingImage:
    """Return an image's boxes: of a file, by a detector, or the whole image.

    Raises:
        PredictionError: a box of the file that cannot be; see `check_boxes`.
    """
    if boxes is None:
        return PendingImage(image, check_boxes(None, image.size, image.name))
    if isinstance(boxes, BoxFile):
        return PendingImage(image, check_boxes(boxes.of(name, frame), image.size, image.name))
    found, scores = boxes.detect(image.pixels)
    return PendingImage(image, found, scores)


class _Follower:
    """Follows and smooths poses as they will be read back, so that a replay gives the same."""

    def __init__(self, schema: KeypointSchema, options: VideoOptions, fps: float):
        self._tracker = (
            Tracker(schema, smoothing=options.smooth) if options.track or options.smooth else None
        )
        self._smooth, self._fps = options.smooth, fps

    def __call__(self, poses: Poses, number: int) -> tuple[Poses, dict[str, Any]]:
        """Return a frame's poses with identities, and its line."""
        record = frame_record(poses, number, self._fps)
        if self._tracker is None:
            return poses, record
        names, sizes = poses.image_names, poses.image_sizes
        about = poses.schema, poses.head, names, sizes, Path(names[0])
        read_back = poses_of_frames([record], *about, before_smoothing=True)
        followed = self._tracker.update(read_back, number, self._fps)
        tracked = frame_record(followed, number, self._fps)
        if self._smooth:
            for entry, before in zip(tracked["poses"], record["poses"], strict=True):
                entry["raw"] = before["keypoints"]
        return followed, tracked


def _show(sink: VideoSink | None, image: LoadedImage, poses: Poses, options: VideoOptions) -> None:
    if sink is not None:
        sink.write(draw(image.pixels, poses, options.threshold))


def _images(reader: VideoReader, source: Path | VideoReader) -> Iterator[LoadedImage]:
    name = reader.name if isinstance(source, VideoReader) else str(source)
    for number, pixels in enumerate(reader):
        yield LoadedImage(f"{name}, frame {number}", pixels)


def _warning(reader: VideoReader, count: int, claimed: int) -> str | None:
    if reader.live or count >= _TOLERATED_FRAMES * claimed:
        return None
    return (
        f"{reader.name}: only {count} of the {claimed} frames that it claims could be read; the "
        "file may be damaged"
    )


def _schema(predictor: Predictor, head: str) -> KeypointSchema:
    schemas = [predictor.model.head(name).schema for name in predictor.choose(head)]
    return union_schema(schemas) if head == ALL else schemas[0]
