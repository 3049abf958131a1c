"""Checkpoints describe themselves, and a bad or unlucky file costs nothing."""

from __future__ import annotations

import json
import pickle
import resource
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from posekit.errors import CheckpointError
from posekit.models import (
    load_checkpoint,
    load_into,
    load_model,
    load_training_state,
    read_description,
    save_checkpoint,
    save_training_state,
)
from posekit.schema import KeypointSchema


@pytest.fixture
def model(make_model, make_spec):
    heads = {"body": make_spec(5), "face": make_spec(3, "classic", (64, 64))}
    return make_model(heads).eval()


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, {"recipe": {"name": "x"}, "step": 7})
    return path


def outputs(model):
    torch.manual_seed(0)
    images = [torch.randn(2, 3, 64, 48), torch.randn(1, 3, 64, 64)]
    with torch.no_grad():
        return model(images, [[("body", slice(0, 2))], [("face", slice(0, 1))]])


def test_a_model_comes_back_whole_from_its_file_alone(model, saved):
    again = load_model(saved)
    assert again.describe() == model.describe()
    assert not again.training
    for name, output in outputs(model).items():
        assert torch.equal(output, outputs(again)[name])
    described = read_description(saved)
    assert (described["recipe"], described["step"]) == ({"name": "x"}, 7)


def test_given_tensors_are_saved_instead_of_the_models_own(model, tmp_path):
    averaged = {name: torch.zeros_like(t) for name, t in model.state_dict().items()}
    save_checkpoint(tmp_path / "ema.safetensors", model, state=averaged)
    state, _ = load_checkpoint(tmp_path / "ema.safetensors")
    assert all(not tensor.any() for tensor in state.values())


@pytest.fixture
def no_room(saved):
    """Let every file that this process writes end after 4 kB, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_old_checkpoint_intact_and_no_rubbish(model, saved, no_room):
    before = saved.read_bytes()
    with pytest.raises(
        CheckpointError,
        match=r"cannot be written \(File too large\); what was there before is intact",
    ):
        save_checkpoint(saved, model)
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


def test_a_full_disk_leaves_the_old_training_state_intact(tmp_path, no_room):
    path = tmp_path / "states" / "last.pt"
    save_training_state(path, {"step": 1})
    with pytest.raises(
        CheckpointError, match=r"\(File too large\); what was there before is intact"
    ):
        save_training_state(path, {"moments": torch.zeros(5000)})
    assert load_training_state(path) == {"step": 1}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_unwritable_place_is_named(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/model.safetensors: cannot be written .*left"):
        save_checkpoint(tmp_path / "file" / "model.safetensors", model)


@pytest.mark.parametrize("kept", [0, 5, 100, 20_000, -1])
def test_a_truncated_checkpoint_gives_one_sentence(saved, kept):
    data = saved.read_bytes()
    saved.write_bytes(data[:kept])
    with pytest.raises(CheckpointError) as caught:
        load_model(saved)
    assert str(saved) in str(caught.value)
    assert "empty" in str(caught.value) or "truncated" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(CheckpointError, match="there is no such file"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="a folder, not a file"):
        load_model(tmp_path)


def test_a_pickle_is_not_opened_as_a_checkpoint(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "zip.safetensors")
    (tmp_path / "old.safetensors").write_bytes(pickle.dumps({"a": 1}))
    for name in ("zip", "old"):
        with pytest.raises(CheckpointError, match=r"a PyTorch pickle file.*posekit convert"):
            load_model(tmp_path / f"{name}.safetensors")


def test_another_projects_safetensors_file_is_named_as_such(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"from another project.*posekit convert"):
        load_model(tmp_path / "other.safetensors")


def rewrite(path, change):
    """Change the description in a checkpoint's header."""
    state, description = load_checkpoint(path)
    change(state, description)
    save_file(state, path, metadata={"posekit": json.dumps(description)})


def test_a_newer_format_asks_for_an_update(saved):
    rewrite(saved, lambda state, description: description.update(format=99))
    with pytest.raises(CheckpointError, match=r"format 99.*update posekit"):
        load_model(saved)


