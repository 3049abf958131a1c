"""An exported model answers as its model does, or it is not written; and it runs without torch."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from inference_helpers import BACKBONE, SCHEMA_A, SCHEMA_B, EagerSession, head

from posekit.config.cards import BoxCard
from posekit.errors import CheckpointError, PosekitError, PredictionError
from posekit.inference import parity as parity_module
from posekit.inference.export import export, read_samples
from posekit.inference.export_graph import ExportGraph, quantise_int8, store_bf16, write_graph
from posekit.inference.parity import Parity, ParityError, measure_parity, sample_patterns
from posekit.inference.predictor import Predictor
from posekit.inference.runtime import RuntimePredictor
from posekit.inference.runtime_files import open_session
from posekit.models import build_model
from posekit.models.predict import predict_crops
from posekit.models.vit import KnowledgeToken

BOXES = np.array([[20.0, 10, 60, 90], [70, 30, 50, 50], [-10, 5, 70, 60], [0, 0, 160, 120]])


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(BACKBONE, {"a": head(SCHEMA_A, "msra"), "b": head(SCHEMA_B, "msra")})
    rule = BoxCard(padding=1.1)
    return Predictor(model, {"a": rule, "b": rule}, device="cpu")


@pytest.fixture(scope="module")
def exported(predictor, tmp_path_factory) -> tuple[Predictor, Path]:
    """One export serves the tests: the exporter takes seconds."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra 'export' is not installed")
    file = tmp_path_factory.mktemp("export") / "model.onnx"
    (done,) = export(predictor, file, head="all")
    assert done.parity.drift_px < 0.01
    assert done.parity.compared > 0
    assert [path.name for path in file.parent.iterdir()] == ["model.onnx"]
    assert "largest drift" in done.text()
    json.dumps(done.to_dict())
    return predictor, file


@pytest.fixture(scope="module")
def exported_maps(predictor, tmp_path_factory) -> Path:
    """OpenVINO's form, with decoding left out of the graph."""
    for package in ("onnx", "onnxscript", "openvino"):
        pytest.importorskip(package, reason="the extra 'openvino' is not installed")
    file = tmp_path_factory.mktemp("export") / "model.xml"
    export(predictor, file, head=["b"], decode=False)
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.bin", "model.xml"]
    return file


@pytest.mark.slow
def test_the_exported_file_predicts_as_the_model_for_any_number_of_boxes(exported, picture):
    predictor, file = exported
    for count in (0, 1, 4):
        for name in ("a", "b"):
            runtime = RuntimePredictor(file, batch_size=3)
            got = runtime.predict(picture, BOXES[:count], head=name)
            expected = predictor.predict(picture, BOXES[:count], head=name)
            assert got.keypoints.shape == expected.keypoints.shape
            assert got.keypoints == pytest.approx(expected.keypoints, abs=1e-2)
            assert got.schema == expected.schema


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["mean", "channel order", "codec", "padding"])
def test_a_wrong_mean_channel_order_codec_or_crop_fails_the_gate(exported, fault, monkeypatch):
    """The file stays as it is; the model that it is held against is made to differ."""
    predictor, file = exported
    model = copy.deepcopy(predictor.model)
    other = Predictor(model, predictor.boxes, device="cpu")
    if fault == "mean":
        model.mean += 0.25
    elif fault == "channel order":
        normalise = model.normalise
        monkeypatch.setattr(model, "normalise", lambda images: normalise(images.flip(-1)))
    elif fault == "codec":
        codec = model.head("a").codec
        monkeypatch.setattr(codec, "from_grid", lambda points: points * 4 + 1.5, raising=True)
    else:
        other.boxes = {name: BoxCard(padding=1.25) for name in model.head_names}
    parity = measure_parity(other, file, ("a", "b"), sample_patterns(), limit_px=0.1)
    assert parity.drift_px > 0.1


