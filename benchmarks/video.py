"""A rendered clip through `posekit predict`: peak memory as frames go by, and frames a second.

python benchmarks/video.py [--frames 2000] [--model RUN] [--head NAME]

The peak is the process's (ru_maxrss), model and libraries included. That it does not grow between
the first mark and the last is what "constant memory" means.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from posekit.inference.predictor import Predictor, load
from posekit.inference.video import predict_video
from posekit.models import HeadSpec, build_model
from posekit.practice import generator, people_scene
from posekit.schema import KeypointSchema

SIZE = (240, 320)


def render_clip(file: Path, frames: int) -> None:
    """Write a clip that wanders over a rendered scene of two people."""
    scene = people_scene(generator(0, "clip", 0), 2, (SIZE[0] * 2, SIZE[1] * 2)).image
    code = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(file), code, 25.0, SIZE[::-1])
    for number in range(frames):
        turn = 2 * np.pi * number / 400
        x = round(SIZE[1] * (0.5 + 0.5 * np.cos(turn)))
        y = round(SIZE[0] * (0.5 + 0.5 * np.sin(2 * turn)))
        view = scene[y : y + SIZE[0], x : x + SIZE[1]]
        writer.write(np.ascontiguousarray(view[..., ::-1]))
    writer.release()


def plain_predictor() -> Predictor:
    """Return an untrained model of the practice run's sizes; the work is the same."""
    names = tuple(f"point_{number}" for number in range(17))
    spec = HeadSpec(KeypointSchema("points", names), {"kind": "simple"}, {"kind": "udp"}, (128, 96))
    backbone = {"name": "vit", "embed_dim": 192, "depth": 6, "num_heads": 3}
    return Predictor(build_model(backbone, {"points": spec}))


def peak_mib() -> float:
    """Return the process's peak memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Render, predict with overlay and tracking, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--model")
    parser.add_argument("--head")
    wanted = parser.parse_args()
    predictor = load(wanted.model) if wanted.model else plain_predictor()
    marks = sorted({max(wanted.frames * part // 20, 1) for part in (2, 5, 10, 15, 20)})
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        render_clip(clip, wanted.frames)
        print(f"peak before the first frame {peak_mib():7.1f} MiB")
        begun = time.perf_counter()

        def progress(_name: str, done: int, _total: int | None) -> None:
            if done in marks:
                pace = done / (time.perf_counter() - begun)
                print(f"{done:>6} frames: peak {peak_mib():7.1f} MiB, {pace:5.1f} frames/s")

        done = predict_video(
            predictor, clip, Path(folder) / "out", head=wanted.head, progress=progress
        )
        sizes = ", ".join(f"{f.name} {f.stat().st_size / 2**20:.1f} MiB" for f in done.written)
        print(f"{done.frames} frames written: {sizes}")


if __name__ == "__main__":
    main()
