"""Wrong files for a conversion give one sentence and load nothing."""

from __future__ import annotations

import pytest
import timm
import torch

from posekit.errors import CheckpointError, ConfigError
from posekit.models import build_model, save_checkpoint
from posekit.models.convert import convert
from posekit.models.pretrained import load_pretrained


def official(model) -> dict[str, torch.Tensor]:
    """The model's tensors under ViTPose's names."""
    state = {}
    for name, tensor in model.state_dict().items():
        short = name.replace("backbone.vit.norm.", "backbone.last_norm.").replace(".vit.", ".")
        state[short.replace("heads.body.decoder.", "keypoint_head.")] = tensor
    return state


@pytest.fixture
def tensors(make_model):
    return official(make_model())


@pytest.fixture
def write(tmp_path):
    def save(content, name="model.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


def test_wrapped_and_prefixed_files_give_the_same_model(tensors, write, make_spec):
    heads = {"body": make_spec(5)}
    files = [
        write({"state_dict": tensors}, "a.pth"),
        write(tensors, "b.pth"),
        write({"module": {f"module.{name}": t for name, t in tensors.items()}}, "c.pth"),
    ]
    states = [convert(file, heads, num_heads=4)[0].state_dict() for file in files]
    for state in states[1:]:
        assert all(torch.equal(state[name], tensor) for name, tensor in states[0].items())


def test_an_unexplained_tensor_is_an_error(tensors, write, make_spec):
    file = write({"state_dict": {**tensors, "keypoint_head.mystery": torch.zeros(1)}})
    message = r"model\.pth: 1 tensors are not accounted for, 'keypoint_head\.mystery' first"
    with pytest.raises(CheckpointError, match=message):
        convert(file, {"body": make_spec(5)}, num_heads=4)


def test_a_missing_tensor_is_an_error(tensors, write, make_spec):
    tensors.pop("backbone.blocks.1.attn.proj.bias")
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors.*blocks\.1\.attn\.proj\.bias"):
        convert(write(tensors), {"body": make_spec(5)}, num_heads=4)


def test_a_head_with_other_keypoints_is_an_error_and_a_larger_one_is_cut(tensors, write, make_spec):
    file = write(tensors)
    with pytest.raises(CheckpointError, match=r"head 'body' does not fit.*final_layer"):
        convert(file, {"body": make_spec(6)}, num_heads=4)
    _, ledger = convert(file, {"body": make_spec(4)}, num_heads=4)
    assert ledger.counts()["resized"] == 2
    with pytest.raises(CheckpointError, match="no head number 1 for 'face'"):
        convert(file, {"body": make_spec(5), "face": make_spec(5)}, num_heads=4)


def test_leftovers_of_the_split_tool_are_left_out_with_a_reason(tensors, write, make_spec):
    for block in range(3):
        for expert in range(2):
            prefix = f"backbone.blocks.{block}.mlp.experts.{expert}"
            tensors[f"{prefix}.weight"] = torch.ones(12, 192)
            tensors[f"{prefix}.bias"] = torch.ones(12)
    tensors["associate_keypoint_heads.0.final_layer.bias"] = torch.ones(5)
    model, ledger = convert(write(tensors), {"body": make_spec(5)}, num_heads=4)
    assert ledger.counts()["left out"] == 13
    notes = {entry.note for entry in ledger.entries if entry.action == "left out"}
    assert len(notes) == 2
    assert model.backbone.experts == ()


def test_posebh_files_give_their_keypoint_heads(tensors, write, make_spec):
    tensors["proto_head.kpt_prototype.prototypes"] = torch.ones(5, 3, 64)
    _, ledger = convert(write(tensors), {"body": make_spec(5)}, num_heads=4)
    (left,) = [entry for entry in ledger.entries if entry.action == "left out"]
    assert "embedding head" in left.note


class Bomb:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_pickle_with_code_runs_nothing(write, make_spec, capsys):
    with pytest.raises(CheckpointError, match="could run code; nothing is loaded"):
        convert(write({"state_dict": {"a": Bomb()}}), {"body": make_spec(5)})
    assert capsys.readouterr().out == ""


def test_truncated_foreign_and_bare_files_are_told_apart(tensors, write, make_spec, make_model):
    heads = {"body": make_spec(5)}
    file = write(tensors)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="not a whole PyTorch file"):
        convert(file, heads)
    with pytest.raises(CheckpointError, match=r"no known layout \(first tensor 'layer1"):
        convert(write({"layer1.weight": torch.zeros(1)}), heads)
    with pytest.raises(CheckpointError, match="expected named tensors"):
        convert(write([1, 2]), heads)
    bare = {n.removeprefix("backbone."): t for n, t in tensors.items() if "keypoint" not in n}
    with pytest.raises(CheckpointError, match="a bare backbone"):
        convert(write(bare), heads)
    with pytest.raises(CheckpointError, match="is not in the file; give num_heads"):
        convert(write(tensors), heads)


