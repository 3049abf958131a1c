"""Runs of 1, 2 and 4 processes on the CPU, as torchrun starts them and with nothing else set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tiny import tiny_recipe

from posekit.models.checkpoint_file import load_checkpoint

_TRAIN = """
import sys, torch
torch.set_num_threads(1)
import posekit
posekit.train(sys.argv[1], evaluate=True, resume="--resume" in sys.argv)
"""
_SLOW_FIRST = """
import datetime, sys, time, torch, torch.distributed as dist
import torch.distributed.distributed_c10d as c10d
torch.set_num_threads(1)
start = dist.init_process_group
def hasty(*given, **named):
    return start(*given, **{**named, "timeout": datetime.timedelta(seconds=6)})
dist.init_process_group = c10d.init_process_group = hasty
from posekit.training.run_folder import RunFolder
from posekit.evaluation import runner
for owner, name in ((runner, "_predict_rows"), (RunFolder, "append_evaluation")):
    def slow(*given, call=getattr(owner, name), **named):
        if dist.get_rank() == 0:
            time.sleep(9)
        return call(*given, **named)
    setattr(owner, name, slow)
from posekit.models import processes
processes.SILENCE, processes._BEAT = (datetime.timedelta(seconds=s) for s in (5, 1))
import posekit
posekit.train(sys.argv[1], evaluate=True)
"""
_FROZEN = """
import datetime, os, signal, sys, torch, torch.distributed as dist
torch.set_num_threads(1)
from posekit.evaluation import runner
def freezes(*given, **named):
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    return []
runner._predict_rows = freezes
from posekit.models import processes
processes.SILENCE, processes._BEAT = (datetime.timedelta(seconds=s) for s in (5, 1))
import posekit
posekit.train(sys.argv[1], evaluate=True)
"""
_TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def _environment():
    """The user's own on a machine without a GPU, with one thread a process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE")}
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def start(tiny, tmp_path):
    """Return a function that trains a recipe in so many processes and returns its folder."""
    tiny()  # writes data and cards
    script = tmp_path / "script.py"
    script.write_text(_TRAIN, encoding="utf-8")

    def run(name, processes, *arguments, check=True, change=None, **training):
        file = tmp_path / f"{name}.yaml"
        recipe = tiny_recipe(tmp_path / "data", tmp_path / name, **training)
        recipe["backbone"]["drop_path"] = 0.0  # its draws are keyed by rank
        for head, kind in (("blobs", "classic_udp"), ("rings", "classic_msra")):
            own = recipe["heads"][head]
            own.update(head=kind, input_size=[32, 32], decoder={"channels": 8, "layers": 1})
        recipe["data"]["sampling"] = {"strategy": "weights", "weights": {"blobs": 7, "rings": 1}}
        if change is not None:
            change(recipe)
        file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        launcher = [*_TORCHRUN, str(processes)] if processes > 1 else [sys.executable]
        done = subprocess.run(
            [*launcher, str(script), str(file), *arguments],
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        if check:
            assert done.returncode == 0, done.stderr[-3000:]
            return tmp_path / name
        return done

    return run


def _records(folder: Path, key: str):
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for line in lines if key in (record := json.loads(line))]


@pytest.mark.slow
def test_work_that_takes_longer_than_a_collective_may_ends_no_run(start, tmp_path):
    """Evaluation and writing of the first process, beside a process group's timeout of seconds."""
    change = {"blobs": "val", "rings": None}

    def one_evaluated(recipe):
        for head, split in change.items():
            recipe["heads"][head]["evaluate"] = split

    (tmp_path / "script.py").write_text(_SLOW_FIRST, encoding="utf-8")
    folder = start("slow", 2, steps=2, batch_size=4, evaluate_every=1, change=one_evaluated)
    assert [record["step"] for record in _records(folder, "eval")] == [1, 2]


@pytest.mark.slow
def test_a_process_that_freezes_in_an_evaluation_is_named_and_ends_the_run(start, tmp_path):
    (tmp_path / "script.py").write_text(_FROZEN, encoding="utf-8")
    done = start("frozen", 2, steps=1, batch_size=4, evaluate_every=1, check=False)
    assert done.returncode != 0
    assert "process 0 of 2: process 1 has said nothing for" in done.stderr
    assert (tmp_path / "frozen" / "checkpoints" / "last.state").is_file()


