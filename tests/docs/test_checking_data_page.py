"""The page on checking data does what it says: every block of it is run."""

from pathlib import Path

import pytest
from doc_blocks import run_page

from posekit.practice import PracticeSizes, write_practice_data

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.slow
def test_the_page_on_checking_data_runs_on_practice_data(tmp_path, monkeypatch):
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path / "cache"))
    sizes = PracticeSizes(40, 12)
    write_practice_data(tmp_path / "data", 1, sizes, ["coco"])
    write_practice_data(tmp_path / "again", 2, sizes, ["coco"])
    (tmp_path / "again" / "coco").rename(tmp_path / "data" / "other")
    assert run_page(DOCS / "checking_data.md", tmp_path, monkeypatch) == 6
    assert (tmp_path / "check.html").is_file()
    assert (tmp_path / "exclude.txt").read_text(encoding="utf-8").startswith("# images of mine")
