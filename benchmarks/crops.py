"""Training samples from 640x480 JPEGs, CPU time of one core: posekit and mmpose's pipeline.

    python benchmarks/crops.py [--keypoints 17 133] [--batches 4] [--batch 64]

Decode, augment (flip, half body, scale, rotation, as ViTPose trains), warp to 256x192; mmpose also
draws its UDP heatmaps, which posekit makes beside the model. Three ways of posekit: from the image
files, from its crop store as JPEG and as plain pixels.

The second table is the main process's CPU time a sample with two workers: taking batches from the
workers and making them ready for the model (mmpose: its data preprocessor, joining the heatmaps;
posekit: normalising, and for a fair sum also drawing the targets, both on the CPU here).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _joint import SIZE, schema
from _peers import peer
from _scenes import write_scenes
from _timing import alternate, gemm, gemm_flops, options, show, summary
from torch.utils.data import DataLoader, Dataset

from posekit.config.augmentation import AugmentationConfig
from posekit.config.recipe import Sampling
from posekit.data.crop_store import open_store
from posekit.data.crops import CropSource
from posekit.data.images import use_one_thread
from posekit.data.index import PoseIndex, build_index
from posekit.data.loader import MixedLoader
from posekit.data.make_batch import BatchMaker
from posekit.data.sampler import MixedSampler, Source
from posekit.models import HeadSpec, build_model


def posekit_parts(
    folder: Path, images: int, keypoints: int
) -> tuple[CropSource, MixedSampler, int]:
    """Write the data and give posekit's head data and a sampler over them."""
    card = write_scenes(folder, images, keypoints)
    index = build_index(card, folder, "train", folder / "cache")
    head = CropSource(index, SIZE, "udp", AugmentationConfig())
    return head, index, images


def sampler_for(index: PoseIndex, batch: int) -> MixedSampler:
    """Return a sampler of one head."""
    return MixedSampler([Source("h", index.name, index.trainable)], Sampling(), batch)


class Scenes(Dataset):
    """mmpose's top-down pipeline over the same annotations."""

    def __init__(self, module: Any, index: PoseIndex):
        columns, names = index.columns, index.schema
        half = len(names) // 2
        encoder = {"type": "UDPHeatmap", "input_size": SIZE[::-1], "heatmap_size": (48, 64)}
        self.steps = [
            module.LoadImage(),
            module.GetBBoxCenterScale(),
            module.RandomFlip(direction="horizontal"),
            module.RandomHalfBody(),
            module.RandomBBoxTransform(),
            module.TopdownAffine(input_size=SIZE[::-1], use_udp=True),
            module.GenerateTarget(encoder={**encoder, "sigma": 2}),
            module.PackPoseInputs(),
        ]
        fixed = {
            "bbox_score": np.ones(1, np.float32),
            "flip_indices": list(range(len(names))),
            "upper_body_ids": list(range(half)),
            "lower_body_ids": list(range(half, len(names))),
            "dataset_name": "scenes",
        }
        self.records = []
        for row in range(len(index)):
            x, y, w, h = columns.box_xywh[row].tolist()
            self.records.append(
                {
                    **fixed,
                    "img_path": str(index.image_file(row)),
                    "img_id": row,
                    "id": row,
                    "bbox": np.array([[x, y, x + w, y + h]], np.float32),
                    "keypoints": columns.keypoints[row][None].copy(),
                    "keypoints_visible": (columns.visibility[row][None] > 0).astype(np.float32),
                }
            )

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, number: int) -> Any:
        record = self.records[number % len(self.records)]
        data: Any = {k: v.copy() if hasattr(v, "copy") else v for k, v in record.items()}
        for step in self.steps:
            data = step(data)
        return data


def made(maker: BatchMaker, batches: int) -> Callable[[], None]:
    """Return a run that makes some batches, others each time."""
    numbers = iter(range(1 << 30))
    return lambda: [maker.make(next(numbers)) for _ in range(batches)] and None


def main() -> None:
    """Time the pipelines in alternation, then the main process."""
    chosen = options(__doc__, rounds=3, add=_add)
    torch.set_num_threads(1)
    use_one_thread()
    module = peer("mmpose.datasets.transforms")
    for keypoints in chosen.keypoints:
        with tempfile.TemporaryDirectory() as folder:
            _measure(Path(folder), keypoints, chosen, module)


