"""Evaluation from the command line: settings, other datasets, transfer, tables, processes."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys

import cv2
import pytest
import yaml
from tiny import tiny_recipe

import posekit
from posekit import cli
from posekit.config.recipe import recipe_from_dict
from posekit.engine.other_datasets import evaluate
from posekit.errors import ConfigError
from posekit.evaluation.registry import split_settings


@pytest.fixture
def run(tiny):
    """A finished run of the tiny recipe; gives its folder."""
    return posekit.train(tiny(steps=1)).folder


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["posekit", *map(str, arguments)])
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def table(file):
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_settings_go_to_the_protocol_or_to_the_recipe_by_their_key():
    given = ["flip_test=false", "data_root=X", "protocol.nms=none", "training.steps=3"]
    assert split_settings(given) == (
        {"flip_test": False, "nms": "none"},
        ["data_root=X", "training.steps=3"],
    )
    with pytest.raises(ConfigError, match=r"expected key\.path=value"):
        split_settings(["flip_test"])


def test_tables_stand_beside_the_numbers(run):
    folder = run / "eval" / "blobs"
    found, rows = metrics(folder), table(folder / "keypoints.csv")
    assert [row["keypoint"] for row in rows] == ["middle", "left_end", "right_end"]
    for row in rows:
        name = row["keypoint"]
        assert float(row["PCK@0.1"]) == found["per_keypoint"][name]["PCK@0.1"]
        kinds = found["error_types"]["per_keypoint"][name]
        assert float(row["good"]) == kinds["good"]
        assert sum(kinds.values()) == pytest.approx(1)
    assert {"bins", "expected_error", "ranking"} == set(found["calibration"])


def test_a_bare_setting_changes_the_protocol(monkeypatch, capsys, run):
    assert command(monkeypatch, capsys, "eval", run, "flip_test=false", "--json")[0] == 0
    assert metrics(run / "eval" / "rings")["protocol"]["flip_test"] is False
    code, _, err = command(monkeypatch, capsys, "eval", run, "flip_tset=false")
    assert code == 2
    assert "flip_tset" in err


def two_categories(folder, cards):
    """The blobs again, judged by OKS in two categories, under another name."""
    card = yaml.safe_load((cards / "datasets" / "blobs.yaml").read_text(encoding="utf-8"))
    sigmas = {"sigmas": [0.1] * 3, "sigmas_source": "made in the test"}
    card["schema"] |= sigmas
    card |= {"evaluator": "oks", "folder": "blobs", "protocol": {}}
    card["splits"] = {"other": {"annotations": "other.json", "images": "images"}}
    (cards / "datasets" / "judged.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    content = json.loads((folder / "blobs" / "val.json").read_text(encoding="utf-8"))
    content["categories"].append({**content["categories"][0], "id": 2})
    for number, annotation in enumerate(content["annotations"]):
        annotation["category_id"] = 1 + number % 2
    (folder / "blobs" / "other.json").write_text(json.dumps(content), encoding="utf-8")


def test_a_head_is_scored_on_another_dataset_with_tables_by_category(
    monkeypatch, capsys, run, tmp_path
):
    two_categories(tmp_path / "data", tmp_path / "cards")
    where = ["--dataset", "judged", "--split", "other", "--head", "blobs"]
    code, out, err = command(monkeypatch, capsys, "eval", run, *where, "nms=none", "--json")
    assert code == 0, err
    assert "AP" in json.loads(out)["blobs"]
    folder = run / "elsewhere" / "judged-other" / "blobs"
    assert [row["category"] for row in table(folder / "categories.csv")] == ["1", "2"]
    assert metrics(folder)["protocol"]["nms"] == "none"
    assert {"results.json", "predictions.json", "keypoints.csv"} <= {
        file.name for file in folder.iterdir()
    }


def test_the_transfer_matrix_is_a_table_and_a_picture(monkeypatch, capsys, run):
    code, out, _ = command(monkeypatch, capsys, "eval", run, "--transfer")
    assert code == 0
    assert "PCK@0.1 of the box's long side" in out
    found = json.loads((run / "transfer.json").read_text(encoding="utf-8"))
    assert found["blobs"]["rings"] == {"PCK@0.1": None, "shared": 0}
    assert found["blobs"]["blobs"]["shared"] == 3
    official = metrics(run / "eval" / "blobs")["metrics"]["PCK@0.1"]
    assert found["blobs"]["blobs"]["PCK@0.1"] == pytest.approx(official)
    assert cv2.imread(str(run / "transfer.png")) is not None


def test_transfer_to_other_datasets_names_them(monkeypatch, capsys, run, tmp_path):
    where = ["--dataset", "rings", "--split", "train", "--dataset", "blobs", "--split", "train"]
    out_folder = tmp_path / "matrix"
    arguments = [*where, "--head", "rings", "--out", out_folder, "--json"]
    code, out, _ = command(monkeypatch, capsys, "eval", run, "--transfer", *arguments)
    assert code == 0
    assert list(json.loads(out)["rings"]) == ["rings/train", "blobs/train"]
    assert (out_folder / "transfer.png").is_file()
    code, _, err = command(monkeypatch, capsys, "eval", run, *where)
    assert (code, "--transfer" in err) == (2, True)
    code, _, err = command(monkeypatch, capsys, "eval", run, "--dataset", "rings")
    assert (code, "one --split for" in err) == (2, True)


def test_a_model_file_finds_its_data_by_its_recipe(run, tmp_path):
    model = run / "checkpoints" / "last.safetensors"
    where = {"datasets": [("blobs", "val")], "out": tmp_path / "o"}
    found = evaluate(model, heads=["blobs"], **where).results
    assert found["blobs"].metrics == pytest.approx(metrics(run / "eval" / "blobs")["metrics"])
    with pytest.raises(ConfigError, match="did you mean 'blobs'"):
        evaluate(model, heads=["blob"], **where)
    matrix = evaluate(model, heads=["rings"], transfer=True, out=tmp_path / "m").matrix
    assert matrix.heads == ("rings",)


def test_detector_boxes_are_judged_and_shown_with_the_people_that_they_lie_on(
    monkeypatch, capsys, tiny, tmp_path
):
    tiny()
    two_categories(tmp_path / "data", tmp_path / "cards")
    recipe = tiny_recipe(tmp_path / "data", tmp_path / "judged", steps=1)
    del recipe["heads"]["rings"]
    recipe["heads"]["blobs"] |= {"dataset": "judged", "train": "other", "evaluate": "other"}
    folder = posekit.train(recipe_from_dict(recipe), evaluate=False).folder
    boxes = [
        {"image_id": 7 - i, "category_id": 1 + i % 2, "bbox": [12, 12, 52, 52], "score": i / 9}
        for i in range(1, 7)
    ]
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(boxes), encoding="utf-8")
    code, _, err = command(monkeypatch, capsys, "eval", folder, "--boxes", file, "--json")
    assert code == 0, err
    found = metrics(folder / "eval" / "blobs")
    assert found["protocol"]["boxes"] == str(file)
    assert found["protocol"]["boxes_hash"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found["counts"]["detections"] == 6
    assert found["common_metric"]["model"] is None
    assert found["error_types"]["count"] == 18
    assert (folder / "eval" / "blobs" / "worst.png").is_file()


@pytest.mark.slow
def test_two_processes_write_the_numbers_of_one(run, tmp_path):
    before = {head: metrics(run / "eval" / head) for head in ("blobs", "rings")}
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\ntorch.set_num_threads(1)\nfrom posekit import cli\ncli.main()\n",
        encoding="utf-8",
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    arguments = [*launcher, "--nproc-per-node", "2", str(script), "eval", str(run), "--json"]
    done = subprocess.run(
        arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(json.loads(done.stdout.strip().splitlines()[-1])) == {"blobs", "rings"}
    for head, numbers in before.items():
        again = metrics(run / "eval" / head)
        assert again["metrics"] == pytest.approx(numbers["metrics"], abs=1e-12)
        assert again["counts"] == numbers["counts"]
