"""A run of two machines: network namespaces with a name, an address and a folder each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tiny import tiny_recipe

from posekit.models.checkpoint_file import load_checkpoint

_IP = shutil.which("ip")
_NAMES = ("posekit-first", "posekit-second")
_ADDRESSES = ("10.77.41.1", "10.77.41.2")


def _ip(*words, check=True):
    return subprocess.run([_IP or "ip", *words], check=check, capture_output=True, text=True)


@pytest.fixture
def machines():
    """Two namespaces joined by a cable; skips where the user may not make any."""
    if _IP is None or _ip("netns", "add", _NAMES[0], check=False).returncode:
        pytest.skip("network namespaces need Linux, iproute2 and root")
    try:
        _ip("netns", "add", _NAMES[1])
        _ip("link", "add", "pk-a", "netns", _NAMES[0], "type", "veth", "peer", "name", "pk-b")
        _ip("link", "set", "pk-b", "netns", _NAMES[1])
        hosts = "127.0.0.1 localhost\n" + "".join(
            f"{address} {name}\n" for address, name in zip(_ADDRESSES, _NAMES, strict=True)
        )
        for name, address, link in zip(_NAMES, _ADDRESSES, ("pk-a", "pk-b"), strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", link)
            for device in (link, "lo"):
                _ip("-n", name, "link", "set", device, "up")
            folder = Path("/etc/netns") / name  # `ip netns exec` lays it over /etc
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "hosts").write_text(hosts, encoding="utf-8")
        yield
    finally:
        for name in _NAMES:
            _ip("netns", "del", name, check=False)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)


def _start(machine, folder, *arguments):
    """Start the documented line on one machine, in its own folder and with its own cache."""
    name = _NAMES[machine]
    line = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "2"]
    line += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{_NAMES[0]}:29500", "--rdzv-id", "1"]
    line += ["-m", "posekit.cli", "train", "recipe.yaml", *arguments]
    named = ["sh", "-c", f'hostname {name}; exec "$@"', "sh"]
    return subprocess.Popen(
        [_IP or "ip", "netns", "exec", name, "unshare", "--uts", *named, *line],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "POSEKIT_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_two_machines_without_a_common_disk_train_what_one_trains(tiny, machines, tmp_path):
    tiny()  # writes data and cards
    recipe = tiny_recipe(Path("data"), Path("run"), batch_size=2, steps=6, log_every=1)
    recipe["training"]["save_every"] = 3
    folders = [tmp_path / name for name in (*_NAMES, "alone")]
    for folder in folders:
        shutil.copytree(tmp_path / "data", folder / "data")
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    checkpoints = folders[0] / "run" / "checkpoints"
    for more in ([], ["--resume"]):
        started = [_start(machine, folders[machine], *more) for machine in (0, 1)]
        said = [process.communicate(timeout=280)[0] for process in started]
        assert [process.returncode for process in started] == [0, 0], "\n".join(said)[-9000:]
        if not more:  # as if the first machine had died while it wrote the last state
            (checkpoints / "last.state").write_bytes(b"")
    assert not (folders[1] / "run").exists()
    log = (folders[0] / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [record["step"] for line in log if "loss" in (record := json.loads(line))]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert "previous.state" in said[0]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    subprocess.run(
        [*launch, "4", "-m", "posekit.cli", "train", "recipe.yaml"],
        cwd=folders[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=True,
        capture_output=True,
    )
    ends = [
        load_checkpoint(f / "run" / "checkpoints" / "last.safetensors")[0] for f in folders[::2]
    ]
    for name, tensor in ends[0].items():
        torch.testing.assert_close(tensor, ends[1][name], rtol=1e-4, atol=1e-4, msg=name)
