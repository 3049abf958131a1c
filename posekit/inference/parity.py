"""The gate of the export: does a file predict as its model does, on whole images?"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posekit.codecs import Codec
from posekit.errors import CheckpointError
from posekit.inference.predictor import ALL, Predictor
from posekit.inference.runtime import RuntimePredictor
from posekit.inference.runtime_files import METADATA_KEY, open_session
from posekit.poses.table import Poses

_ROUNDING = 2e-5
Sample = tuple[np.ndarray, np.ndarray]


class ParityError(CheckpointError):
    """An exported model whose outputs differ from those of the model it was made from."""


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from its model.

    Attributes:
        drift_px: largest distance between a keypoint of the one and of the other, in image pixels.
        head, keypoint: where it is.
        compared: keypoints compared.
        unstable: keypoints left out because rounding alone moves them (flat maps have no peak).
        score_drift: largest difference of scores, over all keypoints.
        median_px, p95_px: median and 95th percentile of the distances.
    """

    drift_px: float
    head: str
    keypoint: str
    compared: int
    unstable: int
    score_drift: float
    median_px: float = 0.0
    p95_px: float = 0.0

    def text(self) -> str:
        """Return one line for people."""
        left_out = f", {self.unstable} without a clear peak left out" if self.unstable else ""
        where = f" ('{self.keypoint}' of head '{self.head}')" if self.keypoint else ""
        return (
            f"largest drift {self.drift_px:.2g} px{where}, median {self.median_px:.2g}, 95 % within"
            f" {self.p95_px:.2g}; scores within {self.score_drift:.2g}; {self.compared} keypoints"
            f" compared{left_out}"
        )


def _with_noise(codec: Codec) -> Codec:
    """Return a codec whose maps carry as much noise as another order of the same sums makes."""

    def to_heatmap(output: Tensor) -> Tensor:
        maps = codec.to_heatmap(output)
        generator = torch.Generator().manual_seed(len(maps))
        noise = torch.randn(maps.shape, generator=generator).to(maps.device)
        return maps * (1 + _ROUNDING * noise)

    noisy = copy.copy(codec)
    vars(noisy)["to_heatmap"] = to_heatmap
    return noisy


class _TorchSession:
    """A .pt2 file that this process has just written (torch.export.load may unpickle).

    Has the form of `runtime_files.Session`.
    """

    def __init__(self, file: Path):
        extra = {METADATA_KEY: ""}
        program = torch.export.load(file, extra_files=extra)
        self.about: dict[str, Any] = json.loads(extra[METADATA_KEY])
        self._graph = program.module()
        self._device = next(iter(program.state_dict.values())).device

    def run(self, names: Sequence[str], crops: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            outputs = self._graph(torch.from_numpy(crops).to(self._device))
        by_name = dict(zip(self.about["outputs"], outputs, strict=True))
        return [by_name[name].float().cpu().numpy() for name in names]


def measure_parity(
    predictor: Predictor,
    file: Path,
    heads: Sequence[str],
    samples: Sequence[Sample],
    *,
    limit_px: float,
) -> Parity:
    """Compare an exported file with its model on whole images; batches of 1 and of more.

    The file is used as a user would, by `RuntimePredictor`: image, box, crop, graph, decoding,
    keypoints in the image. A keypoint that noise of the size of float32 rounding moves by a tenth
    of the limit is not compared; its score is.

    Args:
        predictor: the model with its crop rules.
        file: the exported file.
        heads: the file's heads.
        samples: images uint8 (H, W, 3) RGB with boxes (N, 4).
        limit_px: the drift that will be allowed; sets what counts as unstable.
    """
    session = _TorchSession(file) if file.suffix == ".pt2" else open_session(file)
    runtime = RuntimePredictor(file, batch_size=3, session=session)
    settings: dict[str, Any] = {"device": predictor.device}
    model = Predictor(predictor.model, predictor.boxes, **settings)
    noisy = Predictor(predictor.model, predictor.boxes, **settings)
    noisy.codecs = {name: _with_noise(codec) for name, codec in noisy.codecs.items()}
    theirs: list[Any] = [runtime.predict(image, boxes, head=ALL) for image, boxes in samples]
    distances: list[np.ndarray] = []
    unstable, score_drift = 0, 0.0
    worst = (-1.0, heads[0], "")
    for name in heads:
        ours = [model.predict(image, boxes, head=name) for image, boxes in samples]
        moved = [noisy.predict(image, boxes, head=name) for image, boxes in samples]
        found = [poses[name] for poses in theirs]
        distance = _distances(ours, found)
        stable = _distances(ours, moved) <= max(limit_px, 1e-3) / 10
        unstable += int((~stable).sum())
        distances.append(distance[stable])
        pairs = zip(ours, found, strict=True)
        score_drift = max(
            score_drift, *(float(np.abs(a.scores - b.scores).max(initial=0.0)) for a, b in pairs)
        )
        if stable.any():
            _, k = np.unravel_index(int(np.where(stable, distance, -1).argmax()), distance.shape)
            largest = float(distance[stable].max())
            if largest > worst[0]:
                worst = (largest, name, ours[0].schema.keypoints[int(k)])
    every = np.concatenate(distances)
    return Parity(
        drift_px=max(worst[0], 0.0),
        head=worst[1],
        keypoint=worst[2],
        compared=every.size,
        unstable=unstable,
        score_drift=float(np.nan_to_num(score_drift, nan=np.inf)),
        median_px=float(np.median(every)) if every.size else 0.0,
        p95_px=float(np.quantile(every, 0.95)) if every.size else 0.0,
    )


def sample_patterns(count: int = 4) -> list[Sample]:
    """Return generated images with boxes: soft coloured blobs, the same in every run."""
    samples = []
    for number in range(count):
        rng = np.random.default_rng(number)
        height, width = 240 + 40 * number, 320 - 30 * number
        y, x = np.mgrid[:height, :width].astype(np.float32)
        image = np.full((height, width, 3), rng.uniform(40, 200, 3), dtype=np.float32)
        for _ in range(12):
            cx, cy = rng.uniform(0, width), rng.uniform(0, height)
            spread = rng.uniform(8, 60)
            blob = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * spread**2))[..., None]
            image += blob * (rng.uniform(0, 255, 3) - image)
        corner = rng.uniform(-20, 80, (4, 2))
        boxes = np.concatenate([corner, rng.uniform(60, 160, (4, 2))], axis=1)
        samples.append((image.clip(0, 255).astype(np.uint8), boxes))
    return samples


def _distances(first: Sequence[Poses], second: Sequence[Poses]) -> np.ndarray:
    """Return float64 (N, K), how far apart the same keypoints are; infinite where one is NaN."""
    a = np.concatenate([poses.keypoints for poses in first])
    b = np.concatenate([poses.keypoints for poses in second])
    return np.nan_to_num(np.linalg.norm(a - b, axis=2), nan=np.inf)
