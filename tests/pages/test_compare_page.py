"""Runs side by side as a page that needs nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_report import Page

from posekit import cli
from posekit.errors import ConfigError, PosekitError
from posekit.evaluation.compare import compare_runs
from posekit.pages.compare_page import write_comparison


def make_run(folder: Path, score: float, *, flip: bool = True) -> Path:
    lines = [{"step": s, "loss": {"people": 5 / s}, "images_per_s": 10.0} for s in (1, 2, 3)]
    lines += [{"step": 3, "eval": {"people": {"PCK@0.1": score}}}]
    where = folder / "eval" / "people"
    where.mkdir(parents=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "log.jsonl").write_text(text, encoding="utf-8")
    metrics = {
        "metrics": {"PCK@0.1": score, "EPE": None},
        "headline": "PCK@0.1",
        "per_keypoint": {"nose": {"PCK@0.1": score}, "tail": {"PCK@0.1": None}},
        "protocol": {"boxes": "annotation <i>", "flip_test": flip},
        "counts": {"instances": 4},
    }
    (where / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [make_run(tmp_path / "one & only", 0.5), make_run(tmp_path / "two", 0.75)]


def test_the_page_holds_both_runs_and_marks_the_best(runs: list[Path], tmp_path: Path):
    file = write_comparison(tmp_path / "pages" / "c.html", compare_runs(runs), runs)
    text = file.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    assert not [source for source in page.loads if not source.startswith("data:")]
    assert {link.removeprefix("#") for link in page.links} <= page.ids
    words = " ".join(page.words)
    assert "one & only" in words
    assert "annotation <i>" in words
    assert "<b>0.750</b>" in text
    assert "<b>0.500</b></td>" not in text
    assert text.count("<polyline") == 2  # the two losses; one point each of the scores


def test_other_protocols_are_refused_or_told_on_the_page(runs: list[Path], tmp_path: Path):
    runs.append(make_run(tmp_path / "three", 0.9, flip=False))
    with pytest.raises(ConfigError, match="flip_test"):
        compare_runs(runs)
    compared = compare_runs(runs, allow_differences=True)
    text = write_comparison(tmp_path / "c.html", compared, runs).read_text(encoding="utf-8")
    assert "made by different protocols and do not" in text
    assert re.search(r"<b>flip test</b>: one &amp; only True, two True, three False", text)


def test_the_command_writes_the_page(monkeypatch, capsys, runs: list[Path], tmp_path: Path):
    page = tmp_path / "c.html"
    arguments = ["posekit", "compare", *map(str, runs), "--html", str(page)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert str(page) in capsys.readouterr().out.replace("\n", "")
    assert page.is_file()


def test_a_page_that_cannot_be_written_is_one_sentence(runs: list[Path], tmp_path: Path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(PosekitError, match="cannot be written"):
        write_comparison(tmp_path / "file" / "c.html", compare_runs(runs), runs)
