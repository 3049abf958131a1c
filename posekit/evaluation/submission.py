"""The files of an evaluation: posekit's own predictions and what test servers take."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from posekit.adapters.fields import plain_id
from posekit.data.columns import InstanceColumns
from posekit.evaluation.oks import part_columns, sigmas_of
from posekit.evaluation.oks_nms import rank
from posekit.evaluation.protocol import JointApProtocol, OksProtocol, Protocol
from posekit.output import atomic_file, write_text
from posekit.poses.table import Poses
from posekit.poses.write import PART_FIELDS, PREDICTIONS_FILE, write_json_list, write_predictions
from posekit.schema import KeypointSchema


def write_submission(
    folder: Path,
    predictions: Poses,
    truth: InstanceColumns,
    schema: KeypointSchema,
    protocol: Protocol,
) -> list[Path]:
    """Write the files of an evaluation: predictions.json and the official one, if there is one.

    OKS sets get results.json in COCO's results format, rescored and after NMS, ready for a test
    server; frames of videos scored keypoint by keypoint also get frames/VIDEO.json in the form that
    poseval reads; sets that come with head sizes (MPII) get pred.mat.
    """
    files = [write_predictions(folder / PREDICTIONS_FILE, predictions)]
    if isinstance(protocol, OksProtocol):
        records = coco_results(predictions, schema, protocol)
        files.append(write_json_list(folder / "results.json", records))
        if isinstance(protocol, JointApProtocol):
            files += write_frames(folder / "frames", predictions, truth, schema)
    elif "head_size" in truth.extras:
        files.append(write_mpii_mat(folder / "pred.mat", predictions, truth))
    return files


def coco_results(
    predictions: Poses, schema: KeypointSchema, protocol: OksProtocol
) -> Iterable[dict[str, Any]]:
    """Yield COCO result records: rescored, after NMS, keypoints as flat x, y, score.

    A whole-body protocol's parts go to the fields that its test server expects.
    """
    ranked = rank(predictions, sigmas_of(schema, protocol), protocol)
    left = ranked.predictions
    joined = np.concatenate([left.keypoints, left.scores[..., None]], axis=2)
    parts = {
        PART_FIELDS.get(name, name): part_columns(schema, first, last)
        for name, (first, last) in getattr(protocol, "parts", {}).items()
    } or {"keypoints": slice(None)}
    for i in range(len(left)):
        record = {
            "image_id": plain_id(left.image_id[i]),
            "category_id": int(left.category_id[i]),
            "score": float(ranked.score[i]),
        }
        record |= {field: joined[i, channels].ravel().tolist() for field, channels in parts.items()}
        if protocol.detection_area == "box" and left.has_box:
            record["bbox"] = left.box_xywh[i].tolist()
        yield record


def write_mpii_mat(file: Path, predictions: Poses, truth: InstanceColumns) -> Path:
    """Write MPII's `preds` (N, K, 2), 1-based pixels, in the order of the annotation file."""
    position = {int(i): row for row, i in enumerate(truth.instance_id)}
    preds = np.full((len(truth), *predictions.keypoints.shape[1:]), -1.0)
    for instance, points in zip(predictions.instance_id, predictions.keypoints, strict=True):
        preds[position[int(instance)]] = points + 1
    with atomic_file(file, sync=False) as temporary, temporary.open("wb") as stream:
        scipy.io.savemat(stream, {"preds": preds})
    return file


def write_frames(
    folder: Path, predictions: Poses, truth: InstanceColumns, schema: KeypointSchema
) -> list[Path]:
    """Write one file for each folder of frames, in PoseTrack18's form, as poseval reads them.

    Every image of the split is listed. Poses are not followed from frame to frame: all tracks are
    0, so that only the AP of these files means something.
    """
    categories = [{"id": 1, "name": "person", "keypoints": list(schema.keypoints)}]
    files: dict[str, dict[str, list[Any]]] = {}
    of_image: dict[Any, dict[str, list[Any]]] = {}
    ids = np.asarray(truth.image_id).tolist()
    for raw, image_id in zip(np.asarray(truth.image_path).tolist(), ids, strict=True):
        path = raw.decode()
        name = path.rpartition("/")[0].rpartition("/")[2] or "frames"
        content = files.setdefault(name, {"images": [], "annotations": []})
        content["images"].append({"id": plain_id(image_id), "file_name": path})
        of_image[image_id] = content
    joined = np.concatenate([predictions.keypoints, predictions.scores[..., None]], axis=2)
    for i, image_id in enumerate(predictions.image_id.tolist()):
        record = {
            "image_id": plain_id(image_id),
            "track_id": 0,
            "keypoints": joined[i].ravel().tolist(),
            "scores": predictions.scores[i].tolist(),
        }
        of_image[image_id]["annotations"].append(record)
    return [
        write_text(folder / f"{name}.json", json.dumps({**content, "categories": categories}))
        for name, content in files.items()
    ]
