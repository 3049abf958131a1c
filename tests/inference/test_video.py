"""Videos and cameras: a stopped run goes on, a camera ends well, and damage is told."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from inference_helpers import SCHEMA_A, head
from test_files import make_clip

from posekit.errors import PredictionError
from posekit.inference import video as video_module
from posekit.inference.files import predict_files
from posekit.inference.predictor import Predictor
from posekit.inference.video import Camera, VideoOptions, VideoReader, camera_number, predict_video


@pytest.fixture
def predictor(make_model) -> Predictor:
    return Predictor(make_model({"a": head(SCHEMA_A)}), device="cpu", batch_size=2)


class Stopped(Exception):
    """What ends a run in these tests."""


def stop_after(frames: int):
    def progress(_name, done, _total):
        if done == frames:
            raise Stopped

    return progress


def lines_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("cut", [0, 25])
def test_a_stopped_video_goes_on_and_equals_an_uninterrupted_run(predictor, tmp_path, smooth, cut):
    clip = make_clip(tmp_path / "clip.avi", 9)
    predictor.batch_size, options = 1, VideoOptions(smooth=smooth)
    whole = predict_video(predictor, clip, tmp_path / "whole", options=options)
    with pytest.raises(Stopped):
        predict_video(predictor, clip, tmp_path / "part", options=options, progress=stop_after(5))
    partial = tmp_path / "part.partial.jsonl"
    assert not (tmp_path / "part.jsonl").exists()
    os.truncate(partial, partial.stat().st_size - cut)  # a line that was not finished
    rows = []
    predictor.model.backbone.register_forward_hook(lambda _m, args, _o: rows.append(len(args[0])))
    done = predict_video(predictor, clip, tmp_path / "part", options=options, resume=True)
    assert done.resumed == (4 if cut else 5)
    assert sum(rows) == 9 - done.resumed
    assert lines_of(done.written[0]) == lines_of(whole.written[0])
    assert not partial.exists()
    reader = VideoReader(tmp_path / "part.mp4")
    assert len(list(reader)) == 9
    reader.close()


def test_a_stopped_run_of_another_head_is_refused(predictor, tmp_path):
    clip = make_clip(tmp_path / "clip.avi", 4)
    (tmp_path / "part.partial.jsonl").write_text('{"video": "other.avi"}\n')
    with pytest.raises(PredictionError, match="a stopped run of another video or head"):
        predict_video(predictor, clip, tmp_path / "part", resume=True)


def test_what_is_done_is_left_out_and_other_settings_are_refused(predictor, tmp_path, photo):
    clip = make_clip(tmp_path / "clip.avi", 3)
    out, rows = tmp_path / "out", []
    first = predict_files(predictor, [photo, clip], out)
    predictor.model.backbone.register_forward_hook(lambda *_: rows.append(1))
    again = predict_files(predictor, [photo, clip], out, resume=True)
    assert (again.already, again.images, again.videos, again.written, rows) == (2, 0, 0, [], [])
    first.written[0].unlink()
    assert predict_files(predictor, [photo, clip], out, resume=True).images == 1
    with pytest.raises(PredictionError, match=r"another smooth \(False, now True\)"):
        predict_files(predictor, [photo], out, options=VideoOptions(smooth=True), resume=True)


class FakeDevice:
    """A camera that gives so many frames, or Ctrl-C after them."""

    def __init__(self, frames: int, interrupt: bool = False):
        self.left, self.interrupt, self.released = frames, interrupt, False

    def isOpened(self) -> bool:
        return True

    def get(self, _what: int) -> float:
        return 30.0

    def read(self):
        if not self.left:
            if self.interrupt:
                raise KeyboardInterrupt
            return False, None
        self.left -= 1
        return True, np.full((48, 64, 3), 40, dtype=np.uint8)

    def release(self) -> None:
        self.released = True


@pytest.mark.parametrize("interrupt", [False, True])
def test_a_camera_is_answered_frame_by_frame_and_ctrl_c_ends_it_well(
    predictor, tmp_path, interrupt
):
    device, batches = FakeDevice(5, interrupt), []
    predictor.model.backbone.register_forward_hook(lambda _m, a, _o: batches.append(len(a[0])))
    done = predict_video(predictor, Camera(3, lambda _number: device), tmp_path / "cam")
    assert done.frames == 5
    assert batches == [1] * 5
    assert len(lines_of(tmp_path / "cam.jsonl")) == 6
    assert lines_of(tmp_path / "cam.jsonl")[0]["video"] == "camera-3"
    assert device.released


def test_a_camera_is_an_input_and_stops_after_the_frames_asked_for(
    predictor, tmp_path, monkeypatch
):
    monkeypatch.setattr(Camera.__init__, "__defaults__", (lambda _number: FakeDevice(100),))
    done = predict_files(
        predictor, ["camera:1"], tmp_path, frames=4, options=VideoOptions(overlay=False)
    )
    assert [path.name for path in done.written] == ["camera-1.poses.jsonl"]
    assert len(lines_of(done.written[0])) == 5


def test_a_camera_that_is_not_there_is_one_sentence():
    class Nothing(FakeDevice):
        def isOpened(self) -> bool:
            return False

    with pytest.raises(PredictionError, match="camera 7: it delivers no picture"):
        Camera(7, lambda _number: Nothing(0))
    assert camera_number("photo.jpg") is None
    with pytest.raises(PredictionError, match="expected camera: and a device number"):
        camera_number("camera:front")


def test_a_video_that_ends_early_is_told(predictor, tmp_path):
    whole = make_clip(tmp_path / "whole.avi", 40)
    data = whole.read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: len(data) // 2])
    done = predict_files(
        predictor, [cut, whole], tmp_path / "out", options=VideoOptions(overlay=False)
    )
    assert done.videos == 2
    (warning,) = done.warnings
    assert "cut.avi: only" in warning
    assert "of the 40 frames that it claims" in warning


def test_a_detector_is_asked_for_every_frame(predictor, tmp_path):
    class Moving:
        name, calls = "moving", 0

        def detect(self, pixels):
            self.calls += 1
            return np.array([[float(self.calls), 5, 30, 30]]), np.array([0.75])

    clip = make_clip(tmp_path / "clip.avi", 4)
    done = predict_video(predictor, clip, tmp_path / "out", boxes=Moving())
    frames = lines_of(done.written[0])[1:]
    assert [frame["poses"][0]["bbox"][0] for frame in frames] == [1, 2, 3, 4]
    assert {frame["poses"][0]["track"] for frame in frames} == {1}
    assert frames[0]["poses"][0]["bbox_score"] == 0.75


def test_frames_without_an_instance_have_a_line_and_a_picture(predictor, tmp_path, monkeypatch):
    class Nobody:
        name = "nobody"

        def detect(self, pixels):
            return np.zeros((0, 4)), np.zeros(0)

    shown = []
    monkeypatch.setattr(video_module, "_show", lambda *arguments: shown.append(arguments))
    clip = make_clip(tmp_path / "clip.avi", 3)
    done = predict_video(
        predictor, clip, tmp_path / "o", boxes=Nobody(), options=VideoOptions(overlay=False)
    )
    assert [frame["poses"] for frame in lines_of(done.written[0])[1:]] == [[], [], []]
    assert len(shown) == 3


def test_a_stopped_video_goes_on_after_it_was_moved(predictor, tmp_path):
    clip, moved = make_clip(tmp_path / "clip.avi", 6), tmp_path / "moved" / "clip.avi"
    predictor.batch_size = 1
    with pytest.raises(Stopped):
        predict_video(predictor, clip, tmp_path / "part", progress=stop_after(3))
    moved.parent.mkdir()
    clip.rename(moved)
    done = predict_video(predictor, moved, tmp_path / "part", resume=True)
    assert (done.frames, done.resumed) == (6, 3)
    assert lines_of(tmp_path / "part.jsonl")[0]["file"] == str(clip)
