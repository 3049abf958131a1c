"""Six datasets, a million instances, 1 to 64 processes: what is exercised here, and what follows.

    python benchmarks/scale.py [--instances 1000000] [--backbone vitpose_base]

Exercised on this machine at full size: indices (written, opened, picked from), the sampler of every
one of 64 ranks (steps far into a run, the ranks' shares checked against the whole), the bytes of a
crop store, and saving and loading a training state. Calculated from these and from the assumptions
printed beside them (a GPU's speed, its links, how fast a core makes samples): disk, memory, workers
and step time on 1, 8 and 64 GPUs.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from _joint import HEADS, SIZE, joint_model
from _scenes import write_scenes

from posekit.config.augmentation import AugmentationConfig
from posekit.config.recipe import Sampling
from posekit.data.columns import InstanceColumns
from posekit.data.crop_store import open_store
from posekit.data.crops import CropSource
from posekit.data.index import build_index
from posekit.data.index_build import load_columns
from posekit.data.sampler import MixedSampler, Source
from posekit.models.training_state import load_training_state, save_training_state
from posekit.training.utilisation import measure_step_cost

# Training instances, about, as the papers count them.
COUNTS = {
    "coco": 150_000,
    "aic": 380_000,
    "mpii": 40_000,
    "ap10k": 13_000,
    "apt36k": 53_000,
    "wholebody": 150_000,
}
IMAGES = {
    "coco": 64_000,
    "aic": 210_000,
    "mpii": 18_000,
    "ap10k": 8_000,
    "apt36k": 29_000,
    "wholebody": 0,
}  # wholebody annotates coco's


def main() -> None:
    """Run and print all parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--backbone", default="vitpose_base")
    parser.add_argument("--batch", type=int, default=128, help="samples of a GPU's step")
    parser.add_argument("--gpu-tflops", type=float, default=989.0, help="bf16 peak of one GPU")
    parser.add_argument(
        "--utilisation", type=float, default=0.4, help="share of it that is reached"
    )
    parser.add_argument("--link-gbs", type=float, default=50.0, help="GB/s between nodes, a GPU")
    parser.add_argument("--core-samples", type=float, default=500.0, help="samples/s a CPU core")
    parser.add_argument("--image-kb", type=float, default=160.0, help="mean size of a photograph")
    parser.add_argument("--json", type=Path, default=None)
    chosen = parser.parse_args()
    factor = chosen.instances / sum(COUNTS.values())
    sizes = {name: round(count * factor) for name, count in COUNTS.items()}
    found = {"instances": sum(sizes.values())}
    with tempfile.TemporaryDirectory() as folder:
        found |= exercise_indices(Path(folder), sizes)
        found |= exercise_sampler(Path(folder), sizes)
        found |= exercise_store(Path(folder))
        model = joint_model(chosen.backbone)
        found |= exercise_checkpoint(Path(folder), model)
    found |= calculate(model, chosen, found)
    for name, value in found.items():
        print(f"{name:58} {value:.4g}" if isinstance(value, float) else f"{name:58} {value}")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def exercise_indices(folder: Path, sizes: dict[str, int]) -> dict[str, float]:
    """Write indices of these sizes, open them, pick rows."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, rows in sizes.items():
        write_index(folder / name, rows, HEADS[name])
    written = sum(file.stat().st_size for file in folder.rglob("*.npy"))
    begun = time.perf_counter()
    columns = {name: load_columns(folder / name) for name in sizes}
    open_s = time.perf_counter() - begun
    rng, picked = np.random.default_rng(0), []
    for name, rows in sizes.items():
        for chosen in rng.integers(0, rows, (20, 128)):
            begun = time.perf_counter()
            np.asarray(columns[name].keypoints[chosen]).sum()
            np.asarray(columns[name].box_xywh[chosen]).sum()
            picked.append((time.perf_counter() - begun) / 128)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "indices on disk, MB": written / 1e6,
        "opening all indices, ms": open_s * 1e3,
        "one row's annotations, us": statistics.median(picked) * 1e6,
        "peak memory grown by writing and opening them, MiB": grown / 1024,
    }


def write_index(folder: Path, rows: int, keypoints: int) -> None:
    """Write the columns of an index of `rows` instances, two to an image."""
    folder.mkdir()
    shapes = {"keypoints": (keypoints, 2), "visibility": (keypoints,), "box_xywh": (4,)}
    shapes |= {"crop_center": (2,), "crop_size": (2,), "image_size": (2,)}
    types = {"keypoints": "f4", "visibility": "u1", "has_box": "?", "is_crowd": "?"}
    types |= {"image_path": "S40", "image_size": "i4", "box_xywh": "f8", "area": "f8"}
    types |= {"crop_center": "f8", "crop_size": "f8"}
    for field in fields(InstanceColumns):
        if "extras" in field.name:
            continue
        count = (rows + 1) // 2 if field.name.startswith("image_") else rows
        count = rows if field.name == "image_index" else count
        shape = (count, *shapes.get(field.name, ()))
        dtype = types.get(field.name, "i8")
        array = np.lib.format.open_memmap(folder / f"{field.name}.npy", "w+", dtype, shape)
        if field.name == "image_index":
            array[:] = np.arange(rows) // 2
    np.save(folder / "trainable.npy", np.arange(rows))


def exercise_sampler(folder: Path, sizes: dict[str, int], ranks: int = 64) -> dict[str, float]:
    """Let 64 ranks ask for the same steps; their shares must make up the whole, and none twice."""
    sources = [
        Source(name, f"{name}/train", np.load(folder / name / "trainable.npy", mmap_mode="r"))
        for name in sizes
    ]
    sampling = Sampling(strategy="temperature", temperature=2.0)
    first_s, later_s = [], []
    steps = (0, 1, 20_000, 1_000_000)
    drawn: dict[int, list[tuple[str, int]]] = {step: [] for step in steps}
    for rank in range(ranks):
        sampler = MixedSampler(sources, sampling, 128, world_size=ranks, rank=rank)
        for step in steps:
            begun = time.perf_counter()
            slots = sampler.batch(step)
            first_s.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            assert sampler.batch(step) == slots, "a step is not a pure function"
            later_s.append(time.perf_counter() - begun)
            assert len(slots) == 128
            assert {slot.head for slot in slots} == set(sizes), "a head is missing on a rank"
            drawn[step] += [(slot.head, slot.position) for slot in slots]
    for step, all_slots in drawn.items():
        assert len(set(all_slots)) == ranks * 128, "two ranks drew the same place"
        counted = {name: sum(head == name for head, _ in all_slots) for name in sizes}
        assert counted == sampler.quotas(step), "the ranks' shares do not make up the step"
    return {
        "64 ranks, steps 0, 1, 20 000 and 1 000 000": "pure, disjoint, complete, all heads on all",
        "sampler, first batch of an epoch, ms": statistics.median(first_s) * 1e3,
        "sampler, batch of 128 later, ms": statistics.median(later_s) * 1e3,
        "sampler's orders in each process, MB (2 epochs x 4 bytes)": 8e-6 * sum(sizes.values()),
    }


def exercise_store(folder: Path) -> dict[str, float]:
    """Make crop stores of some photographs; gives bytes an instance."""
    card = write_scenes(folder / "scenes", 48, 17)
    index = build_index(card, folder / "scenes", "train", folder / "cache")
    head = CropSource(index, SIZE, "udp", AugmentationConfig())
    found = {}
    for kind, limit in (("JPEG", 0), ("plain pixels", 1 << 20)):
        store = open_store(head, folder / "cache", raw_limit_mib=limit)
        found[f"crop store as {kind}, kB an instance"] = store.nbytes / len(index) / 1e3
    return found


def exercise_checkpoint(folder: Path, model: torch.nn.Module) -> dict[str, float]:
    """Save and load what exact resume needs: weights, averages, AdamW's two moments."""
    weights = model.state_dict()
    moments = {
        i: {"exp_avg": p.detach().clone(), "exp_avg_sq": p.detach().clone()}
        for i, p in enumerate(model.parameters())
    }
    averaged = {name: tensor.clone() for name, tensor in weights.items()}
    state = {"step": 1, "model": weights, "ema": averaged, "optimizer": {"state": moments}}
    file = folder / "state.pt"
    begun = time.perf_counter()
    save_training_state(file, state)
    save_s = time.perf_counter() - begun
    begun = time.perf_counter()
    load_training_state(file)
    return {
        "parameters, millions": sum(p.numel() for p in model.parameters()) / 1e6,
        "training state, MB (weights, average, moments)": file.stat().st_size / 1e6,
        "saving it, s": save_s,
        "loading it, s": time.perf_counter() - begun,
    }


