"""What `posekit info` says about the cost of attention."""

from __future__ import annotations

import pytest

from posekit.cli.base import app
from posekit.engine.describe import cost_line, describe


@pytest.fixture
def recipe_file(tiny, tmp_path):
    recipe = tiny()
    backbone = recipe.backbone.model_copy(
        update={"attention": ("window", "full"), "window": (2, 2)}
    )
    file = tmp_path / "windows.yaml"
    file.write_text(recipe.model_copy(update={"backbone": backbone}).to_yaml(), encoding="utf-8")
    return file


def test_the_cost_of_each_input_size_stands_beside_full_attentions(recipe_file):
    cost = describe(recipe_file)["cost"]
    assert set(cost) == {"32x32", "32x24"}
    square = cost["32x32"]
    # 16 tokens of width 16 in two blocks; four windows of four tokens in the first
    assert square["full_attention"] == 2 * 2 * 16**2 * 16
    assert square["attention"] == 2 * 4 * 4**2 * 16 + 2 * 16**2 * 16
    assert square["stem"] == 16 * 3 * 8 * 8 * 16


def test_info_prints_the_share(recipe_file):
    from typer.testing import CliRunner  # noqa: PLC0415

    shown = CliRunner().invoke(app, ["info", str(recipe_file)]).output
    assert "of full attention's" in shown
    assert "the attention products alone 62.5%" in shown


def test_full_attention_is_said_to_be_full():
    macs = {"stem": 1, "projections": 2, "ffn": 3, "attention": 4, "full_attention": 4}
    assert "(full attention, 40.0% of them)" in cost_line("1x1", macs)
