"""Heatmaps to keypoints: posekit's DARK-UDP decoder beside mmpose's and transformers' own.

    python benchmarks/decode.py [--instances 1000] [--keypoints 17 133]

Maps of 64x48 with a noisy Gaussian a keypoint, float32, from arrays in memory to positions in the
crop (posekit, mmpose) or in the image (transformers). mmpose decodes instance by instance, as its
heads do; the codec is `UDPHeatmap`, which blurs with zeros beyond the border, posekit's setting
`follows: "1.x"`; the default (0.x, reflected border) is what transformers computes.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from _peers import peer
from _timing import alternate, gemm, gemm_flops, options, show, summary

from posekit.codecs.registry import build_codec

SIZE = (256, 192)


def maps_of(instances: int, keypoints: int) -> torch.Tensor:
    """Draw maps (instances, keypoints, 64, 48): a Gaussian of peak 0.3 to 1 and a little noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :48].astype(np.float32)
    maps = np.empty((instances, keypoints, 64, 48), np.float32)
    for one in maps:
        cx, cy = rng.uniform(0, 47, (keypoints, 1, 1)), rng.uniform(0, 63, (keypoints, 1, 1))
        distance = (x - cx) ** 2 + (y - cy) ** 2
        one[:] = rng.uniform(0.3, 1, (keypoints, 1, 1)) * np.exp(-distance / 8)
    maps += rng.random(maps.shape, np.float32) * 0.01
    return torch.from_numpy(maps)


def mmpose_run(maps: torch.Tensor) -> Callable[[], Any] | None:
    """Return mmpose's decoding of all instances."""
    module = peer("mmpose.codecs")
    if module is None:
        return None
    codec = module.UDPHeatmap(input_size=SIZE[::-1], heatmap_size=(48, 64), sigma=2)
    arrays = maps.numpy()
    return lambda: [codec.decode(one.copy()) for one in arrays]


def transformers_run(maps: torch.Tensor) -> Callable[[], Any] | None:
    """Return transformers' post-processing of all instances."""
    module = peer("transformers.models.vitpose.image_processing_vitpose")
    if module is None:
        return None
    processor = module.VitPoseImageProcessor()
    boxes = [[[0.0, 0.0, 150.0, 200.0]]] * len(maps)
    outputs = SimpleNamespace(heatmaps=maps)
    return lambda: processor.post_process_pose_estimation(outputs, boxes)


def main() -> None:
    """Time the decoders in alternation for each number of keypoints."""
    chosen = options(
        __doc__,
        rounds=3,
        add=lambda parser: (
            parser.add_argument("--instances", type=int, default=1000),
            parser.add_argument("--keypoints", type=int, nargs="+", default=[17, 133]),
        ),
    )
    for keypoints in chosen.keypoints:
        maps = maps_of(chosen.instances, keypoints)
        runs: dict[str, Callable[[], Any]] = {"gemm": gemm(torch.float32)}
        for follows in ("0.x", "1.x"):
            codec = build_codec({"kind": "udp", "follows": follows}, SIZE)
            runs[f"posekit {follows}"] = lambda codec=codec, maps=maps: codec.decode(maps)
        for name, run in (("mmpose", mmpose_run(maps)), ("transformers", transformers_run(maps))):
            if run is not None:
                runs[name] = run
        seconds = alternate(runs, chosen.rounds, warmups=0 if keypoints > 50 else 1)
        rows = {name: summary(times) for name, times in seconds.items()}
        speed = gemm_flops() / rows.pop("gemm")["median"]
        for base in [name for name in ("mmpose", "transformers") if name in rows] or [None]:
            show(
                f"decode {chosen.instances} x {keypoints} maps of 64x48",
                rows,
                base=base,
                unit="s",
                file=chosen.json,
                notes={"GEMM fp32, GFLOP/s": speed / 1e9},
            )


if __name__ == "__main__":
    main()
