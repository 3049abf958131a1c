"""The page on protocols speaks of every setting, evaluator, dataset, key and fault there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from posekit.config.cards import available, load_dataset_card
from posekit.evaluation.base import Scores
from posekit.evaluation.registry import EVALUATORS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EVALUATORS.built_in)
def test_every_setting_of_every_evaluator_is_explained(page, name):
    assert f"`{name}`" in page
    fields = EVALUATORS.built_in[name].protocol_class.model_fields
    missing = [key for key in fields if f"`{key}`" not in page]
    assert not missing


def test_every_dataset_stands_in_the_table_with_its_evaluator(page):
    rows = dict(re.findall(r"^\| (\w+) \| `(\w+)` \|", page, re.MULTILINE))
    assert rows == {name: load_dataset_card(name).evaluator for name in available("datasets")}


def test_every_key_of_the_metrics_is_explained(page):
    keys = {*Scores.__dataclass_fields__, "baseline", "common_metric", "error_types", "calibration"}
    assert not [key for key in sorted(keys) if f"`{key}`" not in page]


def test_every_fault_that_the_diagnosis_names_is_listed(page):
    source = "".join(
        (ROOT / "posekit" / "diagnosis" / f"{name}.py").read_text(encoding="utf-8")
        for name in ("diagnose", "geometry")
    )
    names = set(re.findall(r'(?:Finding|warning)\(\s*"(\w+)"', source))
    names |= set(re.findall(r'yield \(\s*"(\w+)"', source))
    names |= set(re.findall(r'left\["(\w+)"\]', source))
    assert len(names) >= 15
    assert not [name for name in sorted(names) if f"`{name}`" not in page]
