"""Models saved in other projects' forms come back equal, and run equally there."""

from __future__ import annotations

import pytest
import torch

from posekit.errors import ConfigError
from posekit.models.convert import convert
from posekit.models.foreign_export import export_official, export_transformers


@pytest.fixture
def images():
    return torch.randn(3, 3, 64, 48, generator=torch.Generator().manual_seed(2))


def randomise(model):
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn_like(tensor) * 0.1
                tensor.copy_(noise.abs() + 0.5 if "running_var" in name else tensor + noise)
    return model.eval()


@pytest.fixture
def joint(make_model, make_spec):
    heads = {"body": make_spec(5, "classic", channels=256), "face": make_spec(3)}
    return randomise(make_model(heads, experts={"width": 12}))


def run(model, name, images):
    with torch.no_grad():
        return model(images, [(name, slice(0, len(images)))])[name]


def test_the_official_form_comes_back_bit_for_bit(joint, images, make_spec, tmp_path):
    ledger = export_official(joint, tmp_path / "plus.pth")
    ledger.check(joint.state_dict(), [])
    again = convert(
        tmp_path / "plus.pth", {"body": make_spec(5), "face": make_spec(3)}, num_heads=4
    )[0]
    for name in joint.head_names:
        assert torch.equal(run(again, name, images), run(joint, name, images))


@pytest.mark.parametrize("head", ["body", "face"])
def test_a_transformers_folder_comes_back_as_the_single_head(
    joint, images, make_spec, tmp_path, head
):
    ledger = export_transformers(joint, tmp_path, head)
    left = {entry.source.split(".")[1] for entry in ledger.entries if entry.action == "left out"}
    assert left == {"body", "face"} - {head}
    again = convert(tmp_path, {head: make_spec(len(joint.heads[head].schema))})[0]
    found, expected = run(again, head, images), run(joint, head, images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("head", "keep"), [("body", False), ("face", False), ("face", True)])
def test_transformers_runs_the_saved_folder_equally(joint, images, tmp_path, head, keep):
    transformers = pytest.importorskip("transformers")
    export_transformers(joint, tmp_path, head, keep_experts=keep)
    theirs, report = transformers.VitPoseForPoseEstimation.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    index = {"dataset_index": torch.full((3,), 1)} if keep else {}
    with torch.no_grad():
        found = theirs.eval()(images, **index).heatmaps
    torch.testing.assert_close(found, run(joint, head, images), rtol=0, atol=1e-5)


def test_models_that_do_not_fit_the_form_are_refused_with_the_reason(
    make_model, make_spec, tmp_path
):
    cases = [
        (make_model(stem="conv", patch_padding=None), "not ViTPose's ViT"),
        (make_model(attention="window", window=(2, 2)), "window attention"),
        (make_model(patch_padding=0), "patch_padding is 0"),
        (make_model({"body": make_spec(5, "shuffle")}), "neither a classic nor a simple decoder"),
    ]
    for model, reason in cases:
        with pytest.raises(ConfigError, match=reason):
            export_official(model, tmp_path / "x.pth")
        with pytest.raises(ConfigError, match=reason):
            export_transformers(model, tmp_path / "x")
    narrow = make_model({"body": make_spec(5, "classic")})
    with pytest.raises(ConfigError, match=r"two layers of 256 channels, found \[24, 24\]"):
        export_transformers(narrow, tmp_path / "x")
    two = make_model({"a": make_spec(2), "b": make_spec(2)})
    with pytest.raises(ConfigError, match="which head shall be saved"):
        export_transformers(two, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
