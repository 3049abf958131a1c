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

from posekit.evaluation.runner import evaluate_model


def run(rank: int, index, folder: str) -> None:  # noqa: F811
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    scores, predictions = evaluate_model(
        DotModel({"kind": "udp"}), "dots", index, batch_size=2, distributed=True
    )
    np.save(f"{folder}/{rank}.npy", predictions.keypoints)
    np.save(f"{folder}/{rank}-score.npy", scores.value)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(index, tmp_path):  # noqa: F811
    scores, alone = evaluate_model(DotModel({"kind": "udp"}), "dots", index, batch_size=2)
    mp.spawn(run, (index, str(tmp_path)), nprocs=2)
    for rank in range(2):
        together = np.load(tmp_path / f"{rank}.npy")
        np.testing.assert_allclose(together, alone.keypoints, atol=1e-4)
        assert np.load(tmp_path / f"{rank}-score.npy") == scores.value
