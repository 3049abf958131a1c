"""Kill a run of two processes again and again, and let the disk refuse: is anything lost?

    python benchmarks/interruptions.py [--kills 200] [--full-disks 20] [--steps 40]

A small run on two processes (CPU, gloo) is trained once without interruption. Then the same run is
started with --resume until it is complete, while the first process, the second, or torchrun itself
is killed (SIGKILL) at a random moment; and again while files may not grow beyond a random size,
which fails writes as a full disk does. In the end the weights must be equal to the last bit.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import yaml

from posekit.models.checkpoint_file import load_checkpoint
from posekit.practice import PracticeSizes, write_practice_data

TRAIN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def recipe_for(folder: Path, out: Path, steps: int) -> Path:
    """Write the run's recipe; two heads, batch norms in one of them, saved at every step."""
    recipe = {
        "name": "interrupted",
        "backbone": {"name": "vit", "embed_dim": 48, "depth": 2, "num_heads": 3, "patch_size": 16},
        "heads": {
            "coco": {"dataset": "coco", "head": "classic_udp", "input_size": [64, 64]},
            "wflw": {"dataset": "wflw", "head": "light_udp_ce", "input_size": [64, 64]},
        },
        "data_root": str(folder),
        "out": str(out),
        "data": {"workers": 1, "sampling": {"strategy": "equal"}},
        "training": {"steps": steps, "batch_size": 4, "save_every": 1, "log_every": 1},
        "optimizer": {"lr": 1e-3},
    }
    for head in recipe["heads"].values():
        head["evaluate"] = None
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return file


def start(recipe: Path, limit: int | None = None) -> subprocess.Popen:
    """Start or resume the run; with a limit no file may grow beyond so many bytes."""
    command = [*TRAIN, "-m", "posekit.cli", "train", str(recipe), "--resume"]
    if limit is not None:
        command = ["bash", "-c", f"ulimit -f {limit // 1024}; exec {shlex.join(command)}"]
    return subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def workers_of(agent: int) -> list[int]:
    """Return the process ids of the two ranks that an agent has started, in the ranks' order."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return [int(child) for child in children]


def weights(out: Path) -> dict:
    """Return the trained weights."""
    return load_checkpoint(out / "checkpoints" / "last.safetensors")[0]


def same(first: Path, second: Path) -> bool:
    """Return whether two runs ended with the same bits."""
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all((one[k] == other[k]).all() for k in one)


def interrupted(recipe: Path, kills: int, seconds: float, draw: random.Random) -> int:
    """Kill the run so many times, then let it end; returns the kills that met a living run."""
    met = 0
    for _ in range(kills):
        run = start(recipe)
        time.sleep(draw.uniform(0.2 * seconds, seconds))
        victims = workers_of(run.pid) if run.poll() is None else []
        if run.poll() is None:
            chosen = draw.choice([*victims, run.pid])
            os.kill(chosen, signal.SIGKILL)
            met += 1
        time.sleep(0.5)
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
    return met


def main() -> None:
    """Print how many interruptions there were and whether the runs ended alike."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--full-disks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    draw = random.Random(0)  # noqa: S311 - times, not secrets
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = PracticeSizes(train=24, evaluation=8)
        write_practice_data(folder / "data", sizes=sizes)
        whole = folder / "whole"
        begun = time.perf_counter()
        run = start(recipe_for(folder / "data", whole, options.steps))
        print(run.communicate()[1][-400:] if run.wait() else "uninterrupted run: done", flush=True)
        seconds = time.perf_counter() - begun

        killed = folder / "killed"
        recipe = recipe_for(folder / "data", killed, options.steps * 4)
        reference = folder / "reference"
        start(recipe_for(folder / "data", reference, options.steps * 4)).communicate()
        met = interrupted(recipe, options.kills, seconds, draw)
        last = start(recipe)
        errors = last.communicate()[1]
        outcome = "equal to the last bit" if same(reference, killed) else "DIFFERENT"
        print(f"{met} kills of a living run: exit {last.returncode}, weights {outcome}", flush=True)
        if last.returncode:
            print(errors[-800:])

        full = folder / "full"
        recipe = recipe_for(folder / "data", full, options.steps)
        state = (whole / "checkpoints" / "last.state").stat().st_size
        codes = []
        for _ in range(options.full_disks):
            run = start(recipe, limit=draw.randrange(1000, state))
            run.communicate()
            codes.append(run.returncode)
        last = start(recipe)
        errors = last.communicate()[1]
        outcome = "equal to the last bit" if same(whole, full) else "DIFFERENT"
        print(f"{len(codes)} full disks (exit {sorted(set(codes))}): then weights {outcome}")
        left = [f.name for f in full.rglob("*.tmp")]
        print(f"temporary files left: {left or 'none'}")


if __name__ == "__main__":
    main()
