"""A head added to a model file, the counts of what trains, and split files equal to the joint."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

import posekit
from posekit.cli import app
from posekit.config.recipe import recipe_from_dict
from posekit.engine import heads
from posekit.engine.describe import describe
from posekit.engine.evaluate import recipe_of
from posekit.errors import ConfigError
from posekit.models import load_model, read_description

runner = CliRunner()


@pytest.fixture
def joint(tiny):
    """The model file of a joint run with experts."""
    data = tiny(steps=1).model_dump(mode="json")
    data["backbone"]["experts"] = {}
    data["heads"]["rings"]["input_size"] = [32, 32]
    done = posekit.train(recipe_from_dict(data), evaluate=False)
    return done.folder / "checkpoints" / "last.safetensors"


def _output(file, head):
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return load_model(file)(images, [(head, slice(0, 3))])[head]


def test_split_files_equal_the_joint_model_to_a_millionth(joint, tmp_path):
    for file in heads.split_heads(joint, tmp_path):
        head = file.stem
        assert load_model(file).backbone.experts == ()
        expected = _output(joint, head)
        torch.testing.assert_close(_output(file, head), expected, rtol=0, atol=1e-6)


def test_an_added_head_is_described_and_leaves_the_others(joint, tmp_path):
    file, card = tmp_path / "more.safetensors", tmp_path / "small.yaml"
    card.write_text("decoder: {kind: simple, upsample: 2}\ncodec: {kind: msra}\n")
    command = ["heads", "add", str(joint), "discs", "--dataset", "blobs", "--head", str(card)]
    more = ["--input-size", "32", "32", "--expert-of", "rings", "--out", str(file)]
    assert runner.invoke(app, [*command, *more]).exit_code == 0
    model = load_model(file)
    assert model.head_names == ("blobs", "rings", "discs")
    assert model.expert_of["discs"] == model.expert_of["rings"]
    assert torch.equal(_output(file, "rings"), _output(joint, "rings"))
    assert read_description(file)["boxes"]["discs"]["padding"] == 1.25
    assert list(recipe_of(file).heads) == ["blobs", "rings", "discs"]
    with pytest.raises(ConfigError, match="has a head 'rings' already"):
        heads.append_head(joint, file, "rings", "blobs", card)


def test_info_counts_what_trains_in_each_part_and_phase(tiny, tmp_path):
    data = tiny().model_dump(mode="json")
    data["freeze"] = {"attention": True}
    data["phases"] = [{"start": 0, "freeze": {"ffn": True}}, {"start": 3}]
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe_from_dict(data).to_yaml(), encoding="utf-8")
    found = describe(file)
    trains = {part: trainable for part, (trainable, _) in found["parts"].items()}
    assert trains["attention"] == 0
    # by hand: two blocks of width 16 and ratio 4: norm 2 x 16, 16 x 64 + 64, 64 x 16 + 16
    assert trains["ffn"] == 2 * (32 + 16 * 64 + 64 + 64 * 16 + 16)
    total = sum(trains.values())
    assert [phase["trainable"] for phase in found["phases"]] == [total - trains["ffn"], total]
    assert sum(count for _, count in found["parts"].values()) == found["parameters"]
    done = runner.invoke(app, ["info", str(file)])
    assert "of them train" in done.output