@pytest.mark.slow
def test_a_graph_with_a_wrong_mean_is_not_written(predictor, tmp_path, monkeypatch):
    """The whole export, with the fault in what is written."""
    make = ExportGraph.__init__

    def faulty(self, *arguments, **settings):
        make(self, *arguments, **settings)
        self.mean -= 0.25

    monkeypatch.setattr(ExportGraph, "__init__", faulty)
    with pytest.raises(ParityError, match=r"px from where the model does.*nothing was written"):
        export(predictor, tmp_path / "m.pt2", head="a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_torch_export_answers_as_the_model(predictor, tmp_path):
    (done,) = export(predictor, tmp_path / "m.pt2", head="a")
    assert done.parity.drift_px < 0.01
    assert done.file.is_file()


@pytest.mark.slow
def test_maps_are_decoded_outside_the_graph_as_inside(predictor, exported_maps, picture):
    got = RuntimePredictor(exported_maps).predict(picture, BOXES)
    expected = predictor.predict(picture, BOXES, head="b")
    assert got.keypoints == pytest.approx(expected.keypoints, abs=1e-2)
    assert got.scores == pytest.approx(expected.scores, abs=1e-4)


@pytest.mark.slow
def test_a_wrong_codec_in_the_metadata_fails_the_gate(predictor, exported_maps, monkeypatch):
    session = open_session(exported_maps)
    session.about["heads"]["b"]["codec"]["refine"] = "none"
    monkeypatch.setattr(parity_module, "open_session", lambda _file: session)
    parity = measure_parity(predictor, exported_maps, ("b",), sample_patterns(), limit_px=0.1)
    assert parity.drift_px > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("change", "score"), [(store_bf16, 0.02), (quantise_int8, 0.1)])
def test_smaller_weights_give_a_smaller_file_and_a_measured_error(
    exported, tmp_path, change, score
):
    predictor, file = exported
    small = tmp_path / file.name
    small.write_bytes(file.read_bytes())
    change(small)
    assert small.stat().st_size < file.stat().st_size
    parity = measure_parity(predictor, small, ("a", "b"), sample_patterns(), limit_px=1e9)
    assert 0 < parity.score_drift < score
    assert 0 <= parity.median_px <= parity.p95_px <= parity.drift_px


@pytest.mark.slow
def test_half_precision_is_exported_and_measured(predictor, tmp_path):
    (done,) = export(predictor, tmp_path / "m.pt2", head="a", precision="bf16", limit_px=1e9)
    assert 0 < done.parity.score_drift < 0.05
    assert done.precision == "bf16"


@pytest.mark.slow
def test_every_head_in_one_run_equals_each_head_alone(exported, picture):
    runtime = RuntimePredictor(exported[1])
    together = runtime.predict(picture, BOXES, head="all")
    for name in ("a", "b"):
        alone = runtime.predict(picture, BOXES, head=name)
        assert together[name].keypoints == pytest.approx(alone.keypoints)


