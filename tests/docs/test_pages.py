"""The tutorials do what they say: every block of each page is run, in the order of the site."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from doc_blocks import run_page

from posekit.engine.setup import read_heads
from posekit.models import build_model
from posekit.models.foreign_export import export_official
from posekit.recipe import load_recipe

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.slow
def test_the_pages_on_training_and_evaluation_run_one_after_the_other(tmp_path, monkeypatch):
    assert run_page(DOCS / "joint_training.md", tmp_path, monkeypatch) >= 5
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
    assert run_page(DOCS / "evaluate_heads.md", tmp_path, monkeypatch) >= 4


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


def test_every_page_stands_in_the_site_and_links_to_pages_that_are_there():
    site = yaml.safe_load((DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8"))
    named = set(re.findall(r"[\w/]+\.md", str(site["nav"])))
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert named == pages
    for page in pages:
        text = (DOCS / page).read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert ((DOCS / page).parent / link).is_file(), f"{page} links to {link}"
