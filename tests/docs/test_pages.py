"""The tutorials do what they say: every block of each page is run, in the order of the site."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from doc_blocks import blocks_of, run_page

from posekit.config.recipe import load_recipe
from posekit.engine.setup import read_heads
from posekit.models import build_model
from posekit.models.foreign_export import export_official

DOCS = Path(__file__).resolve().parents[2] / "docs"
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))


@pytest.mark.slow
def test_the_pages_on_training_and_evaluation_run_one_after_the_other(tmp_path, monkeypatch):
    assert run_page(DOCS / "joint_training.md", tmp_path, monkeypatch) >= 5
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
    assert run_page(DOCS / "evaluate_heads.md", tmp_path, monkeypatch) >= 4


def test_the_page_on_a_loop_of_ones_own_runs_and_its_loop_is_short(tmp_path, monkeypatch):
    page = DOCS / "own_loop.md"
    assert run_page(page, tmp_path, monkeypatch) == 4
    loops = [b for b in blocks_of(page.read_text(encoding="utf-8")) if "prepare_run(" in b.text]
    assert [len(loop.text.splitlines()) <= 20 for loop in loops] == [True]


def test_the_page_on_parts_of_ones_own_runs(tmp_path, monkeypatch):
    assert run_page(DOCS / "plug_ins.md", tmp_path, monkeypatch) == 7
    assert (tmp_path / "runs" / "own" / "code.json").is_file()


def test_the_page_for_users_of_vitpose_runs_on_a_small_file_of_the_official_layout(
    tmp_path, monkeypatch
):
    heads = {n: head.spec for n, head in read_heads(load_recipe("vitpose_base_coco")).items()}
    torch.manual_seed(0)
    export_official(build_model({"name": "vitpose_small"}, heads), tmp_path / "vitpose-b.pth")
    photo = np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "photo.jpg"), photo)
    assert run_page(DOCS / "from_vitpose.md", tmp_path, monkeypatch) == 4
    assert list((tmp_path / "predictions").glob("*.json"))


def test_the_page_on_poses_runs_and_leaves_every_file_that_it_speaks_of(tmp_path, monkeypatch):
    for package in ("pandas", "tables", "sleap_io"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.full((120, 160, 3), 90, np.uint8))
    assert run_page(DOCS / "poses.md", tmp_path, monkeypatch) == 8
    left = {"drawn.jpg", "p.json", "p.csv", "p.h5", "p.slp"}
    assert left <= {file.name for file in tmp_path.iterdir()}


def test_every_page_stands_in_the_site_and_links_to_pages_that_are_there():
    site = yaml.safe_load((DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8"))
    named = set(re.findall(r"[\w/]+\.md", str(site["nav"])))
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert named == pages
    for page in pages:
        text = (DOCS / page).read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert ((DOCS / page).parent / link).is_file(), f"{page} links to {link}"


def _picture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw four discs: a picture (96, 128, 3) and their middles (4, 2)."""
    picture = rng.integers(0, 60, (96, 128, 3), dtype=np.uint8)
    turn = rng.uniform(0, 2 * np.pi)
    spread = np.array([[0, -24], [-12, -10], [12, -10], [0, 26]]) @ np.array(
        [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    )
    points = spread + rng.uniform([40, 36], [88, 60])
    for (x, y), colour in zip(points, COLOURS, strict=True):
        cv2.circle(picture, (round(x), round(y)), 4, colour, -1)
    return picture, points


def _write_deeplabcut(folder: Path) -> None:
    rng = np.random.default_rng(1)
    parts = ["snout", "leftear", "rightear", "tailbase"]
    frames = folder / "labeled-data" / "m1"
    frames.mkdir(parents=True)
    rows = [
        ["scorer", *["me"] * 8],
        ["bodyparts", *(part for part in parts for _ in "xy")],
        ["coords", *["x", "y"] * 4],
    ]
    for number in range(20):
        picture, points = _picture(rng)
        cv2.imwrite(str(frames / f"img{number:03}.png"), picture)
        numbers = (f"{value:.2f}" for value in points.ravel())
        rows.append([f"labeled-data/m1/img{number:03}.png", *numbers])
    lines = [",".join(row) for row in rows]
    (frames / "CollectedData_me.csv").write_text("\n".join(lines) + "\n")
    config = {"scorer": "me", "bodyparts": parts, "skeleton": [["snout", "tailbase"]]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def _write_yolo(folder: Path) -> None:
    rng = np.random.default_rng(2)
    for split, count in (("train", 12), ("val", 6)):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for number in range(count):
            picture, points = _picture(rng)
            cv2.imwrite(str(folder / "images" / split / f"{number}.png"), picture)
            shares = points / [128, 96]
            low, high = shares.min(0) - 0.05, shares.max(0) + 0.05
            box = [*(low + high) / 2, *(high - low)]
            triples = [value for x, y in shares for value in (x, y, 2)]
            line = " ".join(f"{value:.5f}" for value in [*box, *triples])
            (folder / "labels" / split / f"{number}.txt").write_text(f"0 {line}\n")
    data = {"path": ".", "train": "images/train", "val": "images/val", "names": {0: "dog"}}
    data |= {"kpt_shape": [4, 3], "flip_idx": [0, 2, 1, 3]}
    (folder / "data.yaml").write_text(yaml.safe_dump(data))


@pytest.mark.slow
def test_the_page_for_users_of_deeplabcut_runs_on_a_project(tmp_path, monkeypatch):
    _write_deeplabcut(tmp_path / "openfield")
    assert run_page(DOCS / "from_deeplabcut.md", tmp_path, monkeypatch) == 4
    assert "likelihood" in (tmp_path / "predictions.csv").read_text()


@pytest.mark.slow
def test_the_page_for_users_of_yolo_runs_on_a_folder_in_its_layout(tmp_path, monkeypatch):
    _write_yolo(tmp_path / "dogs")
    assert run_page(DOCS / "from_yolo.md", tmp_path, monkeypatch) == 2
    assert list((tmp_path / "predictions").glob("*.json"))
