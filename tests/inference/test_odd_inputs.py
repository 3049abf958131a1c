"""Whatever lies in a folder: each file gives the right result or one clear sentence."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from inference_helpers import SCHEMA_A, head
from PIL import Image
from test_files import make_clip

from posekit.errors import PredictionError
from posekit.inference.files import predict_files
from posekit.inference.predictor import Predictor
from posekit.inference.runtime import RuntimePredictor
from posekit.inference.video import VideoOptions


def write_odd_images(folder: Path, picture: np.ndarray) -> tuple[set[str], set[str]]:
    """Write good but unusual files and damaged ones; gives their names."""
    image = Image.fromarray(picture)
    turned = Image.Exif()
    turned[0x0112] = 6
    for name, mode in (
        ("grey.png", "L"), ("alpha.png", "RGBA"), ("palette.png", "P"), ("bits.png", "1"),
        ("print.jpg", "CMYK"), ("grey_alpha.png", "LA"),
    ):  # fmt: skip
        image.convert(mode).save(folder / name)
    image.save(folder / "turned.jpg", exif=turned)
    image.resize((1, 1)).save(folder / "dot.png")
    image.resize((63, 47)).save(folder / "odd.webp")
    cv2.imwrite(str(folder / "deep.png"), picture.astype(np.uint16) * 257)
    good = {path.name for path in folder.iterdir()}
    image.save(folder / "whole.jpg")
    for name, source in (("cut.jpg", "whole.jpg"), ("cut.png", "alpha.png")):
        data = (folder / source).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
    (folder / "whole.jpg").unlink()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("not a picture")
    Image.new("L", (900, 800)).save(folder / "huge.png")
    (folder / "nothing.mp4").write_bytes(b"")
    (folder / "text.avi").write_text("not a video")
    return good, {path.name for path in folder.iterdir()} - good


def test_each_odd_file_is_predicted_or_named_in_one_sentence(make_model, picture, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    good, bad = write_odd_images(folder, picture)
    make_clip(folder / "clip.avi", 3, size=(46, 62))
    predictor = Predictor(make_model({"a": head(SCHEMA_A)}), device="cpu", max_pixels=500_000)
    done = predict_files(predictor, [folder], tmp_path / "out", options=VideoOptions(smooth=True))
    assert (done.images, done.videos) == (len(good), 1)
    assert {Path(name).name for name in done.failed} == bad
    for name, sentence in done.failed.items():
        assert sentence.startswith(name)
        assert "\n" not in sentence
        assert "Error" not in sentence
    for name in good:
        data = json.loads((tmp_path / "out" / f"{Path(name).stem}.poses.json").read_text())
        assert np.isfinite(data["annotations"][0]["keypoints"]).all()
    size = json.loads((tmp_path / "out" / "turned.poses.json").read_text())["images"][0]
    assert (size["height"], size["width"]) == (160, 120)


class Echo:
    """A session that gives back the mean colour of each crop as its only point."""

    def __init__(self):
        schema = {"name": "a", "keypoints": ["x"]}
        self.about = {
            "format": 1, "input_size": [64, 48], "warp": "plain", "padding": 1.0,
            "keep_aspect": False, "heads": {"a": {"schema": schema, "points": "p", "scores": "s"}},
        }  # fmt: skip

    def run(self, names, crops):
        assert names == ["p", "s"]
        means = crops.reshape(len(crops), -1, 3).mean(axis=1)
        return [means[:, None, :2], np.ones((len(crops), 1), np.float32)]


def test_the_runtime_reads_the_same_pictures_and_names_the_same_faults(picture, tmp_path):
    good, bad = write_odd_images(tmp_path, picture)
    runtime = RuntimePredictor(tmp_path / "m.onnx", session=Echo())
    for name in good:
        assert len(runtime.predict(tmp_path / name)) == 1
    assert runtime.predict(tmp_path / "turned.jpg").image_sizes == ((160, 120),)
    for name in bad - {"huge.png"}:
        with pytest.raises(PredictionError, match=name):
            runtime.predict(tmp_path / name)
    with pytest.raises(PredictionError, match="cannot be read"):
        runtime.predict(tmp_path / "gone.png")
    assert len(runtime.predict(picture, np.zeros((0, 4)))) == 0
