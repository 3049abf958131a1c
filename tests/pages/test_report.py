"""The report shows what a run left behind, says what is missing, and needs nothing else."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from posekit.errors import PosekitError
from posekit.pages.report import write_report
from posekit.pages.report_charts import line_chart, nice_ticks
from posekit.pages.report_data import lower_is_better, read_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "first run"
    (folder / "eval" / "people").mkdir(parents=True)
    (folder / "recipe.yaml").write_text("name: first\nnote: <b>&</b>\n", encoding="utf-8")
    lines = [
        {"step": s, "epoch": s / 10, "lr": 1e-3, "loss": {"people": 9.0 - s / 100, "faces": 4.0},
         "images_per_s": 100.0, "data_wait": 0.25}
        for s in range(10, 110, 10)
    ]  # fmt: skip
    lines.append({"step": 100, "eval": {"people": {"PCK@0.1": 0.5}}})
    for step in (50, 100):
        gradients = {"layer": 6, "norm": {}, "share": {"people": 0.75, "faces": 0.25}}
        cosine = [["people", "faces", -0.4 if step == 100 else 0.9], ["people", "dogs", None]]
        lines.append({"step": step, "gradients": {**gradients, "cosine": cosine}})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "log.jsonl").write_text(text, encoding="utf-8")
    metrics = {
        "metrics": {"PCK@0.1": 0.71, "nme": None},
        "headline": "PCK@0.1",
        "baseline": {"PCK@0.1": 0.12},
        "per_keypoint": {"nose": {"PCK@0.1": 0.9}, "left_hand": {"PCK@0.1": 0.3}},
        "protocol": {
            "boxes": "annotation <i>",
            "flip_test": True,
            "columns": {"Hand": ["left_hand", "right_hand"], "Face": ["nose"]},
        },
        "counts": {"instances": 4321},
        "per_category": {"7": {"AP": 0.31, "AP (M)": -1}, "9": {"AP": 0.62}},
        "error_types": {
            "shares": {"good": 0.5, "jitter": 0.2, "inversion": 0.1, "swap": 0.05, "miss": 0.15},
            "per_keypoint": {"nose": {"good": 0.9, "jitter": 0.1}, "left_hand": {"good": 0.1}},
            "scale": "distance <tenths>",
        },
        "calibration": {
            "bins": [[0.1, 0.2, 0.15, 0.3, 50], [0.2, 0.9, 0.5, 0.8, 50]],
            "expected_error": 0.225,
            "ranking": 0.87,
        },
        "findings": [{"name": "swapped_sides", "text": "left & right", "is_fatal": False}],
    }
    (folder / "eval/people/metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    picture = np.full((40, 60, 3), 90, dtype=np.uint8)
    cv2.imwrite(str(folder / "eval/people/worst.png"), picture)
    return folder


class Page(HTMLParser):
    """Collects what a browser would load, the links, the text, and unbalanced tags."""

    def __init__(self, text: str):
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag in {"img", "script", "iframe"} and values.get("src"):
            self.loads.append(values["src"])
        if tag == "link":
            self.loads.append(values.get("href", ""))
        if tag == "a":
            self.links.append(values["href"])
        if "id" in values:
            self.ids.add(values["id"])
        if tag not in {"meta", "img", "br", "link"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_loads_nothing_from_anywhere_and_its_tags_balance(run: Path):
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.loads
    assert all(source.startswith("data:image/") for source in page.loads)
    assert not re.search(r"https?://|url\(|@import", text)


def test_every_link_leads_to_a_section_or_a_file_that_exists(run: Path):
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "#head-people" in page.links
    for link in page.links:
        assert link[1:] in page.ids if link.startswith("#") else (run / link).is_file(), link


def test_the_score_stands_beside_its_baseline_and_its_protocol(run: Path):
    words = " ".join(Page(write_report(run).read_text(encoding="utf-8")).words)
    for expected in ("0.710", "0.120", "+0.590", "PCK@0.1", "annotation <i>", "4,321", "left_hand"):
        assert expected in words, expected
    assert "No evaluation yet of faces" in words
    assert "note: <b>&</b>" in words


def test_the_measure_that_all_heads_share_stands_below_the_official_one(run: Path):
    file = run / "eval/people/metrics.json"
    shared = {"name": "PCK of the box", "model": 0.444, "baseline": 0.111}
    file.write_text(json.dumps({**json.loads(file.read_text()), "common_metric": shared}))
    words = " ".join(Page(write_report(run).read_text(encoding="utf-8")).words)
    for expected in ("PCK of the box", "0.444", "0.111", "+0.333"):
        assert expected in words


def test_shares_and_conflicts_of_the_heads_gradients_are_drawn(run: Path):
    page = write_report(run).read_text(encoding="utf-8")
    record = read_run(run)
    assert record.shares == {
        "people": [(50, 0.75), (100, 0.75)],
        "faces": [(50, 0.25), (100, 0.25)],
    }
    assert record.cosines == {("people", "faces"): [(50, 0.9), (100, -0.4)]}
    assert "How the heads move the backbone" in page
    assert "people | faces" in page
    assert '<td class="n bad">\N{MINUS SIGN}0.40</td>' in page  # the mean of the later half
    assert "How the heads move" not in write_report(other_run(run)).read_text(encoding="utf-8")


def other_run(run: Path) -> Path:
    """The same run without the lines about gradients."""
    other = run.parent / "other"
    shutil.copytree(run, other)
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if "gradients" not in line]
    (other / "log.jsonl").write_text("".join(kept), encoding="utf-8")
    return other


def test_kinds_of_errors_calibration_categories_and_findings_stand_with_the_head(run: Path):
    text = write_report(run).read_text(encoding="utf-8")
    words = " ".join(" ".join(Page(text).words).split())
    assert "good 50.0%, jitter 20.0%, inversion 10.0%, swap 5.0%, miss 15.0%" in words
    assert "Similarity: distance <tenths>." in words
    assert words.index("left_hand") < words.index("nose")  # the worst first
    assert "Expected calibration error 0.225." in words
    assert "higher than a wrong one in 87%" in words
    assert "By category" in words
    assert '<td class="n">-</td>' in text  # nothing in that range, which is no score
    assert "Hand: left_hand, right_hand; Face: nose" in words
    assert "0.310" in words
    assert "swapped sides : left & right" in words


def test_the_page_bears_the_recipes_name(run: Path):
    assert "<h1>first</h1>" in write_report(run).read_text(encoding="utf-8")
    (run / "recipe.yaml").write_text("[")
    assert "<h1>first run</h1>" in write_report(run).read_text(encoding="utf-8")


def test_a_score_below_the_mean_pose_is_called_no_better(run: Path):
    file = run / "eval/people/metrics.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, "baseline": {"PCK@0.1": 0.8}}))
    assert "(no better)" in write_report(run).read_text(encoding="utf-8")
    errors = {"metrics": {"NME": 0.05}, "headline": "NME", "baseline": {"NME": 0.2}}
    file.write_text(json.dumps(errors))
    assert "(no better)" not in write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize("kept", ["recipe.yaml", "log.jsonl", "eval"])
def test_a_run_with_only_one_part_still_gets_its_page(run: Path, kept: str):
    for path in sorted(run.rglob("*"), reverse=True):
        if kept not in path.relative_to(run).parts:
            path.unlink() if path.is_file() else path.rmdir()
    words = " ".join(Page(write_report(run).read_text(encoding="utf-8")).words)
    assert ("No losses logged yet" in words) == (kept != "log.jsonl")
    assert ("No evaluation yet" in words) == (kept != "eval")


def test_a_log_cut_off_by_a_kill_is_read_up_to_the_cut(run: Path):
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 110, "lo')
    record = read_run(run)
    assert record.bad_lines == 1
    assert [step for step, _ in record.losses["people"]] == list(range(10, 110, 10))
    assert "1 unreadable line" in write_report(run).read_text(encoding="utf-8")


def test_steps_repeated_after_a_resume_count_once_with_their_last_value(run: Path):
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 50, "loss": {"people": 1.25}}) + "\n")
    points = read_run(run).losses["people"]
    assert len(points) == 10
    assert dict(points)[50] == 1.25


def test_a_folder_that_is_no_run_is_named_in_one_sentence(tmp_path: Path):
    with pytest.raises(PosekitError, match=r"nothing_here: there is no such run folder"):
        write_report(tmp_path / "nothing_here")
    with pytest.raises(PosekitError, match=r"found no recipe.yaml, log.jsonl or eval/"):
        write_report(tmp_path)


def test_a_broken_metrics_file_is_named(run: Path):
    (run / "eval/people/metrics.json").write_text('{"metrics": ')
    with pytest.raises(PosekitError, match=r"people/metrics.json: expected a JSON object"):
        write_report(run)


def test_a_broken_picture_is_left_out(run: Path):
    (run / "eval/people/worst.png").write_bytes(b"no picture")
    assert "<img" not in write_report(run).read_text(encoding="utf-8")


def test_a_chart_keeps_its_lines_inside_and_ends_at_the_last_value():
    points = [(s, float(np.sin(s / 50)) + 2) for s in range(2000)]
    svg = line_chart({"a": points}, label="sine")
    line = re.search(r'class="s0 line" points="([^"]+)"', svg)[1]
    places = np.array([pair.split(",") for pair in line.split()], dtype=float)
    assert len(places) <= 400
    assert places.min() >= 0
    assert places[:, 0].max() <= 320
    assert places[:, 1].max() <= 170
    dot = re.search(r'cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert [float(dot[1]), float(dot[2])] == places[-1].tolist()


def test_a_report_that_cannot_be_written_is_one_sentence_and_leaves_nothing_behind(run: Path):
    (run / "report.html").mkdir()
    with pytest.raises(PosekitError, match=r"report\.html: cannot be written"):
        write_report(run)
    assert not list(run.glob("*.part"))


def test_text_from_files_cannot_become_markup(run: Path):
    name = "<script>alert(1)</script>"
    file = run / "eval/people/metrics.json"
    data = json.loads(file.read_text())
    data["findings"] = [{"name": name, "text": name}]
    data["per_keypoint"] = data["error_types"]["per_keypoint"] = {name: {"good": 0.5, name: 1.0}}
    file.write_text(json.dumps({**data, "headline": name, "metrics": {name: 0.5}}))
    text = write_report(run).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text


@pytest.mark.parametrize("points", [[(5, 1.0)], [(5, 0.0), (6, 0.0)], [(1, -3.0), (2, -3.0)]])
def test_one_point_or_a_flat_line_is_drawn(points):
    assert "nan" not in line_chart({"a": points}, label="flat")
    assert line_chart({"a": []}, label="empty") == ""


def test_ticks_are_round_and_inside():
    assert nice_ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert nice_ticks(3.1, 11.9) == pytest.approx([4, 6, 8, 10])


def test_error_measures_are_told_from_scores():
    assert lower_is_better("NME")
    assert lower_is_better("FR@0.1")
    assert not lower_is_better("AP")
    assert not lower_is_better("from_scratch")
