"""The tutorials do what they say: every block of each page is run, in the order of the site."""

from pathlib import Path

import pytest
from doc_blocks import run_page

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.slow
def test_the_pages_on_training_and_evaluation_run_one_after_the_other(tmp_path, monkeypatch):
    assert run_page(DOCS / "joint_training.md", tmp_path, monkeypatch) >= 5
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
    assert run_page(DOCS / "evaluate_heads.md", tmp_path, monkeypatch) >= 4
