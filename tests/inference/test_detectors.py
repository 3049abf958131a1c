"""Boxes from detectors: the card says how to talk to a graph, and every field of it counts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
import yaml
from inference_helpers import SCHEMA_A, head

from posekit.errors import ConfigError, PosekitError, PredictionError
from posekit.inference import detectors
from posekit.inference.detector_card import DetectorCard, InputCard, OutputCard, PartCard
from posekit.inference.detectors import OnnxDetector, TorchvisionDetector, open_detector
from posekit.inference.files import predict_files
from posekit.inference.predictor import Predictor
from posekit.inference.video import VideoOptions

# In pixels of an input of 80 x 80: two boxes that overlap, one of another class, one unsure.
CORNERS = np.array(
    [[10, 5, 50, 45], [12, 5, 52, 45], [0, 0, 20, 20], [60, 10, 90, 40]], dtype=np.float32
)
SCORES = np.array([[0.9, 0.1], [0.8, 0.1], [0.1, 0.7], [0.2, 0.1]], dtype=np.float32)


def write_graph(folder: Path, outputs: dict[str, np.ndarray]) -> None:
    """An ONNX file whose outputs are constants, plus the input's mean so that it is looked at."""
    onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0)]
    infos = [helper.make_tensor_value_info("mean", number, [])]
    for name, values in outputs.items():
        tensor = onnx.numpy_helper.from_array(values, name)
        nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        infos.append(helper.make_tensor_value_info(name, number, values.shape))
    shape = helper.make_tensor_value_info("image", number, [1, 3, 80, 80])
    graph = helper.make_graph(nodes, "g", [shape], infos)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "d.onnx"))


def write_card(folder: Path, **changes: object) -> Path:
    card = {
        "source": "made here", "licence": "none", "file": "d.onnx", "input": {"size": [80, 80]},
        "output": {"boxes": {"name": "boxes"}, "scores": {"name": "scores"}},
        **changes,
    }  # fmt: skip
    file = folder / "d.yaml"
    file.write_text(yaml.safe_dump(card))
    return file


def image(height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), 100, dtype=np.uint8)


def test_a_described_graph_gives_boxes_in_the_image(tmp_path):
    """The image is twice as wide as the input: letterboxed, boxes are twice as large."""
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    write_graph(tmp_path, {"boxes": CORNERS, "scores": SCORES})
    boxes, scores = OnnxDetector(write_card(tmp_path)).detect(image())
    assert boxes == pytest.approx(np.array([[20, 10, 80, 80], [0, 0, 40, 40]]))
    assert scores == pytest.approx([0.9, 0.7])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"keep": [1]}, [[0, 0, 40, 40]]),
        ({"threshold": 0.75}, [[20, 10, 80, 80]]),
        ({"most": 1}, [[20, 10, 80, 80]]),
        ({"nms": None}, [[20, 10, 80, 80], [24, 10, 80, 80], [0, 0, 40, 40]]),
        ({"threshold": 0.15, "keep": [0], "nms": 0.5}, [[20, 10, 80, 80], [120, 20, 40, 60]]),
        ({"input": {"size": [80, 80], "resize": "stretch"}}, [[20, 7.5, 80, 60], [0, 0, 40, 30]]),
        ({"input": {"size": [80, 80], "pad": "centre"}}, [[20, 0, 80, 70], [0, 0, 40, 20]]),
    ],
)  # fmt: skip
def test_each_setting_of_the_card_changes_the_boxes(tmp_path, changes, expected):
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    write_graph(tmp_path, {"boxes": CORNERS, "scores": SCORES})
    boxes, _ = OnnxDetector(write_card(tmp_path, **changes)).detect(image())
    assert boxes == pytest.approx(np.array(expected, dtype=float))