def test_a_description_without_heads_is_incomplete(saved):
    rewrite(saved, lambda state, description: description["model"].pop("heads"))
    with pytest.raises(CheckpointError, match="description of the model is incomplete"):
        load_model(saved)


def test_a_missing_tensor_is_named(saved):
    rewrite(saved, lambda state, description: state.pop("backbone.vit.norm.bias"))
    with pytest.raises(CheckpointError, match=r"do not fit its description.*vit\.norm\.bias"):
        load_model(saved)


def test_a_file_with_a_false_length_is_refused(saved):
    data = saved.read_bytes()
    saved.write_bytes(struct.pack("<Q", 2**40) + data[8:])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_checkpoint(saved)


def test_a_head_with_other_keypoints_than_its_checkpoint_names_head_and_first_difference(
    saved, make_model, make_spec
):
    swapped = KeypointSchema("points", ("point_0", "point_2", "point_1", "point_3", "point_4"))
    model = make_model({"body": replace(make_spec(5), schema=swapped)})
    before = {name: t.clone() for name, t in model.state_dict().items()}
    message = r"head 'body'.*channel 1 is 'point_1' there and 'point_2' here"
    with pytest.raises(CheckpointError, match=message):
        load_into(model, saved)
    longer = make_model({"body": make_spec(6)})
    with pytest.raises(CheckpointError, match="5 keypoints there and 6 here"):
        load_into(longer, saved)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_heads_that_only_one_side_has_keep_their_weights(saved, model, make_model, make_spec):
    other = make_model({"body": make_spec(5), "hand": make_spec(4)})
    hand = other.heads["hand"].decoder.final_layer.weight.clone()
    assert load_into(other, saved) == ("body",)
    assert torch.equal(other.heads["hand"].decoder.final_layer.weight, hand)
    body = load_file(saved)["heads.body.decoder.final_layer.weight"]
    assert torch.equal(other.heads["body"].decoder.final_layer.weight, body)
    with pytest.raises(CheckpointError, match="the checkpoint has no head 'hand'"):
        load_into(other, saved, heads=["hand"])


def test_a_backbone_of_another_size_is_refused_by_tensor(saved, make_model):
    with pytest.raises(CheckpointError, match=r"tensor 'backbone\.vit\..*' is .* there and"):
        load_into(make_model(embed_dim=24), saved)


def test_a_training_state_comes_back_and_takes_plain_values_only(tmp_path):
    state = {
        "optimizer": {"state": {0: {"step": torch.tensor(3.0), "m": torch.randn(4)}}},
        "rng": [torch.get_rng_state(), (3, (1, 2), None)],
    }
    save_training_state(tmp_path / "s.pt", state)
    again = load_training_state(tmp_path / "s.pt")
    assert torch.equal(again["optimizer"]["state"][0]["m"], state["optimizer"]["state"][0]["m"])
    assert again["rng"][1] == (3, (1, 2), None)
    with pytest.raises(TypeError, match=r"state\['rng'\]\[0\] is a object"):
        save_training_state(tmp_path / "s.pt", {"rng": [object()]})


class Bomb:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_training_state_with_code_or_cut_short_is_refused(tmp_path, capsys):
    torch.save({"x": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(CheckpointError, match="could run code; nothing loaded"):
        load_training_state(tmp_path / "bomb.pt")
    assert capsys.readouterr().out == ""
    save_training_state(tmp_path / "s.pt", {"m": torch.zeros(100)})
    (tmp_path / "s.pt").write_bytes((tmp_path / "s.pt").read_bytes()[:300])
    with pytest.raises(CheckpointError, match="take an earlier checkpoint"):
        load_training_state(tmp_path / "s.pt")


def test_a_checkpoint_starts_a_model_of_another_resolution(saved, model, make_model, make_spec):
    larger = make_model({"body": make_spec(5, "simple", (96, 80))}).eval()
    load_into(larger, saved)
    assert larger.backbone.vit.pos_embed.shape == (1, 1 + 6 * 5, 48)
    images = torch.randn(1, 3, 96, 80)
    with torch.no_grad():
        torch.testing.assert_close(larger.features(images), model.features(images))
