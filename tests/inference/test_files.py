"""From files to files: photographs, folders and videos, with boxes from a file."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from inference_helpers import SCHEMA_A, head

from posekit.errors import PredictionError
from posekit.inference.files import find_inputs, predict_files
from posekit.inference.predictor import Predictor
from posekit.inference.video import VideoInfo, VideoOptions, VideoReader, VideoSink
from posekit.poses.boxes import BoxFile


@pytest.fixture
def predictor(make_model) -> Predictor:
    return Predictor(make_model({"a": head(SCHEMA_A)}), device="cpu", batch_size=4)


def make_clip(file: Path, frames: int, size: tuple[int, int] = (48, 64), fps: float = 10) -> Path:
    code = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(file), code, fps, (size[1], size[0]))
    for i in range(frames):
        frame = np.full((*size, 3), 40, dtype=np.uint8)
        cv2.circle(frame, (10 + i, 20), 6, (200, 200, 255), -1)
        writer.write(frame)
    writer.release()
    return file


def test_a_photograph_gives_json_and_picture_beside_each_other(predictor, photo, tmp_path):
    done = predict_files(predictor, [photo], tmp_path / "out")
    assert [path.name for path in done.written] == ["photo.poses.json", "photo.poses.jpg"]
    data = json.loads(done.written[0].read_text())
    expected = predictor.predict(photo)
    points = np.array(data["annotations"][0]["keypoints"]).reshape(-1, 3)[:, :2]
    assert np.abs(points - expected.keypoints[0]).max() < 1e-3
    assert cv2.imread(str(done.written[1])).shape == (120, 160, 3)


def test_all_heads_write_each_head_and_the_fused_pose(make_model, photo, tmp_path):
    predictor = Predictor(make_model(), device="cpu")
    done = predict_files(
        predictor, [photo], tmp_path / "out", head="all", options=VideoOptions(overlay=False)
    )
    data = json.loads(done.written[0].read_text())
    assert set(data["heads"]) == {"a", "b"}
    assert data["fused"]["categories"][0]["name"] == "a+b"
    assert len(done.written) == 1


def test_a_folder_keeps_its_structure_and_a_bad_file_is_passed_over(predictor, photo, tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    photo.rename(folder / "deep" / "a.png")
    (folder / "broken.jpg").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("no image")
    done = predict_files(predictor, [folder], tmp_path / "out", options=VideoOptions(overlay=False))
    assert done.written == [tmp_path / "out" / "deep" / "a.poses.json"]
    assert list(done.failed) == [str(folder / "broken.jpg")]
    assert "cannot be decoded" in done.failed[str(folder / "broken.jpg")]


def test_inputs_that_are_not_there_are_named(tmp_path):
    for entry, message in (
        (tmp_path / "gone.jpg", r"gone\.jpg: there is no such file"),
        (tmp_path / "*.jpg", "found no image or video"),
        (tmp_path, "found no image or video"),
    ):
        with pytest.raises(PredictionError, match=message):
            find_inputs([entry])


def test_a_file_named_twice_is_predicted_once(photo):
    assert len(find_inputs([photo, photo.parent, str(photo.parent / "*.png")])) == 1


def test_boxes_from_a_file_are_used_and_an_unlisted_image_has_no_poses(predictor, photo, tmp_path):
    other = photo.with_name("other.png")
    other.write_bytes(photo.read_bytes())
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"photo.png": [[1, 2, 60, 70], [5, 5, 40, 40]]}))
    done = predict_files(
        predictor,
        [photo, other],
        tmp_path / "out",
        boxes=boxes,
        options=VideoOptions(overlay=False),
    )
    assert done.poses == 2
    assert done.images == 2


@pytest.mark.parametrize(
    "content",
    [
        {"photo.png": [[1, 2, 3, 4]]},
        {"photo.png": {"0": [[1, 2, 3, 4]]}},
        [{"file_name": "photo.png", "bbox": [1, 2, 3, 4]}],
        [{"image": "folder/photo.png", "bbox": [1, 2, 3, 4], "frame": 0}],
        [{"image": "photo.png", "bbox": [1, 2, 3, 4], "frame": "0"}],
        {"photo.png": [1, 2, 3, 4]},
        {
            "images": [{"id": 7, "file_name": "photo.png"}],
            "annotations": [{"image_id": 7, "bbox": [1, 2, 3, 4]}],
        },
    ],
)
def test_every_form_of_a_box_file_is_read(tmp_path, content):
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(content))
    assert BoxFile(file).of("some/folder/photo.png").tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("5", "found 5, expected"),
        ('[{"bbox": [1, 2, 3, 4]}]', "entry 0: found .*, expected"),
        ('{"a.jpg": [[1, 2]]}', r"'a\.jpg': box: found \[1, 2\], expected 4 numbers"),
        ('{"a.jpg": {"first": []}}', r"'a\.jpg': found .*, expected"),
        (
            '{"images": [], "annotations": [{"bbox": []}]}',
            "0: key 'image_id' is missing",
        ),
        ('{"images": [5], "annotations": []}', "image 0: image: found 5, expected an object"),
        ('{"a.jpg": [[1, 2, 3, NaN]]}', r"'a\.jpg': box: found nan, expected a finite number"),
    ],
)
def test_a_wrong_box_file_is_named_with_the_entry(tmp_path, text, message):
    file = tmp_path / "boxes.json"
    file.write_text(text)
    with pytest.raises(PredictionError, match=rf"boxes\.json.*{message}"):
        BoxFile(file)


def test_boxes_that_fit_no_input_are_an_error(predictor, photo, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"another.png": [[1, 2, 3, 4]]}))
    with pytest.raises(PredictionError, match=r"none of its 1 names .*another\.png"):
        predict_files(predictor, [photo], tmp_path / "out", boxes=boxes)


def test_a_video_gives_a_line_per_frame_and_an_overlay_of_all_frames(predictor, tmp_path):
    clip = make_clip(tmp_path / "clip.avi", 7)
    seen = []
    done = predict_files(
        predictor, [clip], tmp_path / "out", progress=lambda *state: seen.append(state)
    )
    lines, overlay = done.written
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert records[0]["schema"]["keypoints"] == list(SCHEMA_A.keypoints)
    assert [record["frame"] for record in records[1:]] == list(range(7))
    assert records[3]["time_s"] == pytest.approx(0.2)
    assert {record["poses"][0]["track"] for record in records[1:]} == {1}
    assert seen[-1] == ("clip.avi", 7, 7)
    reader = VideoReader(overlay)
    assert len(list(reader)) == 7
    reader.close()


def test_video_poses_equal_those_of_its_frames_as_images(predictor, tmp_path):
    clip = make_clip(tmp_path / "clip.avi", 3)
    done = predict_files(predictor, [clip], tmp_path / "out", options=VideoOptions(overlay=False))
    lines = [json.loads(line) for line in done.written[0].read_text().splitlines()][1:]
    reader = VideoReader(clip)
    single = predictor.predict(list(reader))
    reader.close()
    got = np.array([line["poses"][0]["keypoints"] for line in lines])[..., :2]
    assert np.abs(got - single.keypoints).max() < 1e-3


def test_a_video_of_odd_size_loses_no_row_and_no_column(tmp_path):
    """OpenCV's writer would cut the last row and column off, or write no frame at all."""
    sink = VideoSink(tmp_path / "odd.mp4", VideoInfo((47, 63), 10.0, None))
    for _ in range(2):
        sink.write(np.full((47, 63, 3), (200, 30, 60), dtype=np.uint8))
    sink.close()
    reader = VideoReader(tmp_path / "odd.mp4")
    frames = list(reader)
    reader.close()
    assert reader.info.size == (48, 64)
    assert len(frames) == 2
    assert np.abs(frames[1][46, 62].astype(int) - (200, 30, 60)).max() < 12


@pytest.mark.parametrize("data", [b"", b"RIFF nothing of a video"])
def test_a_video_without_frames_is_one_sentence(predictor, tmp_path, data):
    file = tmp_path / "empty.mp4"
    file.write_bytes(data)
    with pytest.raises(PredictionError, match=r"empty\.mp4: no frame of it can be read"):
        predict_files(predictor, [file], tmp_path / "out")
    with pytest.raises(PredictionError, match="there is no such video"):
        VideoReader(tmp_path / "gone.mp4")


def test_a_video_holds_only_a_few_frames_in_memory(predictor, tmp_path, monkeypatch):
    """Counts the frames that are alive while a longer clip runs through."""
    clip = make_clip(tmp_path / "long.avi", 60)
    ahead = []
    reader_frames = VideoReader.__iter__

    def counted(self):
        for number, frame in enumerate(reader_frames(self)):
            ahead.append(number)
            yield frame

    most = 0

    def progress(_name, done, _total):
        nonlocal most
        most = max(most, len(ahead) - done)

    monkeypatch.setattr(VideoReader, "__iter__", counted)
    predict_files(
        predictor, [clip], tmp_path / "out", options=VideoOptions(overlay=False), progress=progress
    )
    assert 0 < most <= predictor.batch_size
