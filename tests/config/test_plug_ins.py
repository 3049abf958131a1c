"""Code that cards, runs and models name runs only when the user allows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import example_plug_ins
import pytest
import torch
import yaml
from safetensors.torch import save_file
from tiny import tiny_recipe, write_card, write_dataset
from typer.testing import CliRunner

import posekit
from posekit.adapters import ADAPTERS
from posekit.cli import app
from posekit.codecs import CODECS
from posekit.config.plug_ins import code_allowed
from posekit.engine.share import write_shared
from posekit.errors import CheckpointError, ConfigError
from posekit.evaluation.registry import EVALUATORS
from posekit.models import HeadSpec, build_model, load_model, save_checkpoint
from posekit.models.checkpoint_file import HEADER, load_checkpoint
from posekit.models.decoders import DECODERS
from posekit.schema import KeypointSchema
from posekit.training.losses import LOSSES

KINDS = [
    (ADAPTERS, "read"),
    (CODECS, "BumpCodec"),
    (DECODERS, "SmallDecoder"),
    (LOSSES, "HuberLoss"),
    (EVALUATORS, "MEDIAN"),
]


def words(parts):
    return parts.word if hasattr(parts, "word") else str(parts)


@pytest.mark.parametrize(("parts", "name"), KINDS, ids=words)
def test_a_file_runs_with_consent_only_and_without_it_one_sentence_says_so(parts, name):
    with pytest.raises(ConfigError) as refused:
        parts.get(f"example_plug_ins.py:{name}", "my_card.yaml", example_plug_ins.FILE.parent)
    said = str(refused.value)
    assert "my_card.yaml" in said
    assert str(example_plug_ins.FILE) in said
    assert "--allow-code" in said
    assert "\n" not in said
    with code_allowed():
        first = parts.get(f"example_plug_ins.py:{name}", "card", example_plug_ins.FILE.parent)
        assert first is parts.get(example_plug_ins.named(name), "card")


@pytest.mark.parametrize("parts", [parts for parts, _ in KINDS], ids=words)
@pytest.mark.parametrize("name", ["os:system", "shutil:rmtree", "subprocess:run", "file"])
def test_what_is_not_made_as_such_a_part_is_refused_even_with_consent(parts, name):
    name = example_plug_ins.named("unmarked") if name == "file" else name
    with code_allowed(), pytest.raises(ConfigError, match="is not made as one; expected"):
        parts.get(name, "card.yaml")
    if parts is not LOSSES:
        with code_allowed(), pytest.raises(ConfigError, match="is not made as one"):
            parts.get(example_plug_ins.named("HuberLoss"), "card.yaml")


def test_a_pinned_file_that_changed_is_refused_and_consent_ends_with_its_block(tmp_path):
    file = tmp_path / "mine.py"
    shutil.copy(example_plug_ins.FILE, file)
    with code_allowed():
        pinned = LOSSES.pin("mine.py:HuberLoss", "card", tmp_path)
        assert LOSSES.get(pinned, "model").__name__ == "HuberLoss"
        file.write_text(file.read_text() + "\n")
        with pytest.raises(ConfigError, match=r"mine\.py is not the file that was recorded"):
            LOSSES.get(pinned, "model")
    with pytest.raises(ConfigError, match="--allow-code"):
        LOSSES.get(pinned, "model")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A recipe with one head all of whose parts are code beside its cards."""
    monkeypatch.setenv("POSEKIT_CARDS", str(tmp_path / "cards"))
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path / "cache"))
    write_dataset(tmp_path / "data", "blobs")
    card = write_card(tmp_path / "cards", "blobs")
    data = yaml.safe_load(card.read_text())
    data |= {"evaluator": "parts.py:MEDIAN", "protocol": {}}
    card.write_text(yaml.safe_dump(data))
    heads = tmp_path / "cards" / "heads"
    heads.mkdir()
    for folder in (card.parent, heads):
        text = example_plug_ins.FILE.read_text()
        (folder / "parts.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n{text}")
    kinds = {"decoder": "SmallDecoder", "codec": "BumpCodec", "loss": "HuberLoss"}
    head = {part: {"kind": f"parts.py:{name}"} for part, name in kinds.items()}
    (heads / "own.yaml").write_text(yaml.safe_dump(head))
    recipe = tiny_recipe(tmp_path / "data", tmp_path / "run", steps=2)
    recipe["heads"] = {"blobs": {"dataset": "blobs", "head": "own", "input_size": [32, 32]}}
    recipe["data"]["workers"] = 1
    recipe["data"]["sampling"] = {"strategy": "equal"}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    return file