def test_boxes_without_width_height_or_a_part_in_the_image_are_left_out(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    corners = np.array(
        [[10, 5, 10, 45], [10, 5, 50, 5], [-30, 5, -3, 45], [10, 90, 50, 95], [10, 5, 50, 45]],
        dtype=np.float32,
    )
    write_graph(tmp_path, {"boxes": corners, "scores": np.full((5, 1), 0.9, np.float32)})
    boxes, scores = OnnxDetector(write_card(tmp_path, nms=None)).detect(image())
    assert boxes == pytest.approx(np.array([[20, 10, 80, 80]]))
    assert scores == pytest.approx([0.9])


def test_one_table_of_centres_objectness_and_classes_is_read(tmp_path):
    """As YOLO-like detectors write it: a row a number, a column a box."""
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    sizes = CORNERS[:, 2:] - CORNERS[:, :2]
    rows = np.concatenate(
        [(CORNERS[:, :2] + sizes / 2) / 80, sizes / 80, np.full((4, 1), 0.5, np.float32), SCORES], 1
    )
    write_graph(tmp_path, {"table": rows.T[None].astype(np.float32)})

    def part(*columns: int) -> dict:
        return {"name": "table", "columns": list(columns), "transpose": True}

    output = {
        "boxes": part(0, 4), "format": "cxcywh", "frame": "unit", "objectness": part(4, 5),
        "scores": part(5, 7),
    }  # fmt: skip
    boxes, scores = OnnxDetector(write_card(tmp_path, output=output)).detect(image())
    assert boxes == pytest.approx(np.array([[20, 10, 80, 80], [0, 0, 40, 40]]), abs=1e-4)
    assert scores == pytest.approx([0.45, 0.35])


def test_one_score_and_a_class_number_for_each_box_are_read(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    graph = {"boxes": CORNERS, "scores": SCORES.max(1), "labels": np.float32([3, 3, 1, 3])}
    write_graph(tmp_path, graph)
    parts = {key: {"name": key} for key in ("boxes", "scores")}
    card = write_card(tmp_path, output={**parts, "classes": {"name": "labels"}}, keep=[1])
    boxes, _ = OnnxDetector(card).detect(image())
    assert boxes == pytest.approx(np.array([[0, 0, 40, 40.0]]))


def test_the_input_is_prepared_as_the_card_says(tmp_path):
    card = InputCard(size=(80, 80), colour="bgr", mean=(0.1, 0.2, 0.3), std=(2, 2, 2), fill=0)
    pixels = image()
    pixels[..., 0] = 255
    blob, scale, offset = detectors._prepare(pixels, card)
    assert blob.shape == (1, 3, 80, 80)
    assert blob[0, 2, 0, 0] == pytest.approx((1 - 0.3) / 2)
    assert blob[0, 0, 70, 0] == pytest.approx(-0.05)
    assert scale.tolist() == [0.5, 0.5]
    assert offset.tolist() == [0, 0]
    raw = InputCard(size=(80, 80), layout="nhwc", type="uint8")
    assert detectors._prepare(pixels, raw)[0][0, 0, 0].tolist() == [255, 100, 100]
    assert detectors._prepare(pixels, raw)[0][0, 79, 0].tolist() == [114, 114, 114]


def test_every_field_of_the_card_is_read():
    source = Path(detectors.__file__).read_text(encoding="utf-8")
    for card in (DetectorCard, InputCard, OutputCard, PartCard):
        for name in set(card.model_fields) - {"source", "licence"}:
            assert f".{name}" in source, f"{card.__name__}.{name} is read by nothing"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"treshold": 0.5}, "unknown key 'treshold'; did you mean 'threshold'"),
        ({"file": "gone.onnx"}, "key 'file': there is no file"),
        (
            {"output": {"boxes": {"name": "box"}, "scores": {"name": "scores"}}},
            "did you mean 'boxes",
        ),
    ],
)
def test_a_wrong_card_is_named(tmp_path, changes, message):
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    write_graph(tmp_path, {"boxes": CORNERS, "scores": SCORES})
    with pytest.raises(ConfigError, match=message):
        OnnxDetector(write_card(tmp_path, **changes))
    with pytest.raises(ConfigError, match="expected torchvision:NAME"):
        open_detector("yolo")


