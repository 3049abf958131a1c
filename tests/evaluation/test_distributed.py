"""Two processes together give the numbers of one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing as mp

sys.path.insert(0, str(Path(__file__).parent))  # spawned processes import this file by path

from test_runner import DotModel, index  # noqa: F401

from posekit.evaluation.runner import evaluate_model, evaluate_shared


def run(rank: int, index, folder: str) -> None:  # noqa: F811
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    scored = evaluate_shared(DotModel({"kind": "udp"}), "dots", index, batch_size=2)
    assert (scored is None) == (rank == 1)
    if scored is not None:
        np.save(f"{folder}/points.npy", scored[1].keypoints)
        np.save(f"{folder}/score.npy", scored[0].value)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(index, tmp_path):  # noqa: F811
    scores, alone = evaluate_model(DotModel({"kind": "udp"}), "dots", index, batch_size=2)
    mp.spawn(run, (index, str(tmp_path)), nprocs=2)
    np.testing.assert_allclose(np.load(tmp_path / "points.npy"), alone.keypoints, atol=1e-4)
    assert np.load(tmp_path / "score.npy") == scores.value
