"""The reference evaluators, fed from arrays: pycocotools and, where it runs, xtcocotools."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posekit.errors import PosekitError
from posekit.evaluation.oks_engine import OksDetections, OksResult, OksTruth


def with_pycocotools(
    truth: OksTruth,
    found: OksDetections,
    sigmas: np.ndarray,
    num_categories: int,
    max_detections: int = 20,
) -> OksResult:
    """Score with pycocotools; annotation ids start at 1, since it takes 0 for "unmatched"."""
    with contextlib.redirect_stdout(io.StringIO()):
        annotated, detected = _as_coco(COCO, truth, found, num_categories)
        evaluator = COCOeval(annotated, detected, "keypoints")
        evaluator.params.kpt_oks_sigmas = sigmas
        return _run(evaluator, max_detections)


def with_xtcocotools(
    truth: OksTruth,
    found: OksDetections,
    sigmas: np.ndarray,
    num_categories: int,
    max_detections: int = 20,
) -> OksResult:
    """Score with xtcocotools' pure-Python evaluator, the reference of CrowdPose and WholeBody.

    Its mask extension is built against NumPy 1 and does not load beside NumPy 2; scoring
    keypoints does not use it, so pycocotools' extension stands in.

    Raises:
        PosekitError: xtcocotools is not installed (it has no wheels for Python 3.12 and later).
    """
    coco, evaluate = load_xtcocotools()
    with contextlib.redirect_stdout(io.StringIO()):
        annotated, detected = _as_coco(coco, truth, found, num_categories)
        annotated.anno_file = ["", ""]
        # Areas are in the annotations already, also where they stand for 0.53 x box area.
        evaluator = evaluate(annotated, detected, "keypoints_crowd", sigmas, use_area=True)
        return _run(evaluator, max_detections)


def load_xtcocotools() -> tuple[Any, Any]:
    """Import xtcocotools' COCO and COCOeval with pycocotools' mask extension behind them."""
    try:
        if "xtcocotools.cocoeval" not in sys.modules:
            sys.modules.setdefault(
                "xtcocotools._mask", importlib.import_module("pycocotools._mask")
            )
        coco = importlib.import_module("xtcocotools.coco")
        evaluator = importlib.import_module("xtcocotools.cocoeval")
    except ImportError as error:
        raise PosekitError(
            f"xtcocotools cannot be imported ({error}); it has wheels for Python 3.11 only: "
            "install it there with pip install posekit[verify], or verify with pycocotools"
        ) from None
    return coco.COCO, evaluator.COCOeval


def _run(evaluator: Any, max_detections: int) -> OksResult:
    evaluator.params.maxDets = [max_detections]
    evaluator.evaluate()
    evaluator.accumulate()
    return OksResult(evaluator.eval["precision"][..., 0], evaluator.eval["recall"][..., 0])


def _as_coco(
    coco: Any, truth: OksTruth, found: OksDetections, num_categories: int
) -> tuple[Any, Any]:
    images = int(max(truth.image.max(initial=-1), found.image.max(initial=-1))) + 1
    frame = {
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": c, "name": str(c)} for c in range(num_categories)],
    }
    annotations = _records(truth, truth.labelled)
    detections = _records(found, np.ones(found.keypoints.shape[:2]))
    for i, record in enumerate(annotations):
        ignored = truth.is_ignored[i] and not truth.is_crowd[i]
        record |= {"num_keypoints": 0 if ignored else 1, "bbox": truth.box_xywh[i].tolist()}
        record["iscrowd"] = int(truth.is_crowd[i])
    for record, score in zip(detections, found.score.tolist(), strict=True):
        record |= {"score": score, "iscrowd": 0}
    return (
        _indexed(coco, {**frame, "annotations": annotations}),
        _indexed(coco, {**frame, "annotations": detections}),
    )


def _records(rows: OksTruth | OksDetections, third: np.ndarray) -> list[dict[str, Any]]:
    """Return what annotations and detections share; `third` (N, K) goes beside x and y."""
    points = np.concatenate([rows.keypoints, third[..., None]], axis=2)
    return [
        {
            "id": i + 1,
            "image_id": int(rows.image[i]),
            "category_id": int(rows.category[i]),
            "keypoints": points[i].ravel().tolist(),
            "area": float(rows.area[i]),
        }
        for i in range(len(third))
    ]


def _indexed(coco: Any, dataset: dict[str, Any]) -> Any:
    result = coco()
    result.dataset = dataset
    result.createIndex()
    return result
