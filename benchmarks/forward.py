"""The forward pass of ViTPose-B, batch 8 at 256x192: posekit beside transformers.

    python benchmarks/forward.py [--batch 8]

Random weights; backbone and classic head. posekit runs in plain torch, float32 and bfloat16, and
through OpenVINO (extra `openvino`: the graph that `posekit export` makes, here converted directly).
transformers runs its VitPoseForPoseEstimation with fused attention.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from _joint import SIZE, schema, set_attention
from _peers import peer
from _timing import alternate, gemm, gemm_flops, options, show, summary

from posekit.models import HeadSpec, build_model


def posekit_model() -> torch.nn.Module:
    """Build ViTPose-B with one classic head of 17 keypoints."""
    torch.manual_seed(0)
    spec = HeadSpec(schema(17), {"kind": "classic"}, {"kind": "udp"}, SIZE)
    return build_model({"name": "vitpose_base"}, {"coco": spec}).eval()


class WholePass(torch.nn.Module):
    """Normalised images to heatmaps, as one module that OpenVINO can convert."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return maps (B, 17, 64, 48) for images (B, 3, 256, 192)."""
        return self.model.run_head("coco", self.model.features(images))


def torch_run(
    module: torch.nn.Module, images: torch.Tensor, dtype: torch.dtype, *, keywords: bool = False
) -> Callable[[], Any]:
    """Return a run of a torch module in a float type."""

    def run() -> Any:
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return module(pixel_values=images) if keywords else module(images)

    return run


def transformers_model() -> torch.nn.Module | None:
    """Build transformers' ViTPose-B."""
    module = peer("transformers")
    if module is None:
        return None
    backbone = module.VitPoseBackboneConfig(out_indices=[12])
    config = module.VitPoseConfig(backbone_config=backbone, use_simple_decoder=False)
    config.num_labels = 17
    return module.VitPoseForPoseEstimation(config).eval()


def openvino_runs(module: torch.nn.Module, images: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """Return runs through OpenVINO in float32 and bfloat16; none if it is not installed."""
    openvino = peer("openvino")
    if openvino is None:
        return {}
    set_attention(module, fused=True)
    graph = openvino.convert_model(module, example_input=images)
    array, runs = images.numpy(), {}
    for name, hint in (("fp32", "f32"), ("bf16", "bf16")):
        settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        settings["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
        compiled = openvino.Core().compile_model(graph, "CPU", settings)
        runs[f"posekit, OpenVINO {name}"] = lambda compiled=compiled: compiled(array)
    return runs


def main() -> None:
    """Time all forward passes in alternation."""
    chosen = options(
        __doc__, rounds=5, add=lambda parser: parser.add_argument("--batch", type=int, default=8)
    )
    images = torch.randn(chosen.batch, 3, *SIZE)
    whole = WholePass(posekit_model())
    plain = WholePass(posekit_model())
    set_attention(plain, fused=False)
    runs: dict[str, Callable[[], Any]] = {
        "gemm": gemm(torch.float32),
        "posekit fp32": torch_run(whole, images, torch.float32),
        "posekit bf16": torch_run(plain, images, torch.bfloat16),
    }
    theirs = transformers_model()
    if theirs is not None:
        runs["transformers fp32"] = torch_run(theirs, images, torch.float32, keywords=True)
        runs["transformers bf16"] = torch_run(theirs, images, torch.bfloat16, keywords=True)
    runs |= openvino_runs(WholePass(posekit_model()), images)
    seconds = alternate(runs, chosen.rounds)
    rows = {name: summary(times) for name, times in seconds.items()}
    speed = gemm_flops() / rows.pop("gemm")["median"]
    show(
        f"forward of ViTPose-B, batch {chosen.batch}",
        rows,
        base="transformers fp32",
        unit="s",
        file=chosen.json,
        notes={
            "GEMM fp32, GFLOP/s": speed / 1e9,
            **{f"images/s, {name}": chosen.batch / row["median"] for name, row in rows.items()},
        },
    )


if __name__ == "__main__":
    main()
