import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny import tiny_recipe

_SCRIPT = """
import sys, torch
torch.set_num_threads(1)
import posekit
posekit.train(sys.argv[1], evaluate=False)
"""


def _losses(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry["loss"] for line in lines if "loss" in (entry := json.loads(line))]


def _run(command: list[str], recipe: Path) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(recipe)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("loss_scale", ["head", "share", "batch"])
def test_two_processes_train_as_one_with_the_doubled_batch(tiny, tmp_path, loss_scale):
    """Same samples, same losses, same weights up to float tolerance; measuring changes nothing."""
    tiny()  # writes data and cards
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT, encoding="utf-8")
    files = {}
    for name, batch in (("one", 8), ("two", 4)):
        recipe = tiny_recipe(
            tmp_path / "data", tmp_path / name, batch_size=batch, loss_scale=loss_scale
        )
        recipe["backbone"]["drop_path"] = 0.0  # its draws are keyed by rank
        recipe["training"]["gradient_report_every"] = 2 if name == "two" else 0
        files[name] = tmp_path / f"{name}.yaml"
        files[name].write_text(yaml.safe_dump(recipe), encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    _run([*launcher, "--nproc-per-node", "2", str(script)], files["two"])
    _run([sys.executable, str(script)], files["one"])
    for one, two in zip(_losses(tmp_path / "one"), _losses(tmp_path / "two"), strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    assert '"gradients"' in (tmp_path / "two" / "log.jsonl").read_text(encoding="utf-8")
