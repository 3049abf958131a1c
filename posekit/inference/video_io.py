"""Frames out of video files and cameras, and into video files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posekit.errors import PredictionError

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"}
)
CAMERA = "camera:"


@dataclass(frozen=True)
class VideoInfo:
    """A video's metadata; `frames` is the container's claim, or None."""

    size: tuple[int, int]
    fps: float
    frames: int | None


class VideoReader:
    """Frames of a video file, one after the other.

    Attributes:
        name: what results and messages call it.
        file: the file, None for a camera.
        live: frames come at their own pace.
        info: size, frame rate, claimed number of frames.

    Raises:
        PredictionError: there is no such file, it is no video, or it has no frame.
    """

    live = False
    file: Path | None = None

    def __init__(self, file: Path):
        if not file.is_file():
            raise PredictionError(f"{file}: there is no such video")
        self.name, self.file = file.name, file
        self._open(
            cv2.VideoCapture(str(file)),
            f"{file}: no frame of it can be read; the file is empty, cut off, or no video",
        )

    def _open(self, capture: Any, problem: str) -> None:
        self._capture = capture
        first: np.ndarray | None = capture.read()[1] if capture.isOpened() else None
        if first is None:
            self.close()
            raise PredictionError(problem)
        self._first = first
        fps = float(capture.get(cv2.CAP_PROP_FPS))
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.info = VideoInfo(
            size=(first.shape[0], first.shape[1]),
            fps=fps if np.isfinite(fps) and 0 < fps <= 1000 else 25.0,
            frames=count if count > 0 and not self.live else None,
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


class Camera(VideoReader):
    """Frames of a camera until it ends.

    Args:
        number: the device's number.
        open_capture: opens a device; OpenCV's by default.

    Raises:
        PredictionError: there is no such camera, or it delivers no picture.
    """

    live = True

    def __init__(self, number: int, open_capture: Callable[[int], Any] = cv2.VideoCapture):
        self.name = f"camera-{number}"
        self._open(
            open_capture(number),
            f"camera {number}: it delivers no picture; check its number and that no other program "
            "uses it",
        )


def camera_number(entry: str) -> int | None:
    """Return the device of an input like 'camera:0'; None for any other input.

    Raises:
        PredictionError: what follows 'camera:' is no number.
    """
    if not entry.startswith(CAMERA):
        return None
    number = entry.removeprefix(CAMERA)
    if not number.isdecimal():
        raise PredictionError(f"{entry}: expected {CAMERA} and a device number, such as camera:0")
    return int(number)


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
