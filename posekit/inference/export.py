"""Export to ONNX, with a gate: a file that answers otherwise than the model is not written."""

from __future__ import annotations

import importlib
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posekit import __version__
from posekit.errors import CheckpointError, PosekitError
from posekit.inference.predictor import Predictor
from posekit.inference.results import Poses
from posekit.inference.runtime import FORMAT, METADATA_KEY, RuntimePredictor
from posekit.models import PoseModel

LIMIT_PX = 0.1
_MOST_SCORE_DRIFT = 0.01
_ROUNDING = 2e-5
Sample = tuple[np.ndarray, np.ndarray]


class ParityError(CheckpointError):
    """An exported model answers otherwise than the model that it was made from."""


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from its model.

    Attributes:
        drift_px: largest distance between a keypoint of the one and of the other, in image pixels.
        head, keypoint: where it is.
        compared: keypoints compared.
        unstable: keypoints left out because rounding alone moves them (flat maps have no peak).
        score_drift: largest difference of scores, over all keypoints.
    """

    drift_px: float
    head: str
    keypoint: str
    compared: int
    unstable: int
    score_drift: float


@dataclass(frozen=True)
class ExportDone:
    """What an export wrote, and its measured parity."""

    file: Path
    heads: tuple[str, ...]
    size_mib: float
    parity: Parity
    limit_px: float

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {**vars(self), "file": str(self.file), "parity": vars(self.parity)}


class ExportGraph(nn.Module):
    """From uint8 crops (B, h, w, 3) RGB to points in crop pixels and scores of each head."""

    def __init__(self, model: PoseModel, heads: Sequence[str]):
        super().__init__()
        self.model, self.names = model, tuple(heads)

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Give points (B, K, 2) and scores (B, K), head after head."""
        groups = [(self.names[0], slice(0, crops.shape[0]))]
        features = self.model.features(self.model.normalise(crops), groups)
        outputs: list[Tensor] = []
        for name in self.names:
            head = self.model.head(name)
            outputs += head.codec.decode(head.codec.to_heatmap(head(features)))
        return tuple(outputs)


def export_onnx(
    predictor: Predictor,
    file: str | Path,
    *,
    head: str | None = None,
    limit_px: float = LIMIT_PX,
    samples: Sequence[Sample] | None = None,
) -> ExportDone:
    """Write one ONNX file that takes crops to keypoints, and prove that it does.

    Normalisation and decoding are part of the graph; the number of crops is free. The metadata
    hold what a user of the file must know (see RuntimePredictor). After writing, the file predicts
    sample images through the whole path (image, box, crop, keypoints in the image) and is kept
    only if no keypoint is further than `limit_px` from the model's own answer and no score differs
    by more than 0.01.

    Args:
        predictor: the model, with its crop rules; its flip test is not exported.
        file: the file to write, usually ending in .onnx.
        head: as in `Predictor.predict`; "all" needs heads that share crops and no experts.
        limit_px: largest drift allowed, in pixels of the sample images.
        samples: images uint8 (H, W, 3) RGB with boxes (N, 4) to compare on, best of what the
            model was made for; generated patterns if left out. Keypoints that rounding alone moves
            are not compared, their scores are.

    Raises:
        ParityError: the drift is above the limit; no file is left behind.
        CheckpointError: the packages of the extra `export` are missing, or the heads cannot share
            one file.
    """
    _require("onnx", "onnxscript", "onnxruntime")
    heads = predictor.choose(head)
    if len(predictor.by_geometry(heads)) > 1:
        why = "experts" if predictor.model.expert_of else "different crops"
        raise CheckpointError(
            f"heads {', '.join(heads)} have {why}, so they cannot share one graph; export each "
            "head to a file of its own"
        )
    file = Path(file)
    draft = file.with_name(f".{file.name}.{os.getpid()}.onnx")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(predictor, heads, draft)
        parity = measure_parity(
            predictor, draft, heads, samples or sample_patterns(), limit_px=limit_px
        )
        if not parity.compared:
            raise ParityError(
                f"{file}: the model's maps are flat on the samples, so that no keypoint can be "
                "compared; nothing was written, give sample images of what the model was made for"
            )
        if not parity.score_drift <= _MOST_SCORE_DRIFT:
            raise ParityError(
                f"{file}: the exported model's scores differ by {parity.score_drift:.3g} from the "
                f"model's, the limit is {_MOST_SCORE_DRIFT:g}; nothing was written"
            )
        if not parity.drift_px <= limit_px:
            raise ParityError(
                f"{file}: the exported model puts '{parity.keypoint}' of head '{parity.head}' "
                f"{parity.drift_px:.3g} px from where the model does, the limit is {limit_px:g} "
                "px; nothing was written"
            )
        draft.replace(file)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be written ({error.strerror})") from None
    finally:
        draft.unlink(missing_ok=True)
    return ExportDone(file, heads, file.stat().st_size / 2**20, parity, limit_px)


