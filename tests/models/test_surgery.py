"""Heads of finished models: split, drop, rename, add, merge."""

from __future__ import annotations

import pytest
import torch

from posekit.errors import ConfigError
from posekit.models.surgery import add_head, drop_heads, merge_models, rename_head, single_head


@pytest.fixture
def images():
    return torch.randn(4, 3, 64, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=[None, {"width": 12, "share": {"hand": "body"}}], ids=["plain", "experts"])
def joint(request, make_model, make_spec):
    heads = {"body": make_spec(5), "face": make_spec(3, "classic"), "hand": make_spec(2)}
    model = make_model(heads, experts=request.param).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def run(model, name, images):
    with torch.no_grad():
        return model.eval()(images, [(name, slice(0, len(images)))])[name]


def test_a_joint_model_splits_into_plain_ones_with_equal_outputs(joint, images):
    for name in joint.head_names:
        alone = single_head(joint, name)
        assert alone.head_names == (name,)
        assert alone.backbone.experts == ()
        expected = run(joint, name, images)
        torch.testing.assert_close(run(alone, name, images), expected, rtol=1e-5, atol=1e-6)


def test_dropping_and_renaming_leave_the_other_outputs_as_they_are(joint, images):
    expected = {name: run(joint, name, images) for name in joint.head_names}
    without = drop_heads(joint, ["body"])
    assert without.head_names == ("face", "hand")
    assert len(without.backbone.experts) == len(joint.backbone.experts)
    assert len(drop_heads(joint, ["face"]).backbone.experts) == len(joint.backbone.experts[:1])
    renamed = rename_head(without, "hand", "paw")
    assert torch.equal(run(renamed, "paw", images), expected["hand"])
    assert torch.equal(run(renamed, "face", images), expected["face"])


def test_an_added_head_leaves_the_others_and_may_share_an_expert(joint, make_spec, images):
    expected = run(joint, "face", images)
    more = add_head(joint, "tail", make_spec(4))
    assert torch.equal(run(more, "face", images), expected)
    assert run(more, "tail", images).shape == (4, 4, 16, 12)
    shared = add_head(joint, "tail", make_spec(4), expert_of="face" if joint.expert_of else None)
    assert shared.backbone.experts == joint.backbone.experts


def test_models_on_one_backbone_merge_and_others_do_not(joint, make_model, images):
    expected = {name: run(joint, name, images) for name in joint.head_names}
    rest, face = drop_heads(joint, ["face"]), drop_heads(joint, ["body", "hand"])
    merged = merge_models(rest, face)
    for name, output in expected.items():
        assert torch.equal(run(merged, name, images), output)
    with pytest.raises(ConfigError, match="both models have a head 'face'"):
        merge_models(merged, face)
    with torch.no_grad():
        face.backbone.vit.norm.bias += 1
    with pytest.raises(ConfigError, match=r"backbones differ \(tensor 'backbone.vit.norm.bias'"):
        merge_models(rest, face)


def test_wrong_names_are_told(joint, make_spec):
    with pytest.raises(ConfigError, match="no head 'bodi'; did you mean 'body'"):
        drop_heads(joint, ["bodi"])
    with pytest.raises(ConfigError, match="not all can be dropped"):
        drop_heads(joint, joint.head_names)
    with pytest.raises(ConfigError, match="has a head 'face' already"):
        rename_head(joint, "body", "face")


def test_heads_of_other_input_sizes_keep_their_outputs(make_model, make_spec, tmp_path):
    heads = {"body": make_spec(5), "face": make_spec(3, "simple", (64, 64))}
    model = make_model(heads).eval()
    faces = torch.randn(2, 3, 64, 64)
    expected = run(model, "face", faces)
    assert torch.equal(run(drop_heads(model, ["body"]), "face", faces), expected)
    assert torch.equal(run(single_head(model, "face"), "face", faces), expected)
