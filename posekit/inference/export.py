"""Export for other runtimes; a file whose outputs differ from the model's is not written."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posekit.codecs import CODECS
from posekit.config.plug_ins import takes_allow_code
from posekit.data.any_image import load_image
from posekit.errors import CheckpointError, PosekitError, PredictionError
from posekit.inference.export_graph import (
    PACKAGES,
    Format,
    Precision,
    check_precision,
    format_of,
    write_graph,
)
from posekit.inference.files import find_images
from posekit.inference.parity import Parity, ParityError, Sample, measure_parity, sample_patterns
from posekit.inference.predictor import ALL, Predictor, load
from posekit.poses.boxes import BoxFile
from posekit.warp import check_boxes

LIMIT_PX: dict[Precision, float] = {"fp32": 0.1, "fp16": 0.5, "bf16": 2.0, "int8": 4.0}
"""Largest drift allowed unless the caller sets another, in pixels of the samples."""
SCORE_LIMIT: dict[Precision, float] = {"fp32": 0.01, "fp16": 0.02, "bf16": 0.05, "int8": 0.1}


@dataclass(frozen=True)
class ExportDone:
    """What an export wrote, and its measured parity."""

    file: Path
    format: Format
    precision: Precision
    decoded: bool
    heads: tuple[str, ...]
    size_mib: float
    parity: Parity
    limit_px: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**vars(self), "file": str(self.file), "parity": vars(self.parity)}

    def text(self) -> str:
        """Return one line for people."""
        return (
            f"{self.file} ({self.format}, {self.precision}, {self.size_mib:.1f} MiB), heads "
            f"{', '.join(self.heads)}: {self.parity.text()}"
        )


@takes_allow_code
def export(
    model: Predictor | str | Path,
    file: str | Path,
    *,
    head: str | Sequence[str] | None = None,
    decode: bool = True,
    precision: Precision = "fp32",
    limit_px: float | None = None,
    samples: Sequence[Sample] | None = None,
    allow_code: bool = False,
) -> list[ExportDone]:
    """Write heads of a model for another runtime, and check that the files predict as the model.

    The graph takes any number of uint8 RGB crops; normalisation is inside it. The metadata hold
    what a user of the file must know (see RuntimePredictor). Each file predicts sample images
    through the whole path (image, box, crop, keypoints in the image) and is kept only if no
    keypoint is further than `limit_px` from the model's own and no score differs by more
    than SCORE_LIMIT.

    Args:
        model: a Predictor, with its crop rules (its flip test is not exported), or what `load`
            takes.
        file: the file to write; its ending names the format: .onnx, .xml (OpenVINO, with a .bin
            beside it), .pt2 (torch.export).
        head: a name, several, or "all"; None if there is one only. Heads that cannot share one
            graph (other crops, experts) go to files of their own, named FILE-HEAD.
        decode: give keypoints and scores; without, heatmaps (RuntimePredictor decodes them).
        precision: 'fp32'; 'fp16', arithmetic in half precision; 'bf16' (.pt2, .onnx), arithmetic
            (.pt2) or stored weights (.onnx) in bfloat16; 'int8' (.onnx), matrix products in
            integers. Normalisation and decoding are float32 in all.
        limit_px: largest drift allowed, in pixels of the samples; LIMIT_PX of the precision if
            left out.
        samples: images uint8 (H, W, 3) RGB with boxes (N, 4) to compare on, best of what the
            model was made for; generated patterns if left out.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Raises:
        ParityError: the drift is above the limit in one of the files; none is written.
        CheckpointError: a missing extra, an unknown ending, or a model that cannot be exported.
    """
    file = Path(file)
    kind = format_of(file)
    check_precision(kind, precision)
    for package, extra in PACKAGES[kind]:
        _require(package, extra)
    predictor = model if isinstance(model, Predictor) else load(model)
    heads = _choose(predictor, head)
    for one in heads:
        codec = str(predictor.model.head(one).spec.codec["kind"])
        if not decode and codec not in CODECS.built_in:
            raise CheckpointError(
                f"{file}: head '{one}' has the codec {codec}, which the runtime without torch "
                "cannot decode; export with decoding inside the graph"
            )
    groups = predictor.by_geometry(heads)
    limit = LIMIT_PX[precision] if limit_px is None else limit_px
    proof = samples or sample_patterns()
    checked: list[tuple[Path, tuple[str, ...], Parity]] = []
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.stem}.") as folder:
            for group in groups:
                name = file if len(groups) == 1 else _own_file(file, group)
                draft = Path(folder) / name.name
                write_graph(predictor, group, draft, decode=decode, precision=precision)
                parity = measure_parity(predictor, draft, group, proof, limit_px=limit)
                _check(parity, name, limit, SCORE_LIMIT[precision])
                checked.append((name, group, parity))
            # weights first, so that a graph never stands without them
            for part in sorted(Path(folder).iterdir(), key=lambda part: part.suffix == file.suffix):
                part.replace(file.parent / part.name)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be written ({error.strerror})") from None
    return [
        ExportDone(name, kind, precision, decode, group, _size_mib(name), parity, limit)
        for name, group, parity in checked
    ]


def read_samples(
    inputs: Sequence[str | Path], boxes: str | Path | None = None, limit: int = 16
) -> list[Sample]:
    """Read images (and their boxes from a file, see BoxFile) to compare on; at most `limit`.

    Raises:
        PredictionError: no image with a box is among the inputs.
    """
    box_file = None if boxes is None else BoxFile(boxes)
    samples: list[Sample] = []
    for path in find_images(inputs):
        if len(samples) == limit:
            break
        image = load_image(path)
        rows = check_boxes(box_file.of(path) if box_file else None, image.size, image.name)
        if len(rows):
            samples.append((image.pixels, rows))
    if not samples:
        raise PredictionError("none of the sample images has a box, so there is nothing to compare")
    return samples


def _check(parity: Parity, file: Path, limit_px: float, score_limit: float) -> None:
    if not parity.compared:
        raise ParityError(
            f"{file}: the model's maps are flat on the samples, so that no keypoint can be "
            "compared; nothing was written, give sample images of what the model was made for"
        )
    if not parity.drift_px <= limit_px:
        raise ParityError(
            f"{file}: the exported model puts '{parity.keypoint}' of head '{parity.head}' "
            f"{parity.drift_px:.3g} px from where the model does (median {parity.median_px:.2g} "
            f"px), the limit is {limit_px:g} px; nothing was written"
        )
    if not parity.score_drift <= score_limit:
        raise ParityError(
            f"{file}: the exported model's scores differ by {parity.score_drift:.3g} from the "
            f"model's, the limit is {score_limit:g}; nothing was written"
        )


def _choose(predictor: Predictor, head: str | Sequence[str] | None) -> tuple[str, ...]:
    if head is None or isinstance(head, str):
        return predictor.choose(head)
    if not head:
        return predictor.choose(None)
    if ALL in head:
        return predictor.heads
    return tuple(dict.fromkeys(name for one in head for name in predictor.choose(one)))


def _own_file(file: Path, heads: tuple[str, ...]) -> Path:
    return file.with_stem(f"{file.stem}-{'+'.join(heads)}")


def _size_mib(file: Path) -> float:
    """Return the size of all that an export consists of: OpenVINO's weights, external data."""
    parts = [file, file.with_name(f"{file.name}.data")]
    if file.suffix == ".xml":
        parts.append(file.with_suffix(".bin"))
    return sum(part.stat().st_size for part in parts if part.is_file()) / 2**20


def _require(package: str, extra: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError:
        raise PosekitError(
            f"this export needs the package '{package}', which is not installed; install the "
            f"extra with: pip install 'posekit[{extra}]'"
        ) from None
