"""From network output to the list that is scored: repeated instances, rescoring, OKS-NMS.

Source: protocols of mmpose's CocoMetric and ViTPose's COCO data set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posekit.evaluation.protocol import OksProtocol
from posekit.poses.similarity import keypoint_oks
from posekit.poses.table import Poses


@dataclass(frozen=True)
class Ranked:
    """Predictions that are left, sorted by image and instance, with one score each."""

    predictions: Poses
    score: np.ndarray


def rank(predictions: Poses, sigmas: np.ndarray, protocol: OksProtocol) -> Ranked:
    """Drop repeated instances, rescore, and suppress repeated detections.

    Args:
        sigmas: float64 (K,), for the similarity of two detections.
    """
    single = without_repeats(predictions)
    score = instance_scores(single, protocol)
    keep = suppress(single, score, sigmas, protocol)
    return Ranked(single.take(keep), score[keep])


def without_repeats(predictions: Poses) -> Poses:
    """Keep one prediction for each instance of an image, sorted by image, then by instance."""
    order = np.lexsort((predictions.instance_id, predictions.image_id))
    images, ids = predictions.image_id[order], predictions.instance_id[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = (images[1:] != images[:-1]) | (ids[1:] != ids[:-1])
    return predictions.take(order[is_first])


def instance_scores(predictions: Poses, protocol: OksProtocol) -> np.ndarray:
    """Make one score an instance from its box's and its keypoints' scores.

    Returns:
        float64 (N,). 'bbox_keypoint': box score x mean of the keypoint scores strictly above the
        threshold (0 if none is). 'bbox_rle': box score + mean + maximum of the keypoint scores.
    """
    scores, box = predictions.scores, predictions.box_scores
    if protocol.score == "bbox":
        return box.copy()
    if protocol.score == "keypoint":
        return scores.mean(axis=1)
    if protocol.score == "bbox_rle":
        return box + scores.mean(axis=1) + scores.max(axis=1)
    good = scores > protocol.keypoint_score_threshold
    return box * np.where(good, scores, 0.0).sum(axis=1) / np.maximum(good.sum(axis=1), 1)


def suppress(
    predictions: Poses, score: np.ndarray, sigmas: np.ndarray, protocol: OksProtocol
) -> np.ndarray:
    """Return the rows that stay, ascending; categories of an image compete with one another.

    'soft_oks_nms' lets decayed scores decide only the order of picking: the first
    `nms_max_detections` stay with the scores that they had.
    Cost: O(D^2 K) for an image with D detections.
    """
    if protocol.nms == "none" or not len(predictions):
        return np.arange(len(predictions))
    images = predictions.image_id
    starts = np.flatnonzero(np.r_[True, images[1:] != images[:-1]])
    keep = []
    for rows in np.split(np.arange(len(images)), starts[1:]):
        if len(rows) == 1:
            keep.append(rows)
            continue
        similarity = _similarity(predictions.keypoints[rows], predictions.input_area[rows], sigmas)
        if protocol.nms == "oks_nms":
            kept = _hard(similarity, score[rows], protocol.nms_threshold)
        else:
            kept = _soft(
                similarity, score[rows], protocol.nms_threshold, protocol.nms_max_detections
            )
        keep.append(rows[np.sort(kept)])
    return np.concatenate(keep)


def _similarity(points: np.ndarray, area: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    mean_area = (area[:, None] + area[None]) / 2 + np.spacing(1)
    return keypoint_oks(squared, mean_area, sigmas).mean(axis=-1)


def _hard(similarity: np.ndarray, score: np.ndarray, threshold: float) -> list[int]:
    order = np.argsort(-score, kind="stable")
    kept: list[int] = []
    while len(order):
        kept.append(int(order[0]))
        order = order[1:][similarity[order[0], order[1:]] <= threshold]
    return kept


def _soft(similarity: np.ndarray, score: np.ndarray, threshold: float, most: int) -> list[int]:
    order = np.argsort(-score, kind="stable")
    decayed = score[order]
    kept: list[int] = []
    while len(order) and len(kept) < most:
        first, order = order[0], order[1:]
        kept.append(int(first))
        decayed = decayed[1:] * np.exp(-(similarity[first, order] ** 2) / threshold)
        by_score = np.argsort(-decayed, kind="stable")
        order, decayed = order[by_score], decayed[by_score]
    return kept
