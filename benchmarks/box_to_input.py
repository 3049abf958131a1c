"""From a decoded photograph and a box to the network's input: posekit beside transformers.

    python benchmarks/box_to_input.py [--images 64]

640x480 RGB arrays, one box each, to normalised float32 (1, 3, 256, 192). posekit warps once from
the uint8 image and normalises the uint8 crop in torch; both give float32 in RGB order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _joint import SIZE, schema
from _peers import peer
from _timing import alternate, gemm, gemm_flops, options, show, summary

from posekit.models import HeadSpec, PoseModel, build_model
from posekit.warp import crop_matrices, crop_size_for, warp_image


def posekit_input(model: PoseModel, image: np.ndarray, box: np.ndarray) -> torch.Tensor:
    """Return the network's input for one box, in the steps of posekit's Predictor."""
    size = crop_size_for(box[None, 2:], SIZE)
    matrix = crop_matrices(box[None, :2] + box[None, 2:] / 2, size, 0.0, SIZE, "udp")[0]
    with torch.inference_mode():
        return model.normalise(torch.from_numpy(warp_image(image, matrix, SIZE))[None])


def main() -> None:
    """Time both in alternation over the same photographs."""
    chosen = options(
        __doc__, rounds=5, add=lambda parser: parser.add_argument("--images", type=int, default=64)
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (chosen.images, 480, 640, 3), dtype=np.uint8)
    corner = rng.uniform(0, 200, (chosen.images, 2))
    boxes = np.concatenate([corner, rng.uniform(80, 250, (chosen.images, 2))], axis=1)
    spec = HeadSpec(schema(17), {"kind": "classic"}, {"kind": "udp"}, SIZE)
    tiny = {"name": "vit", "embed_dim": 32, "depth": 1, "num_heads": 1}
    model = build_model(tiny, {"coco": spec}).eval()
    pairs = list(zip(images, boxes, strict=True))
    runs: dict[str, Callable[[], Any]] = {
        "gemm": gemm(torch.float32),
        "posekit": lambda: [posekit_input(model, *pair) for pair in pairs],
    }
    for name, module_name, kind in (
        ("transformers", "image_processing_vitpose", "VitPoseImageProcessor"),
        ("transformers, PIL", "image_processing_pil_vitpose", "VitPoseImageProcessorPil"),
    ):
        module = peer(f"transformers.models.vitpose.{module_name}")
        if module is not None:
            processor = getattr(module, kind)()
            runs[name] = lambda processor=processor: [
                processor(image, boxes=[[box.tolist()]], return_tensors="pt")
                for image, box in pairs
            ]
    seconds = alternate(runs, chosen.rounds)
    speed = gemm_flops() / summary(seconds.pop("gemm"))["median"]
    show(
        "box to network input, 640x480",
        {name: summary(times, chosen.images / 1e3) for name, times in seconds.items()},
        base="transformers",
        unit="ms/image",
        file=chosen.json,
        notes={"GEMM fp32, GFLOP/s": speed / 1e9},
    )


if __name__ == "__main__":
    main()