def test_a_folder_of_another_architecture_is_refused(tmp_path, make_spec):
    with pytest.raises(CheckpointError, match=r"not a transformers folder, it has no config\.json"):
        convert(tmp_path, {"body": make_spec(5)})
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="model_type is 'bert', expected 'vitpose'"):
        convert(tmp_path, {"body": make_spec(5)})


def test_weights_of_another_width_do_not_start_a_backbone(tensors, write, make_model):
    model = make_model(embed_dim=24, num_heads=4)
    before = model.backbone.vit.norm.weight.clone()
    with pytest.raises(CheckpointError, match=r"tensor 'backbone\..*does not fit"):
        load_pretrained(model.backbone, write(tensors))
    assert torch.equal(model.backbone.vit.norm.weight, before)


def test_position_tables_are_resized_from_the_size_that_the_source_was_made_for(
    tensors, write, make_model, make_spec, tmp_path
):
    small = make_model().eval()
    save_checkpoint(tmp_path / "own.safetensors", small)
    official = convert(write(tensors), {"body": make_spec(5)}, num_heads=4)[0]
    images = torch.randn(1, 3, 96, 80)
    for source, model in [("own.safetensors", small), ("model.pth", official)]:
        large = make_model({"body": make_spec(5, "simple", (96, 80))}).eval()
        ledger = load_pretrained(large.backbone, tmp_path / source)
        (note,) = [e.note for e in ledger.entries if e.action == "resized"]
        assert note.startswith("from 4x3 to 6x5 tokens")
        with torch.no_grad():
            torch.testing.assert_close(large.features(images), model.features(images))


def test_a_conv_stem_starts_fresh_under_other_weights(tensors, write, make_model):
    model = make_model(stem="conv", patch_padding=None)
    before = model.backbone.vit.patch_embed.proj[0].weight.clone()
    ledger = load_pretrained(model.backbone, write(tensors))
    assert torch.equal(model.backbone.vit.patch_embed.proj[0].weight, before)
    left = [entry for entry in ledger.entries if "another stem" in entry.note]
    assert {entry.source for entry in left} == {
        "backbone.patch_embed.proj.weight",
        "backbone.patch_embed.proj.bias",
    }


def test_a_timm_model_takes_all_of_a_timm_file_but_the_classifier(write, make_spec):
    theirs = timm.create_model("test_vit", num_classes=7).eval()
    torch.nn.init.normal_(theirs.norm.weight)
    file = write(theirs.state_dict())
    spec = make_spec(2, "simple", (160, 160))
    model = build_model({"name": "test_vit", "pretrained": str(file)}, {"a": spec}).eval()
    images = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        expected = theirs.forward_features(images)[:, theirs.num_prefix_tokens :]
        found = model.features(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found, expected)


def test_pretrained_in_the_settings_starts_the_backbone(tensors, write, make_model):
    model = make_model(pretrained=str(write(tensors)))
    weight = tensors["backbone.blocks.0.attn.qkv.weight"]
    assert torch.equal(model.backbone.vit.blocks[0].attn.qkv.weight, weight)
    with pytest.raises(CheckpointError, match="there is no such file"):
        make_model(pretrained="nowhere.pth")
    with pytest.raises(ConfigError, match=r"'vitpose_small'.*no weights of its own"):
        make_model(name="vitpose_small", embed_dim=None, pretrained=True)
