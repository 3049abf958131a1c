"""One function for both directions of a conversion."""

from __future__ import annotations

import pytest
import torch

from posekit.errors import CheckpointError, ConfigError
from posekit.models import load_model, read_description, save_checkpoint
from posekit.models.convert import convert_file


def test_a_checkpoint_goes_to_either_form_and_comes_back(make_model, make_spec, tmp_path):
    model = make_model().eval()
    start = tmp_path / "start.safetensors"
    save_checkpoint(start, model)
    for other in ("official.pth", "folder"):
        convert_file(start, tmp_path / other)
        back = tmp_path / f"{other}.safetensors"
        ledger = convert_file(
            tmp_path / other, back, {"body": make_spec(5)}, head="body", num_heads=4
        )
        assert not [e for e in ledger.entries if e.action == "left out"]
        assert read_description(back)["converted"]["source"] == other
        state = load_model(back).state_dict()
        assert all(torch.equal(state[name], t) for name, t in model.state_dict().items())


def test_ends_that_do_not_fit_are_named(make_model, make_spec, tmp_path):
    start = tmp_path / "start.safetensors"
    save_checkpoint(start, make_model())
    with pytest.raises(ConfigError, match="a posekit checkpoint already"):
        convert_file(start, tmp_path / "again.safetensors")
    convert_file(start, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match=r"name ends in \.safetensors"):
        convert_file(tmp_path / "x.pth", tmp_path / "y.pth")
    with pytest.raises(ConfigError, match="say what its heads are"):
        convert_file(tmp_path / "x.pth", tmp_path / "y.safetensors")
    with pytest.raises(CheckpointError, match="there is no such file"):
        convert_file(tmp_path / "none.pth", tmp_path / "y.safetensors", {"body": make_spec(5)})
