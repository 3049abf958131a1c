"""`posekit view` finds its way to runs, predictions files, predicted files and datasets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from posekit import cli
from posekit.config.cards import load_dataset_card
from posekit.data.index import build_index
from posekit.diagnosis.error_types import KINDS, error_types
from posekit.engine.view import view
from posekit.errors import ConfigError, PosekitError, PredictionError
from posekit.inference.video_log import frame_record
from posekit.poses.read import read_predictions
from posekit.poses.table import Poses


@pytest.fixture
def run(tiny, tmp_path: Path) -> Path:
    """A run folder with predictions of one head: the truth, moved; one instance is missing."""
    recipe = tiny()
    folder = tmp_path / "run"
    (folder / "eval" / "blobs").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    truth = json.loads((tmp_path / "data" / "blobs" / "val.json").read_text())
    records = []
    for place, entry in enumerate(truth["annotations"][:-1]):
        points = np.array(entry["keypoints"], dtype=float).reshape(-1, 3)
        if place == 0:
            points[1:] = points[[2, 1]]  # the ends are confused
        points[:, :2] += place
        points[:, 2] = 0.9
        records.append(
            {
                "image_id": entry["image_id"], "id": entry["id"], "bbox": entry["bbox"],
                "keypoints": points.reshape(-1).tolist(),
            }
        )  # fmt: skip
    (folder / "eval" / "blobs" / "predictions.json").write_text(json.dumps(records))
    return folder


def data_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def test_a_runs_evaluation_is_shown_with_its_types_of_error(run, tmp_path):
    data = data_of(view(run, tmp_path / "v.html"))
    items = {item["id"]: item for item in data["items"]}
    assert len(items) == 6
    assert set(items["6"]["k"]) == {"no prediction"}
    assert items["1"]["k"][0] == "good"
    assert items["2"]["err"] == pytest.approx(np.hypot(1, 1) / 56, abs=1e-3)


def test_the_types_are_the_evaluations(run, tmp_path):
    index = build_index(load_dataset_card("blobs"), tmp_path / "data" / "blobs", "val")
    file = run / "eval" / "blobs" / "predictions.json"
    predictions = read_predictions(file, index.schema, index.columns).predictions
    shown = [item["k"] for item in data_of(view(run, tmp_path / "v.html"))["items"]]
    kinds = np.array([k for k in shown if "no prediction" not in k])
    expected = error_types(index.columns, predictions, index.schema)
    for kind in KINDS:
        assert (kinds == kind).mean() == pytest.approx(expected.shares[kind])
    assert (kinds[0, 1:] == "inversion").all()


def test_a_predictions_file_is_shown_beside_the_dataset_that_is_named(run, tmp_path):
    file = run / "eval" / "blobs" / "predictions.json"
    where = {"split": "val", "root": tmp_path / "data" / "blobs"}
    assert len(data_of(view(file, tmp_path / "v.html", dataset="blobs", **where))["items"]) == 6
    data = data_of(view("blobs", tmp_path / "d.html", **where))
    assert not any("p" in item for item in data["items"])


def test_what_predict_wrote_is_shown(tmp_path, tiny):
    tiny()
    image = tmp_path / "data" / "blobs" / "images" / "val_1.png"
    poses = {
        "images": [{"id": 0, "file_name": str(image), "height": 72, "width": 96}],
        "categories": [{"id": 1, "name": "b", "keypoints": ["x", "y"], "skeleton": [[1, 2]]}],
        "annotations": [
            {
                "image_id": 0, "keypoints": [5, 6, 2, 30, 40, 2], "keypoint_scores": [0.5, 0.7],
                "bbox": [0, 0, 60, 60],
            }
        ],
    }  # fmt: skip
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "val_1.poses.json").write_text(json.dumps({"fused": poses, "heads": {}}))
    data = data_of(view(tmp_path / "out", tmp_path / "v.html"))
    assert [item["n"] for item in data["items"]] == ["val_1.png"]
    assert data["links"][0][:2] == [0, 1]
    (tmp_path / "out" / "val_1.poses.json").write_text("[1]")
    with pytest.raises(PosekitError, match=r"val_1\.poses\.json: not a COCO file"):
        view(tmp_path / "out", tmp_path / "v.html")


def test_what_is_missing_is_named(run, tmp_path):
    with pytest.raises(ConfigError, match="give --split and --root"):
        view("blobs", tmp_path / "v.html")
    with pytest.raises(PredictionError, match=r"found no \*\.poses\.json of `posekit predict`"):
        view(tmp_path / "data", tmp_path / "v.html")
    with pytest.raises(ConfigError, match="head 'rings' was not evaluated"):
        view(run, tmp_path / "v.html", head="rings")
    file = run / "eval" / "blobs" / "predictions.json"
    file.write_text("[]")
    with pytest.raises(PredictionError, match="none of the predictions belongs"):
        view(run, tmp_path / "v.html")
    file.unlink()
    with pytest.raises(ConfigError, match="nothing was evaluated yet"):
        view(run, tmp_path / "v.html")


def test_the_command_writes_the_page(monkeypatch, capsys, run, tmp_path):
    out = tmp_path / "v.html"
    monkeypatch.setattr("sys.argv", ["posekit", "view", str(run), "--out", str(out)])
    cli.app(standalone_mode=False)
    assert out.is_file()
    assert "Wrote" in capsys.readouterr().out


def test_what_predict_writes_is_scored_and_viewed_as_it_is(run, tmp_path):
    index = build_index(load_dataset_card("blobs"), tmp_path / "data" / "blobs", "val")
    own = read_predictions(
        run / "eval" / "blobs" / "predictions.json", index.schema, index.columns
    ).predictions
    path = index.image_file_at(0)
    first = own.image_id == index.columns.image_id[0]
    part, n = own.take(np.flatnonzero(first)), int(first.sum())
    poses = Poses(
        "blobs", index.schema, part.keypoints, part.scores.astype(np.float32), part.box_xywh,
        np.full(n, 0.5), np.zeros(n, dtype=np.int64), (str(path),), ((72, 96),),
    )  # fmt: skip
    file = tmp_path / "x.poses.json"
    file.write_text(json.dumps(poses.to_coco()))
    read = read_predictions(file, index.schema, index.columns)
    assert read.is_final
    np.testing.assert_allclose(read.predictions.keypoints, part.keypoints, atol=1e-3)
    assert (read.predictions.image_id == part.image_id).all()
    assert read.predictions.box_scores == pytest.approx(poses.instance_scores)
    assert len(data_of(view(file, tmp_path / "v.html"))["items"]) == n
    images = len(index.columns.image_id)
    video = [
        {"video": f"{path.parent.name}.mp4", "fps": 5, "height": 72, "width": 96,
         "head": "blobs", "schema": index.schema.to_dict()},
        frame_record(poses, 0, 5),
        *({"frame": i, "time_s": i / 5, "poses": []} for i in range(1, images)),
    ]  # fmt: skip
    lines = tmp_path / "clip.poses.jsonl"
    lines.write_text("".join(json.dumps(line) + "\n" for line in video))
    again = read_predictions(lines, index.schema, index.columns).predictions
    np.testing.assert_allclose(again.keypoints, part.keypoints, atol=1e-3)
    lines.write_text("".join(json.dumps(line) + "\n" for line in video[:-1]))
    with pytest.raises(PredictionError, match="which frame is which image is not known"):
        read_predictions(lines, index.schema, index.columns)
    strange = json.loads(file.read_text())
    strange["images"][0]["file_name"] = "elsewhere.jpg"
    file.write_text(json.dumps(strange))
    with pytest.raises(PredictionError, match=r"'elsewhere\.jpg' is no image of the annotations"):
        read_predictions(file, index.schema, index.columns)
