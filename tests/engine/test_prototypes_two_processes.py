"""Processes agree on the prototypes, through phases that freeze and thaw."""

import os
import subprocess
import sys

import pytest
import torch
import yaml
from tiny import tiny_recipe

_SCRIPT = """
import os, sys, torch
torch.set_num_threads(1)
import posekit
done = posekit.train(sys.argv[1], evaluate=False)
torch.save(done.model.state_dict(), sys.argv[2] + os.environ["RANK"])
"""


def run(tmp_path, name, processes, sizes, **training):
    """Train in so many processes; return each one's state."""
    script, file = tmp_path / "script.py", tmp_path / f"{name}.yaml"
    script.write_text(_SCRIPT, encoding="utf-8")
    recipe = tiny_recipe(tmp_path / "data", tmp_path / name, steps=6, **training)
    recipe["backbone"]["drop_path"] = 0.0  # its draws are keyed by rank
    recipe["data"]["sampling"] = {"strategy": "weights", "weights": {"blobs": 7, "rings": 1}}
    for head, size in zip(("blobs", "rings"), sizes, strict=True):
        recipe["heads"][head]["input_size"] = size
    recipe["posebh"] = {"width": 8, "channels": 12, "layers": 1, "momentum": 0.5, "self_from": 2,
                        "update_until": 4, "min_score": 0.0, "max_distance": 99.0}  # fmt: skip
    recipe["phases"] = [
        {"start": 0, "freeze": {"backbone": True, "heads": True}},
        {"start": 2, "freeze": {"backbone": True}},
        {"start": 4},
    ]
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", str(processes)]
    command = [*launcher, str(script), str(file), str(tmp_path / name) + "-rank"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = range(processes)
    return [torch.load(tmp_path / f"{name}-rank{rank}", weights_only=True) for rank in ranks]


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [([32, 32], [32, 32]), ([32, 32], [48, 32])])
def test_two_processes_end_with_the_same_prototypes_and_weights(tiny, tmp_path, sizes):
    """One sample in eight is of the rare head, so that a process often has none of its size."""
    tiny()  # writes data and cards
    first, second = run(tmp_path, "two", 2, sizes, batch_size=4)
    assert any("prototypes.vectors" in name for name in first)
    assert any("prototypes.embed" in name and "running_var" in name for name in first)
    for name, tensor in first.items():  # the statistics of batch norm too
        torch.testing.assert_close(tensor, second[name], rtol=1e-6, atol=1e-7, msg=name)