@pytest.mark.slow
def test_one_two_and_four_processes_train_the_same_model(start):
    """Classic heads, one sample in eight of a rare head: three of four ranks have none of it."""
    folders = {
        f"{processes} x {accumulate}": start(
            f"run{processes}{accumulate}",
            processes,
            batch_size=8 // processes // accumulate,
            accumulate=accumulate,
            batch_total=8,
            steps=50,
            evaluate_every=25,
        )
        for processes, accumulate in ((1, 1), (2, 1), (4, 1))
    }
    reference = folders.pop("1 x 1")
    weights, _ = load_checkpoint(reference / "checkpoints" / "last.safetensors")
    assert any(name.endswith("running_var") for name in weights)
    for name, folder in folders.items():
        own, _ = load_checkpoint(folder / "checkpoints" / "last.safetensors")
        for key, value in weights.items():
            torch.testing.assert_close(own[key], value, rtol=1e-4, atol=1e-4, msg=f"{name}: {key}")
        for mine, theirs in zip(_records(folder, "loss"), _records(reference, "loss"), strict=True):
            assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4, abs=1e-4)
        evaluated = _records(folder, "eval")
        assert [record["step"] for record in evaluated] == [25, 50]
        for mine, theirs in zip(evaluated, _records(reference, "eval"), strict=True):
            for head, metrics in theirs["eval"].items():
                assert mine["eval"][head] == pytest.approx(metrics, rel=1e-4, nan_ok=True)


def _layer_norms(recipe):
    for head in recipe["heads"].values():
        head["decoder"]["norm"] = "layer"


@pytest.mark.slow
def test_two_processes_are_one_that_accumulates_two_batches(start):
    settings = {"batch_total": 8, "batch_size": 4, "steps": 10, "change": _layer_norms}
    one, two = start("one", 1, **settings), start("two", 2, **settings)
    weights, _ = load_checkpoint(one / "checkpoints" / "last.safetensors")
    own, _ = load_checkpoint(two / "checkpoints" / "last.safetensors")
    for key, value in weights.items():
        torch.testing.assert_close(own[key], value, rtol=1e-4, atol=1e-4, msg=key)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(start):
    settings = {"batch_total": 8, "save_every": 5, "change": _layer_norms}
    folder = start("part", 2, batch_size=4, steps=5, **settings)
    state = torch.load(folder / "checkpoints/last.state", weights_only=True)
    state["recipe"]["training"]["steps"] = 10
    torch.save(state, folder / "checkpoints/last.state")
    part = start("part", 1, "--resume", batch_size=8, steps=10, **settings)
    assert [r["step"] for r in _records(part, "loss")] == list(range(1, 11))


@pytest.mark.slow
def test_many_ranks_resume_at_once_and_a_damaged_log_line_stops_none(start):
    settings = {"batch_total": 9, "batch_size": 3, "save_every": 2}
    folder = start("run", 3, steps=4, **settings)
    log = folder / "log.jsonl"
    log.write_bytes(log.read_bytes() + b'{"step": 3, "lo\xff')
    start("run", 3, "--resume", steps=4, **settings)
    assert [record["step"] for record in _records(folder, "loss")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_head_that_cannot_be_evaluated_ends_neither_the_run_nor_the_others(start, tmp_path):
    def damage(recipe):
        image = tmp_path / "data" / "rings" / "images" / "val_3.png"
        image.write_bytes(b"no picture")

    folder = start("run", 2, batch_size=4, steps=4, evaluate_every=2, change=damage)
    for record in _records(folder, "eval"):
        assert list(record["eval"]) == ["blobs"]
    assert (folder / "report.html").is_file()


@pytest.mark.slow
def test_the_command_line_trains_one_run_in_two_processes(start, tmp_path):
    """README's torchrun line, on a machine without a GPU."""
    recipe = tmp_path / "first.yaml"
    settings = tiny_recipe(tmp_path / "data", tmp_path / "first", batch_size=4, steps=2)
    recipe.write_text(yaml.safe_dump(settings), encoding="utf-8")
    done = subprocess.run(
        [*_TORCHRUN, "2", "-m", "posekit.cli", "train", str(recipe), f"out={tmp_path / 'second'}"],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    state = torch.load(tmp_path / "second/checkpoints/last.state", weights_only=True)
    assert state["world_size"] == 2