def test_columns_that_are_not_there_are_named(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    write_graph(tmp_path, {"boxes": CORNERS, "scores": SCORES})
    parts = {"boxes": {"name": "boxes"}, "scores": {"name": "scores", "columns": [4, 84]}}
    with pytest.raises(ConfigError, match="there are no columns 4 to 84"):
        OnnxDetector(write_card(tmp_path, output=parts)).detect(image())


def test_a_detectors_boxes_and_scores_reach_the_files(make_model, photo, tmp_path):
    class Fixed:
        name = "fixed"

        def detect(self, pixels):
            return np.array([[10.0, 10, 50, 60]]), np.array([0.5])

    predictor = Predictor(make_model({"a": head(SCHEMA_A)}), device="cpu")
    done = predict_files(
        predictor, [photo], tmp_path / "out", detector=Fixed(), options=VideoOptions(overlay=False)
    )
    (found,) = json.loads(done.written[0].read_text())["annotations"]
    expected = predictor.predict(photo, [10, 10, 50, 60])
    assert found["bbox"] == [10, 10, 50, 60]
    assert found["score"] == pytest.approx(0.5 * expected.instance_scores[0])
    with pytest.raises(PredictionError, match="give one of the two"):
        predict_files(predictor, [photo], tmp_path, boxes=photo, detector=Fixed())


@pytest.fixture
def torchvision(monkeypatch):
    """torchvision's model zoo with a detector that needs no weights."""
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    answer = {
        "boxes": torch.tensor([[5.0, 6, 50, 60], [0, 0, 10, 10], [1, 1, 9, 9]]),
        "scores": torch.tensor([0.9, 0.8, 0.2]),
        "labels": torch.tensor([1, 3, 1]),
    }

    class Net(torch.nn.Module):
        def forward(self, images):
            assert images[0].shape == (3, 120, 160)
            assert 0 <= float(images[0].min()) <= float(images[0].max()) <= 1
            return [answer]

    monkeypatch.setattr(models, "get_model", lambda name, weights: Net())
    return models


NAME = "fasterrcnn_mobilenet_v3_large_fpn"


@pytest.mark.usefixtures("torchvision")
def test_torchvisions_persons_above_the_threshold_are_kept():
    boxes, scores = open_detector(f"torchvision:{NAME}").detect(image())
    assert boxes.tolist() == [[5, 6, 45, 54]]
    assert scores == pytest.approx([0.9])
    cars, _ = open_detector(f"torchvision:{NAME}:horse,car").detect(image())
    assert cars.tolist() == [[0, 0, 10, 10]]


def test_torchvision_without_network_is_one_sentence(torchvision, monkeypatch):
    def offline(name, weights):
        raise URLError("no route")

    monkeypatch.setattr(torchvision, "get_model", offline)
    with pytest.raises(PredictionError, match=r"cannot be downloaded \(no route\); put fasterrcnn"):
        TorchvisionDetector(NAME)


@pytest.mark.usefixtures("torchvision")
def test_wrong_names_of_detectors_and_classes_are_named():
    with pytest.raises(ConfigError, match=f"did you mean '{NAME}'"):
        TorchvisionDetector("fasterrcnn_mobilenet_v3_large")
    with pytest.raises(ConfigError, match="no class 'horsee'; did you mean 'horse'"):
        TorchvisionDetector(NAME, keep=["horsee"])


def test_missing_extras_are_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(PosekitError, match=r"pip install 'posekit\[detect\]'"):
        TorchvisionDetector(NAME)
    (tmp_path / "d.onnx").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PosekitError, match=r"pip install 'posekit\[export\]'"):
        OnnxDetector(write_card(tmp_path))
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())
    with pytest.raises(PosekitError, match="not a whole ONNX model"):
        OnnxDetector(write_card(tmp_path))