@pytest.mark.slow
def test_the_runtimes_need_neither_torch_nor_pillow(exported, exported_maps, photo):
    code = f"""
import sys
for name in ("torch", "timm", "PIL", "pydantic", "yaml", "scipy"):
    sys.modules[name] = None
from posekit.inference.runtime import RuntimePredictor
for file, head in (({str(exported[1])!r}, "a"), ({str(exported_maps)!r}, None)):
    poses = RuntimePredictor(file).predict({str(photo)!r}, head=head)
    print(poses.keypoints.shape, len(poses.to_coco()["annotations"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["(1, 3, 2) 1", "(1, 4, 2) 1"], done.stderr


@pytest.mark.slow
def test_wrong_heads_boxes_and_files_are_named(exported, picture, tmp_path):
    runtime = RuntimePredictor(exported[1])
    with pytest.raises(PredictionError, match="no head 'None'"):
        runtime.predict(picture)
    with pytest.raises(PredictionError, match=r"box 0 .* lies outside the image of 160 x 120"):
        runtime.predict(picture, [[900, 1, 5, 5]], head="a")
    with pytest.raises(PredictionError, match=r"expected uint8 \(H, W, 3\)"):
        runtime.predict(picture.astype(float), head="a")
    (tmp_path / "cut.onnx").write_bytes(exported[1].read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"cut\.onnx: not a whole ONNX model"):
        RuntimePredictor(tmp_path / "cut.onnx")


@pytest.mark.parametrize("kind", ["msra", "udp"])
@pytest.mark.parametrize("keep_aspect", [True, False])
@pytest.mark.parametrize("decode", [True, False])
def test_the_runtimes_crops_and_points_are_the_models(
    make_model, picture, kind, keep_aspect, decode
):
    rule = BoxCard(padding=1.1, keep_aspect=keep_aspect)
    predictor = Predictor(make_model({"a": head(SCHEMA_A, kind)}), {"a": rule}, device="cpu")
    session = EagerSession(predictor, ["a"], decode=decode)
    got = RuntimePredictor("a.onnx", batch_size=3, session=session).predict(picture, BOXES)
    expected = predictor.predict(picture, BOXES)
    assert got.keypoints == pytest.approx(expected.keypoints, abs=1e-2)
    assert got.scores == pytest.approx(expected.scores, abs=1e-4)


def test_a_graph_with_experts_answers_as_the_model_in_every_row(make_model):
    """Rows without their expert would get the shared half of the layer only."""
    model = make_model(experts={"width": 8})
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 48, 3), dtype=np.uint8)
    for name in ("a", "b"):
        maps = predict_crops(model, crops, [name])[name].maps
        with torch.inference_mode():
            (exported,) = ExportGraph(model, [name], decode=False).eval()(torch.from_numpy(crops))
        for row in range(3):
            torch.testing.assert_close(exported[row], maps[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
@pytest.mark.parametrize("extra", ["experts", "knowledge"])
def test_experts_and_a_knowledge_token_are_exported_for_any_batch_size(
    make_model, tmp_path, ending, extra
):
    """Python's len() of a batch would fix its size in the graph, which the exporter refuses."""
    if ending == ".onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason="the extra 'export' is not installed")
    model = make_model(experts={"width": 8} if extra == "experts" else None)
    if extra == "knowledge":
        model.backbone.knowledge = KnowledgeToken(8, 24)
    file = tmp_path / f"m{ending}"
    write_graph(Predictor(model, device="cpu"), ["b"], file, decode=False)
    session = parity_module._TorchSession(file) if ending == ".pt2" else open_session(file)
    for rows in (1, 2, 5):
        crops = np.random.default_rng(rows).integers(0, 256, (rows, 64, 48, 3), dtype=np.uint8)
        (found,) = session.run(["b.maps"], crops)
        expected = predict_crops(model, crops, ["b"])["b"].maps.numpy()
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("room", "split"), [(0, True), (1, False)])
def test_a_file_of_the_largest_size_that_protobuf_refuses_is_split(
    tmp_path, monkeypatch, room, split
):
    onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    weights = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", number, [1, 64])],
        [helper.make_tensor_value_info("y", number, [1, 64])],
        [weights],
    )
    file = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph), str(file))
    whole = file.read_bytes()
    store_bf16(file)
    size = onnx.load(str(file)).ByteSize()
    file.write_bytes(whole)
    monkeypatch.setattr(onnx.checker, "MAXIMUM_PROTOBUF", size + room)
    store_bf16(file)
    assert (tmp_path / "m.onnx.data").is_file() == split


@pytest.fixture
def faked(monkeypatch):
    """Export without an exporter: the writing is left out and parity is as the test says."""
    module = "posekit.inference.export"
    monkeypatch.setattr(f"{module}._require", lambda *_: None)
    monkeypatch.setattr(
        f"{module}.write_graph", lambda _predictor, _heads, file, **_: file.write_bytes(b"x")
    )

    def set_parity(parity: Parity) -> None:
        monkeypatch.setattr(f"{module}.measure_parity", lambda *_args, **_settings: parity)

    set_parity(Parity(0.0, "a", "nose", 9, 0, 0.0))
    return set_parity


@pytest.mark.usefixtures("faked")
def test_heads_with_other_crops_or_experts_get_files_of_their_own(make_model, tmp_path):
    mixed = make_model({"a": head(SCHEMA_A), "b": head(SCHEMA_B, "msra")})
    experts = make_model(experts={"width": 8})
    for name, model in (("mixed", mixed), ("experts", experts)):
        done = export(Predictor(model, device="cpu"), tmp_path / name / "m.onnx", head="all")
        assert [part.heads for part in done] == [("a",), ("b",)]
        files = sorted(path.name for path in (tmp_path / name).iterdir())
        assert files == ["m-a.onnx", "m-b.onnx"]


