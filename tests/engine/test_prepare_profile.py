"""posekit prepare and posekit profile, from Python and from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import tiny_recipe, write_card, write_dataset
from typer.testing import CliRunner

import posekit
from posekit.cli.base import app
from posekit.config.recipe import Recipe, recipe_from_dict
from posekit.engine.profile import PARTS, advise, limit_of


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("POSEKIT_CARDS", str(tmp_path / "cards"))
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path / "cache"))
    for name in ("blobs", "rings"):
        write_dataset(tmp_path / "data", name)
        write_card(tmp_path / "cards", name)
    made = tiny_recipe(tmp_path / "data", tmp_path / "run")
    made["data"] = {**made.get("data", {}), "cache": "store", "workers": 0}
    return made


def typed(recipe: dict[str, Any], **training: Any) -> Recipe:
    return recipe_from_dict({**recipe, "training": {**recipe["training"], **training}})


def test_prepare_leaves_training_nothing_to_build(recipe, tmp_path, monkeypatch):
    told = []
    done = posekit.prepare(recipe_from_dict(recipe), say=lambda *what: told.append(what))
    assert done["blobs"].instances == {"train": (6, 6), "val": (6, 6)}
    assert done["blobs"].store_mib > 0
    assert done["blobs"].broken == 0
    assert ("blobs", 6, 6) in told
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*")}
    assert any("crops" in p.parts for p in before)
    posekit.prepare(recipe_from_dict(recipe))
    posekit.prepare_run(recipe_from_dict(recipe)).loader.batch(0)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*")} == before


def test_prepare_counts_images_that_cannot_be_read(recipe, tmp_path):
    next((tmp_path / "data/rings/images").glob("train_*")).unlink()
    done = posekit.prepare(recipe_from_dict(recipe))
    assert (done["blobs"].broken, done["rings"].broken) == (0, 1)


def test_without_a_store_prepare_makes_the_indices_only(recipe, tmp_path):
    recipe["data"]["cache"] = "none"
    done = posekit.prepare(recipe_from_dict(recipe))
    assert done["rings"].store_mib is None
    assert (tmp_path / "cache/indices").is_dir()
    assert not (tmp_path / "cache/crops").exists()


def test_the_parts_of_a_profile_add_up_and_leave_nothing_behind(recipe, tmp_path):
    found = posekit.profile(typed(recipe, accumulate=2), steps=3, warmups=1)
    assert tuple(found.parts_s) == PARTS
    assert all(seconds > 0 for seconds in found.parts_s.values())
    assert sum(found.parts_s.values()) == pytest.approx(found.step_s, rel=0.5)
    assert 0 < found.utilisation < 1.5
    assert found.advice
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "host", "forward", "used", "limit"),
    [
        (30, 1, 69, 0.5, "data"),
        (10, 30, 60, 0.5, "host"),
        (5, 5, 90, 0.6, "compute"),
        (5, 5, 90, 0.3, "memory"),
    ],
)
def test_the_limit_is_what_takes_the_time(data, host, forward, used, limit):
    parts = {"data": data, "host": host, "forward": forward, "backward": 0, "optimizer": 0}
    assert limit_of(parts, used) == limit


def test_advice_names_settings_that_the_recipe_does_not_have_yet(recipe):
    slow, fast = typed(recipe), typed(recipe, precision="bf16", compile=True)
    assert any("training.precision=bf16" in text for text in advise("compute", slow, "cpu"))
    assert not any("precision" in text for text in advise("compute", fast, "cpu"))
    assert any("training.compile=true" in text for text in advise("memory", slow, "cuda"))
    for recipe_, device in ((fast, "cuda"), (slow, "cpu")):
        assert not any("compile" in text for text in advise("memory", recipe_, device))
    assert not any("cache=store" in text for text in advise("data", slow, "cpu"))


def test_both_commands_speak_json_and_to_people(recipe, tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    run = CliRunner().invoke
    shown = run(app, ["prepare", str(file)]).stdout
    assert "Ready for training" in shown
    assert "blobs" in shown
    prepared = json.loads(run(app, ["prepare", str(file), "--json"]).stdout)
    assert prepared["rings"]["instances"]["train"] == [6, 6]
    shown = run(app, ["profile", str(file), "--steps", "2"]).stdout
    assert "Limited by" in shown
    profiled = json.loads(run(app, ["profile", str(file), "--steps", "2", "--json"]).stdout)
    assert set(profiled["parts_s"]) == set(PARTS)