def _measure(folder: Path, keypoints: int, chosen: Any, module: Any) -> None:
    head, index, _ = posekit_parts(folder, 2 * chosen.batch, keypoints)
    sampler, count = sampler_for(index, chosen.batch), chosen.batch * chosen.batches
    stores = {
        kind: open_store(head, folder / "cache", raw_limit_mib=limit)
        for kind, limit in (("JPEG", 0), ("pixels", 1 << 20))
    }
    runs: dict[str, Callable[[], Any]] = {
        "gemm": gemm(torch.float32),
        "posekit, files": made(BatchMaker({"h": head}, sampler), chosen.batches),
    }
    for kind, store in stores.items():
        maker = BatchMaker({"h": head}, sampler, {"h": store})
        runs[f"posekit, store of {kind}"] = made(maker, chosen.batches)
    if module is not None:
        scenes, order = Scenes(module, index), iter(range(1 << 30))
        runs["mmpose"] = lambda: [scenes[next(order)] for _ in range(count)] and None
    seconds = alternate(runs, chosen.rounds, clock=time.process_time)
    speed = gemm_flops() / summary(seconds.pop("gemm"))["median"]
    rows = {name: summary(times, count / 1e3) for name, times in seconds.items()}
    show(
        f"a training sample of {keypoints} keypoints, one core",
        rows,
        base="mmpose",
        unit="ms",
        file=chosen.json,
        notes={
            "GEMM fp32, one core, GFLOP/s": speed / 1e9,
            **{f"samples/s and core, {name}": 1e3 / row["median"] for name, row in rows.items()},
        },
    )
    _main_process(head, keypoints, chosen, Scenes(module, index) if module else None)


def _main_process(head: CropSource, keypoints: int, chosen: Any, scenes: Scenes | None) -> None:
    rows = {}
    loader = MixedLoader({"h": head}, sampler_for(head.index, chosen.batch), workers=2)
    received = _cpu_of(iter(loader), _nothing, chosen)
    rows["posekit, received"] = received
    rows["posekit, normalised"] = _cpu_of(iter(loader), _normalise(keypoints, False), chosen)
    rows["posekit, with targets"] = _cpu_of(iter(loader), _normalise(keypoints, True), chosen)
    if scenes is not None:
        theirs = DataLoader(scenes, batch_size=chosen.batch, num_workers=2, collate_fn=list)
        rows["mmpose"] = _cpu_of(iter(theirs), _mmpose_ready(), chosen)
    show(
        f"CPU time of the main process a sample, {keypoints} keypoints",
        rows,
        base="mmpose",
        unit="ms",
        file=chosen.json,
    )


def _cpu_of(batches: Iterator[Any], ready: Callable[[Any], Any], chosen: Any) -> dict[str, float]:
    times = []
    for number in range(chosen.batches + 2):
        begun = time.process_time()
        ready(next(batches))
        if number >= 2:
            times.append(time.process_time() - begun)
    return summary(times, chosen.batch / 1e3)


def _nothing(batch: Any) -> Any:
    return batch


def _normalise(keypoints: int, targets: bool) -> Callable[[Any], Any]:
    spec = HeadSpec(schema(keypoints), {"kind": "classic"}, {"kind": "udp"}, SIZE)
    tiny = {"name": "vit", "embed_dim": 32, "depth": 1, "num_heads": 1}
    model = build_model(tiny, {"h": spec})
    codec = model.head("h").codec

    def run(batch: Any) -> Any:
        [part] = batch.parts
        images = model.normalise(part.images)
        if targets:
            [group] = part.groups
            return images, codec.encode(group.points, (group.visibility > 0).float())
        return images

    return run


def _mmpose_ready() -> Callable[[Any], Any]:
    module = peer("mmengine.model")  # mmpose's own only adds batch augmentations to it
    if module is None:
        return _nothing
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    prepare = module.ImgDataPreprocessor(mean=mean, std=std, bgr_to_rgb=True)

    def run(batch: list[dict[str, Any]]) -> Any:
        joined = {key: [one[key] for one in batch] for key in ("inputs", "data_samples")}
        joined = prepare(joined, training=True)
        samples = joined["data_samples"]
        heatmaps = torch.stack([sample.gt_fields.heatmaps for sample in samples])
        weights = torch.cat([s.gt_instance_labels.keypoint_weights for s in samples])
        return joined["inputs"], heatmaps, weights

    return run


def _add(parser: Any) -> None:
    parser.add_argument("--keypoints", type=int, nargs="+", default=[17, 133])
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)


if __name__ == "__main__":
    main()