@pytest.mark.usefixtures("faked")
def test_one_file_that_fails_keeps_all_back(make_model, tmp_path, monkeypatch):
    answers = iter([Parity(0.0, "a", "nose", 9, 0, 0.0), Parity(5.0, "b", "tail", 9, 0, 0.0)])
    monkeypatch.setattr("posekit.inference.export.measure_parity", lambda *_, **__: next(answers))
    mixed = make_model({"a": head(SCHEMA_A), "b": head(SCHEMA_B, "msra")})
    (tmp_path / "m-a.onnx").write_bytes(b"before")
    with pytest.raises(ParityError, match=r"m-b\.onnx: .*'tail' of head 'b' 5 px"):
        export(Predictor(mixed, device="cpu"), tmp_path / "m.onnx", head="all")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


@pytest.mark.parametrize(
    ("parity", "message"),
    [
        (Parity(0.0, "a", "nose", 0, 12, 0.0), "maps are flat on the samples"),
        (Parity(0.0, "a", "nose", 9, 0, 0.2), "scores differ by 0.2"),
        (Parity(float("inf"), "a", "nose", 9, 0, 0.0), r"'nose' of head 'a' inf px"),
    ],
)
def test_what_cannot_be_compared_or_differs_is_not_kept(
    make_model, tmp_path, faked, parity, message
):
    faked(parity)
    with pytest.raises(ParityError, match=message):
        export(Predictor(make_model(), device="cpu"), tmp_path / "m.onnx", head="a")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_a_wrong_ending_and_precision_are_named(make_model, tmp_path, monkeypatch):
    predictor = Predictor(make_model(), device="cpu")
    with pytest.raises(CheckpointError, match=r"ending '.tflite', expected .onnx \(onnx\)"):
        export(predictor, tmp_path / "m.tflite", head="a")
    with pytest.raises(CheckpointError, match="'int8' is not offered for torch"):
        export(predictor, tmp_path / "m.pt2", head="a", precision="int8")
    for file, package, extra in (("m.onnx", "onnx", "export"), ("m.xml", "openvino", "openvino")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(PosekitError, match=rf"pip install 'posekit\[{extra}\]'"):
            export(predictor, tmp_path / file, head="a")
        monkeypatch.delitem(sys.modules, package)
    (tmp_path / "m.onnx").write_bytes(b"x")
    (tmp_path / "m.xml").write_bytes(b"x")
    for file, package in (("m.onnx", "onnxruntime"), ("m.xml", "openvino")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(CheckpointError, match=f"pip install {package}"):
            RuntimePredictor(tmp_path / file)
    with pytest.raises(CheckpointError, match=r"m\.pt2: there is no such file"):
        RuntimePredictor(tmp_path / "m.pt2")


def test_sample_images_and_their_boxes_are_read(photo, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"photo.png": [[1, 2, 30, 40]]}))
    ((pixels, rows),) = read_samples([photo], boxes)
    assert pixels.shape == (120, 160, 3)
    assert rows.tolist() == [[1, 2, 30, 40]]
    boxes.write_text("{}")
    with pytest.raises(PredictionError, match="none of the sample images has a box"):
        read_samples([photo], boxes)


@pytest.mark.usefixtures("faked")
def test_parity_is_measured_on_the_given_samples_or_else_on_patterns(
    make_model, tmp_path, monkeypatch
):
    proofs = []

    def measured(_predictor, _file, heads, proof, **_settings):
        proofs.append((heads, proof))
        return Parity(0.0, "face", "nose", 9, 0, 0.0)

    monkeypatch.setattr("posekit.inference.export.measure_parity", measured)
    model = Predictor(make_model({"face": head(SCHEMA_A), "hand": head(SCHEMA_B)}), device="cpu")
    own = [(np.zeros((9, 9, 3), np.uint8), np.array([[0.0, 0, 9, 9]]))]
    export(model, tmp_path / "m.onnx", head="face", samples=own)
    export(model, tmp_path / "m.onnx", head="face")
    assert [heads for heads, _ in proofs] == [("face",), ("face",)]
    assert proofs[0][1] is own
    assert len(proofs[1][1]) == len(sample_patterns())
