"""An exported model answers as its model does, or it is not written; and it runs without torch."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from inference_helpers import SCHEMA_A, SCHEMA_B, head

from posekit.catalog import BoxCard
from posekit.codecs import crop_matrices, crop_size_for, inverse_crop_matrices
from posekit.errors import CheckpointError, PosekitError, PredictionError
from posekit.inference.export import (
    Parity,
    ParityError,
    export_onnx,
    measure_parity,
    sample_patterns,
)
from posekit.inference.predictor import Predictor
from posekit.inference.runtime import RuntimePredictor, crop_geometry

BOXES = np.array([[20.0, 10, 60, 90], [70, 30, 50, 50], [-10, 5, 70, 60], [0, 0, 160, 120]])


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Predictor, Path]:
    """One export serves the tests: the exporter takes seconds."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra 'export' is not installed")
    import torch  # noqa: PLC0415
    from inference_helpers import BACKBONE  # noqa: PLC0415

    from posekit.models import build_model  # noqa: PLC0415

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(BACKBONE, {"a": head(SCHEMA_A, "msra"), "b": head(SCHEMA_B, "msra")})
    predictor = Predictor(
        model, {"a": BoxCard(padding=1.1), "b": BoxCard(padding=1.1)}, device="cpu"
    )
    file = tmp_path_factory.mktemp("export") / "model.onnx"
    done = export_onnx(predictor, file, head="all")
    assert done.parity.drift_px < 0.01
    assert done.parity.compared > 0
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.onnx"]
    json.dumps(done.to_dict())
    return predictor, file


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
    parity = measure_parity(other, file, ("a", "b"), sample_patterns())
    assert parity.drift_px > 0.1


@pytest.mark.slow
def test_above_the_limit_nothing_is_written(exported, tmp_path):
    predictor, _ = exported
    with pytest.raises(ParityError, match=r"px from where the model does.*nothing was written"):
        export_onnx(predictor, tmp_path / "m.onnx", head="a", limit_px=-1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_runtime_needs_neither_torch_nor_pillow(exported, photo):
    _, file = exported
    code = f"""
import sys
for name in ("torch", "timm", "PIL", "pydantic", "yaml", "scipy"):
    sys.modules[name] = None
from posekit.inference.runtime import RuntimePredictor
poses = RuntimePredictor({str(file)!r}).predict({str(photo)!r}, head="a")
print(poses.keypoints.shape, len(poses.to_coco()["annotations"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(1, 3, 2) 1", done.stderr


@pytest.mark.slow
def test_wrong_heads_boxes_and_files_are_named(exported, picture, tmp_path):
    runtime = RuntimePredictor(exported[1])
    with pytest.raises(PredictionError, match="no head 'None'"):
        runtime.predict(picture)
    with pytest.raises(PredictionError, match=r"boxes \(N, 4\)"):
        runtime.predict(picture, [[900, 1, 5, 5]], head="a")
    with pytest.raises(PredictionError, match=r"expected uint8 \(H, W, 3\)"):
        runtime.predict(picture.astype(float), head="a")
    (tmp_path / "cut.onnx").write_bytes(exported[1].read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"cut\.onnx: not a whole ONNX model"):
        RuntimePredictor(tmp_path / "cut.onnx")


@pytest.mark.parametrize("warp", ["plain", "udp"])
@pytest.mark.parametrize("keep_aspect", [True, False])
def test_the_runtimes_geometry_is_the_codecs(warp, keep_aspect):
    to_crop, back = crop_geometry(BOXES, (64, 48), 1.25, keep_aspect=keep_aspect, warp=warp)
    center = BOXES[:, :2] + BOXES[:, 2:] / 2
    size = crop_size_for(BOXES[:, 2:], (64, 48), 1.25, keep_aspect)
    assert to_crop == pytest.approx(crop_matrices(center, size, 0.0, (64, 48), warp), abs=1e-10)
    assert back == pytest.approx(
        inverse_crop_matrices(center, size, 0.0, (64, 48), warp), abs=1e-10
    )


def test_heads_with_other_crops_or_experts_cannot_share_a_file(make_model, tmp_path, monkeypatch):
    monkeypatch.setattr("posekit.inference.export._require", lambda *names: None)
    mixed = make_model({"a": head(SCHEMA_A), "b": head(SCHEMA_B, "msra")})
    with pytest.raises(CheckpointError, match="have different crops"):
        export_onnx(Predictor(mixed, device="cpu"), tmp_path / "m.onnx", head="all")
    experts = make_model(experts={"width": 8})
    with pytest.raises(CheckpointError, match="have experts"):
        export_onnx(Predictor(experts, device="cpu"), tmp_path / "m.onnx", head="all")


@pytest.mark.parametrize(
    ("parity", "message"),
    [
        (Parity(0.0, "a", "nose", 0, 12, 0.0), "maps are flat on the samples"),
        (Parity(0.0, "a", "nose", 9, 0, 0.2), "scores differ by 0.2"),
        (Parity(float("inf"), "a", "nose", 9, 0, 0.0), r"'nose' of head 'a' inf px"),
    ],
)
def test_what_cannot_be_compared_or_differs_is_not_kept(
    make_model, tmp_path, monkeypatch, parity, message
):
    module = "posekit.inference.export"
    monkeypatch.setattr(f"{module}._require", lambda *names: None)
    monkeypatch.setattr(f"{module}._write", lambda _predictor, _heads, file: file.write_bytes(b"x"))
    monkeypatch.setattr(f"{module}.measure_parity", lambda *_args, **_settings: parity)
    with pytest.raises(ParityError, match=message):
        export_onnx(Predictor(make_model(), device="cpu"), tmp_path / "m.onnx", head="a")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named(make_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(PosekitError, match=r"pip install 'posekit\[export\]'"):
        export_onnx(Predictor(make_model(), device="cpu"), tmp_path / "m.onnx", head="a")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CheckpointError, match="pip install onnxruntime"):
        RuntimePredictor(tmp_path / "m.onnx")