def test_a_run_of_plug_ins_trains_resumes_evaluates_and_predicts_with_consent_alone(
    run, tmp_path, monkeypatch
):
    with pytest.raises(ConfigError, match=r"(blobs|own)\.yaml: .*parts\.py.*--allow-code"):
        posekit.train(run)
    assert CliRunner().invoke(app, ["train", str(run), "--plan"]).exit_code != 0
    assert not (tmp_path / "ran").exists()
    done = posekit.train(run, allow_code=True)
    assert done.results["blobs"].metrics["median"] >= 0
    assert (tmp_path / "ran").exists()
    with pytest.raises(ConfigError, match="--allow-code"):
        posekit.train(run, resume=True)
    posekit.train(run, resume=True, allow_code=True)
    assert "allow_code" not in (done.folder / "recipe.yaml").read_text()
    model = done.folder / "checkpoints" / "last.safetensors"
    recorded = json.loads((done.folder / "code.json").read_text())["blobs"]
    assert set(recorded) == {"evaluator", "decoder", "codec", "loss"}
    with pytest.raises(ConfigError, match="--allow-code"):
        posekit.evaluate_run(done.folder)
    with pytest.raises(CheckpointError, match=r"last\.safetensors: head 'blobs'.*--allow-code"):
        posekit.load(model)
    assert posekit.load(model, allow_code=True).model.head_names == ("blobs",)
    assert posekit.evaluate_run(done.folder, allow_code=True, report=False)["blobs"].metrics
    with pytest.raises(CheckpointError, match="--allow-code"):
        write_shared(done.folder, tmp_path / "refused")
    notes = write_shared(done.folder, tmp_path / "shared", allow_code=True)
    assert any("code is not shared: parts.py" in note for note in notes)
    shared = tmp_path / "shared" / "model.safetensors"
    assert str(tmp_path).encode() not in shared.read_bytes()
    monkeypatch.chdir(tmp_path / "cards" / "heads")
    assert posekit.load(shared, allow_code=True).model.head_names == ("blobs",)
    card_code = tmp_path / "cards" / "datasets" / "parts.py"
    card_code.write_text(card_code.read_text() + "\n")
    with pytest.raises(ConfigError, match=r"code\.json: the evaluator of head 'blobs' was"):
        posekit.evaluate_run(done.folder, allow_code=True)


@pytest.mark.parametrize(
    ("key", "name"),
    [("adapter", "os:system"), ("adapter", "shutil:rmtree"), ("evaluator", "subprocess:run")],
)
@pytest.mark.parametrize("extra", [[], ["--allow-code"]])
def test_a_card_deletes_and_starts_nothing(tmp_path, monkeypatch, key, name, extra):
    monkeypatch.setenv("POSEKIT_CARDS", str(tmp_path / "cards"))
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path / "cache"))
    root = write_dataset(tmp_path / "data", "blobs")
    card = write_card(tmp_path / "cards", "blobs")
    data = yaml.safe_load(card.read_text())
    card.write_text(yaml.safe_dump({**data, key: name, "protocol": {}}))
    (tmp_path / "p.json").write_text("[]")
    command = ["datasets", "check", "blobs", "--root", str(root)]
    if key == "evaluator":
        arguments = ["--dataset", "blobs", "--split", "val", "--root", str(root)]
        command = ["score", str(tmp_path / "p.json"), *arguments]
    before = sorted(Path(root).rglob("*"))
    result = CliRunner().invoke(app, [*command, *extra])
    assert isinstance(result.exception, ConfigError), result.output
    assert ("not made as one" if extra else "--allow-code") in str(result.exception)
    assert sorted(Path(root).rglob("*")) == before


def test_a_model_whose_header_names_code_runs_nothing(tmp_path, make_model_file):
    file = tmp_path / "evil.py"
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    state, about = load_checkpoint(make_model_file)
    for kind, message in (
        (f"{file}:X", "without its SHA-256"),
        (f"{file}:X#{'0' * 64}", "--allow-code"),
        ("os:system", "--allow-code"),
    ):
        for head in about["model"]["heads"].values():
            head["decoder"]["kind"] = kind
        save_file(state, make_model_file, metadata={HEADER: json.dumps(about)})
        with pytest.raises(CheckpointError, match=message):
            load_model(make_model_file)
        with pytest.raises(CheckpointError), code_allowed():
            load_model(make_model_file)
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def make_model_file(tmp_path):
    schema = KeypointSchema.from_dict({"name": "a", "keypoints": ["x", "y"]})
    spec = HeadSpec(schema, {"kind": "simple"}, {"kind": "msra"}, (32, 32))
    torch.manual_seed(0)
    settings = {"name": "vit", "embed_dim": 16, "depth": 1, "num_heads": 2}
    model = build_model(settings, {"a": spec})
    save_checkpoint(tmp_path / "m.safetensors", model)
    return tmp_path / "m.safetensors"