def calculate(model: torch.nn.Module, chosen: argparse.Namespace, found: dict) -> dict:
    """Return disk, memory, workers and step time on 1, 8 and 64 GPUs."""
    work = measure_step_cost(model, torch.device("cpu"), "fp32")
    total = sum(COUNTS.values())
    flops = sum((work.backbone[h] + work.heads[h]) * n / total for h, n in COUNTS.items())
    parameters = sum(p.numel() for p in model.parameters())
    compute_s = flops * chosen.batch / (chosen.gpu_tflops * 1e12 * chosen.utilisation)
    photographs_gb = sum(IMAGES.values()) * chosen.image_kb / 1e6
    store_gb = found["crop store as JPEG, kB an instance"] * total / 1e6
    crop_mb = chosen.batch * (SIZE[0] * SIZE[1] * 3 + 150 * 9) / 1e6
    out = {
        "assumed": f"{chosen.gpu_tflops:g} TFLOP/s x {chosen.utilisation:g} a GPU, "
        f"{chosen.link_gbs:g} GB/s links, {chosen.core_samples:g} samples/s a core, "
        f"{chosen.image_kb:g} kB a photograph, batch {chosen.batch} a GPU",
        "GFLOP a sample, forward and backward": flops / 1e9,
        "photographs, GB": photographs_gb,
        "crop stores as JPEG, GB": store_gb,
        "GPU memory for weights, gradients, moments, average, GB": parameters * 20 / 1e9,
        "pinned batches a GPU, MB (5 of them)": 5 * crop_mb,
    }
    for gpus in (1, 8, 64):
        reduce_s = 2 * (gpus - 1) / gpus * parameters * 4 / (chosen.link_gbs * 1e9)
        step_s = max(compute_s, reduce_s)  # the gradients' sum runs beside the backward pass
        rate = gpus * chosen.batch / step_s
        cores = rate / chosen.core_samples
        days = 210 * total / rate / 86400
        out[f"{gpus:2} GPUs"] = (
            f"step {step_s * 1e3:.0f} ms (gradients {reduce_s * 1e3:.0f} ms beside it), "
            f"{rate:.0f} samples/s, {cores:.0f} cores for workers, 210 epochs in {days:.2f} days"
        )
    return out


if __name__ == "__main__":
    main()
