"""What is missing is named with its origin; numbers are compared under one protocol only."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import posekit
from posekit.cli import app
from posekit.config.recipe import Recipe, load_recipe
from posekit.engine.reproduce import needed_files
from posekit.engine.setup import read_heads
from posekit.errors import ConfigError, PredictionError


def _publishing(recipe: Recipe, **entries) -> Recipe:
    data = recipe.model_dump(mode="json")
    return Recipe.model_validate({**data, "published": entries})


def _entry(value, **more):
    return {"metrics": {"PCK@0.1": value}, "source": "made up", **more}


@pytest.fixture
def finished(tiny):
    """A finished run, its recipe, and the rings' PCK in it."""
    recipe = tiny()
    done = posekit.train(recipe)
    return recipe, done.folder, done.results["rings"].metrics["PCK@0.1"]


def test_missing_files_are_named_once_with_what_they_are_and_where_from(tmp_path):
    recipe = load_recipe("vitpose_base_coco", [f"data_root={tmp_path}"])
    found = posekit.reproduce(recipe)
    missing = {str(file.path): (file.what, file.source) for file in found.missing}
    boxes = tmp_path / "coco/person_detection_results"
    boxes /= "COCO_val2017_detections_AP_H_56_person.json"
    what, source = missing[str(boxes)]
    assert "detector's boxes" in what
    assert "human-pose-estimation.pytorch" in source
    assert missing["pretrained/mae_pretrain_vit_base.pth"][1].endswith("facebookresearch/mae")
    assert str(tmp_path / "coco/train2017") in missing
    assert not found.is_good
    # an empty folder is not images
    (tmp_path / "coco/train2017").mkdir(parents=True)
    assert str(tmp_path / "coco/train2017") in {
        str(f.path) for f in posekit.reproduce(recipe).missing
    }


def test_ground_truth_named_in_a_splits_options_is_needed_too(tmp_path):
    recipe = load_recipe("vitpose_base_multi", [f"data_root={tmp_path}"])
    paths = [file.path for file in needed_files(recipe, read_heads(recipe))]
    assert tmp_path / "mpii/annotations/mpii_gt_val.mat" in paths
    ochuman = [path for path in paths if "ochuman" in str(path)]
    assert len(ochuman) >= 3  # annotations of both splits, and images


def test_a_runs_own_number_is_taken_and_judged(finished, monkeypatch):
    recipe, folder, _ = finished
    file, value = folder / "eval/rings/metrics.json", 0.5
    scores = json.loads(file.read_text())
    scores["metrics"]["PCK@0.1"] = value
    file.write_text(json.dumps(scores))
    module = importlib.import_module("posekit.engine.reproduce")
    monkeypatch.setattr(module, "evaluate_model", None)  # nothing is measured
    entries = {
        "rings": _entry(value * 1.001),
        "high": _entry(value + 0.2, head="rings"),
        "low": _entry(value / 2, head="rings"),
        "odd": _entry(value + 0.2, head="rings", doubt="a slip"),
    }
    found = posekit.reproduce(_publishing(recipe, **entries), folder)
    verdicts = {row.entry: (row.verdict, row.taken_from) for row in found.rows}
    assert verdicts == {
        "rings": ("reproduced", "run"),
        "high": ("below", "run"),
        "low": ("above", "run"),
        "odd": ("not judged", "run"),
    }
    assert not found.is_good


def test_a_number_of_another_protocol_is_measured_anew(finished):
    recipe, folder, value = finished
    metrics = json.loads((folder / "eval/rings/metrics.json").read_text())
    metrics["protocol"]["flip_test"] = False
    metrics["metrics"]["PCK@0.1"] = 0.0123
    (folder / "eval/rings/metrics.json").write_text(json.dumps(metrics))
    found = posekit.reproduce(_publishing(recipe, rings=_entry(value)), folder)
    assert found.rows[0].taken_from == "model"
    assert found.rows[0].found == pytest.approx(value, abs=1e-6)
    assert found.is_good
    # a published protocol of its own is measured as well
    entry = _entry(value, protocol={"flip_test": False})
    assert posekit.reproduce(_publishing(recipe, rings=entry), folder).rows[0].taken_from == "run"


def test_a_head_may_be_published_on_another_split(finished):
    recipe, folder, _ = finished
    model = folder / "checkpoints" / "last.safetensors"
    entry = _entry(0.5, head="rings", dataset="rings", split="train", doubt="made up")
    found = posekit.reproduce(_publishing(recipe, elsewhere=entry), model)
    assert (found.rows[0].split, found.rows[0].taken_from) == ("train", "model")


def test_a_doubtful_entry_without_files_does_not_spoil_the_rest(finished, tmp_path):
    recipe, folder, value = finished
    entries = {
        "rings": _entry(value),
        "gone": _entry(0.5, head="blobs", dataset="coco", split="val", doubt="not public"),
    }
    found = posekit.reproduce(_publishing(recipe, **entries), folder)
    assert [row.entry for row in found.rows] == ["rings"]
    assert {file.entry for file in found.missing} == {"gone"}
    assert found.is_good


def test_wrong_entries_are_one_sentence(finished):
    recipe, folder, _ = finished
    with pytest.raises(ConfigError, match="has no published numbers to reproduce"):
        posekit.reproduce(recipe)
    entry = {"metrics": {"AP": 0.5}, "source": "made up"}
    with pytest.raises(ConfigError, match=r"'AP' is no metric of 'rings' \(metrics: .*PCK@0.1"):
        posekit.reproduce(_publishing(recipe, rings=entry), folder)
    data = recipe.model_dump(mode="json")
    with pytest.raises(ConfigError, match=r"published.x: there is no head 'x'"):
        posekit.reproduce(_write(recipe.out, {**data, "published": {"x": entry}}))


def _write(out, data):
    file = f"{out}-recipe.yaml"
    with open(file, "w", encoding="utf-8") as stream:
        yaml.safe_dump(data, stream)
    return file


def test_the_command_ends_with_1_for_missing_files_and_0_for_a_reproduced_number(
    finished, tmp_path
):
    recipe, folder, value = finished
    runner = CliRunner()
    done = runner.invoke(app, ["reproduce", "vitpose_base_coco", f"data_root={tmp_path}"])
    assert done.exit_code == 1
    assert "missing:" in done.output
    file = _write(recipe.out, _publishing(recipe, rings=_entry(value)).model_dump(mode="json"))
    done = runner.invoke(app, ["reproduce", str(file), str(folder), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["rows"][0]["verdict"] == "reproduced"


def test_detector_boxes_that_are_not_there_stop_a_run_before_it_begins(tiny):
    recipe = tiny()
    heads = {
        name: head.model_copy(update={"protocol": {"boxes": "nowhere.json"}})
        for name, head in recipe.heads.items()
    }
    with pytest.raises(PredictionError, match=r"nowhere\.json: there is no such file, expected"):
        posekit.train(recipe.model_copy(update={"heads": heads}))
    assert not Path(recipe.out, "log.jsonl").exists()
