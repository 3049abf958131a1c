"""The lines that a video's poses are kept in, and how a stopped run finds its place in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from posekit.errors import PredictionError
from posekit.poses.table import Poses


def frame_record(poses: Poses, number: int, fps: float) -> dict[str, Any]:
    """Return a frame's line: number, time and each instance's identity, box, keypoints, score."""
    values = np.concatenate([poses.keypoints, poses.scores[..., None]], axis=2)
    instances = []
    for i in range(len(poses)):
        entry: dict[str, Any] = {} if poses.track_id is None else {"track": int(poses.track_id[i])}
        entry["score"] = round(float(poses.instance_scores[i]), 5)
        entry["bbox"] = [round(float(v), 2) for v in poses.box_xywh[i]]
        entry["bbox_score"] = round(float(poses.box_scores[i]), 4)
        entry["keypoints"] = [[round(float(v), 4) for v in row] for row in values[i]]
        instances.append(entry)
    return {"frame": number, "time_s": round(number / fps, 5), "poses": instances}


class VideoLog:
    """A video's results: partial while it runs, whole at its end."""

    def __init__(self, target: Path, overlay: bool):
        self.lines = target.with_name(f"{target.name}.jsonl")
        self.video = target.with_name(f"{target.name}.mp4") if overlay else None
        self.part_lines = target.with_name(f"{target.name}.partial.jsonl")
        self.part_video = target.with_name(f"{target.name}.partial.mp4")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PredictionError(f"{target.parent}: cannot be made ({error.strerror})") from None

    def recorded(self, header: Mapping[str, Any]) -> int:
        """Count the frames that a stopped run left, and cut off a line that it did not finish."""
        if not self.part_lines.is_file():
            return 0
        frames = length = 0
        with self.part_lines.open("rb") as stream:
            for number, line in enumerate(stream):
                record = _parsed(line)
                if number == 0 and record is not None and _same(record) != _same(header):
                    raise PredictionError(
                        f"{self.part_lines}: a stopped run of another video or head; delete it or "
                        "choose another folder"
                    )
                if record is None or (number > 0 and record.get("frame") != number - 1):
                    break
                frames, length = number, length + len(line)
        with self.part_lines.open("rb+") as stream:
            stream.truncate(length)
        return frames

    def replay(self, frames: int) -> Iterator[dict[str, Any]]:
        """Return the lines of the frames that a stopped run left."""
        if frames:
            with self.part_lines.open(encoding="utf-8") as stream:
                yield from (json.loads(line) for line in islice(stream, 1, 1 + frames))

    def open(self, header: Mapping[str, Any], earlier: int) -> TextIO:
        """Open the lines to add to them; without earlier frames they begin with the header."""
        try:
            stream = self.part_lines.open("a" if earlier else "w", encoding="utf-8", buffering=1)
            if not earlier:
                stream.write(json.dumps(header) + "\n")
        except OSError as error:
            raise PredictionError(
                f"{self.part_lines}: cannot be written ({error.strerror})"
            ) from None
        return stream

    def finish(self) -> list[Path]:
        """Return the files their final names."""
        self.part_lines.replace(self.lines)
        if self.video is None:
            return [self.lines]
        self.part_video.replace(self.video)
        return [self.lines, self.video]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _same(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must agree in a run that goes on: not where the video was."""
    return {key: value for key, value in header.items() if key != "file"}