class _Shaken(Predictor):
    """A predictor whose maps carry as much noise as another order of the same sums makes."""

    def maps(self, images: Tensor, heads: Sequence[str]) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(len(images))
        shaken = {}
        for name, heat in super().maps(images, heads).items():
            noise = torch.randn(heat.shape, generator=generator).to(heat.device)
            shaken[name] = heat * (1 + _ROUNDING * noise)
        return shaken


def measure_parity(
    predictor: Predictor,
    file: Path,
    heads: Sequence[str],
    samples: Sequence[Sample],
    *,
    limit_px: float = LIMIT_PX,
) -> Parity:
    """Compare an exported file with its model on whole images; batches of 1 and of more.

    A keypoint that noise of the size of rounding moves by a tenth of the limit is not compared.
    """
    runtime = RuntimePredictor(file, batch_size=3)
    model = Predictor(predictor.model, predictor.boxes, device=predictor.device)
    shaken = _Shaken(predictor.model, predictor.boxes, device=predictor.device)
    worst = Parity(0.0, heads[0], "", 0, 0, 0.0)
    for name in heads:
        ours = [model.predict(image, boxes, head=name) for image, boxes in samples]
        moved = [shaken.predict(image, boxes, head=name) for image, boxes in samples]
        theirs = [runtime.predict(image, boxes, head=name) for image, boxes in samples]
        stable = _distances(ours, moved) <= limit_px / 10 if limit_px > 0 else np.array(True)
        distance = _distances(ours, theirs)
        stable = np.broadcast_to(stable, distance.shape)
        row, k = np.unravel_index(int(np.where(stable, distance, -1.0).argmax()), distance.shape)
        drift = float(distance[row, k]) if stable.any() else 0.0
        pairs = zip(ours, theirs, strict=True)
        scores = max(float(np.abs(a.scores - b.scores).max(initial=0.0)) for a, b in pairs)
        farther = drift > worst.drift_px or not worst.keypoint
        worst = Parity(
            drift_px=max(drift, worst.drift_px),
            head=name if farther else worst.head,
            keypoint=ours[0].schema.keypoints[int(k)] if farther else worst.keypoint,
            compared=worst.compared + int(stable.sum()),
            unstable=worst.unstable + int((~stable).sum()),
            score_drift=max(worst.score_drift, scores),
        )
    return worst


def _distances(first: Sequence[Poses], second: Sequence[Poses]) -> np.ndarray:
    """float64 (N, K): how far apart the same keypoints are; infinite where one is not a number."""
    a = np.concatenate([poses.keypoints for poses in first])
    b = np.concatenate([poses.keypoints for poses in second])
    return np.nan_to_num(np.linalg.norm(a - b, axis=2), nan=np.inf)


def sample_patterns(count: int = 4) -> list[Sample]:
    """Give generated images with boxes: soft coloured blobs, the same in every run."""
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


def _write(predictor: Predictor, heads: Sequence[str], file: Path) -> None:
    graph = ExportGraph(predictor.model, heads).eval()
    height, width = predictor.model.head(heads[0]).input_size
    example = torch.zeros((3, height, width, 3), dtype=torch.uint8, device=predictor.device)
    batch = torch.export.Dim("batch", min=1, max=65535)
    names = [f"{head}.{part}" for head in heads for part in ("points", "scores")]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(graph, (example,), dynamic_shapes={"crops": {0: batch}})
            onnx = torch.onnx.export(
                program, input_names=["crops"], output_names=names, dynamo=True, verbose=False
            )
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(
                f"head(s) {', '.join(heads)}: this model cannot be exported to ONNX ({reason})"
            ) from error
    if onnx is None:
        raise CheckpointError("torch's ONNX exporter gave no model")
    onnx.model.metadata_props[METADATA_KEY] = json.dumps(_metadata(predictor, heads))
    onnx.save(str(file))


def _metadata(predictor: Predictor, heads: Sequence[str]) -> dict[str, Any]:
    model, first = predictor.model, predictor.model.head(heads[0])
    rule = predictor.boxes[heads[0]]
    return {
        "format": FORMAT,
        "posekit_version": __version__,
        "input": "crops: uint8 (B, height, width, 3) RGB; normalised inside the graph",
        "input_size": list(first.input_size),
        "warp": first.codec.warp,
        "padding": rule.padding,
        "keep_aspect": rule.keep_aspect,
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        "heads": {
            name: {
                "schema": model.head(name).schema.to_dict(),
                "codec": dict(model.head(name).spec.codec),
                "points": f"{name}.points",
                "scores": f"{name}.scores",
            }
            for name in heads
        },
    }


def _require(*packages: str) -> None:
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError:
            raise PosekitError(
                f"export to ONNX needs the package '{package}', which is not installed; install "
                "the extra with: pip install 'posekit[export]'"
            ) from None
