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


@pytest.mark.slow
def test_two_processes_end_with_the_same_prototypes_and_weights(tiny, tmp_path):
    tiny()  # writes data and cards
    script, file = tmp_path / "script.py", tmp_path / "recipe.yaml"
    script.write_text(_SCRIPT, encoding="utf-8")
    recipe = tiny_recipe(tmp_path / "data", tmp_path / "run", steps=6)
    recipe["heads"]["rings"]["input_size"] = [32, 32]
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
    command = [*launcher, "--nproc-per-node", "2", str(script), str(file), str(tmp_path / "rank")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    states = [torch.load(tmp_path / f"rank{rank}", weights_only=True) for rank in (0, 1)]
    names = [n for n in states[0] if "running_" not in n and "num_batches" not in n]
    for name in names:
        torch.testing.assert_close(states[0][name], states[1][name], rtol=1e-6, atol=1e-7)
    assert any("prototypes.vectors" in name for name in names)
