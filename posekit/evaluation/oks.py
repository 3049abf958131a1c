"""OKS AP and AR of COCO's kind, CrowdPose's crowd index and the parts of whole-body sets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from posekit.adapters.fields import id_text
from posekit.data.columns import InstanceColumns
from posekit.errors import ConfigError, PredictionError
from posekit.evaluation import oks_engine, oks_reference
from posekit.evaluation.base import Scores, check_poses, protocol_dict
from posekit.evaluation.oks_engine import Matches, OksDetections, OksResult, OksTruth
from posekit.evaluation.oks_nms import Ranked, rank
from posekit.evaluation.points import extra_of
from posekit.evaluation.protocol import CrowdPoseProtocol, OksProtocol, WholeBodyProtocol
from posekit.poses.similarity import exact_points
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema

_BOX_TO_AREA = 0.53
_COLUMNS = {
    "AP": ("average", "all", None),
    "AP .5": ("average", "all", 0.5),
    "AP .75": ("average", "all", 0.75),
    "AP (M)": ("average", "medium", None),
    "AP (L)": ("average", "large", None),
    "AR": ("average_recall", "all", None),
    "AR .5": ("average_recall", "all", 0.5),
    "AR .75": ("average_recall", "all", 0.75),
    "AR (M)": ("average_recall", "medium", None),
    "AR (L)": ("average_recall", "large", None),
}


@dataclass(frozen=True)
class OksProblem:
    """Truth and detections of one evaluation, with the numbers behind images and categories.

    Attributes:
        images: the ids behind the image numbers, sorted.
        categories: the ids behind the category numbers, sorted.
        sigmas: float64 (K,).
        ranked: the predictions behind the detections (rows agree).
    """

    truth: OksTruth
    found: OksDetections
    images: np.ndarray
    categories: np.ndarray
    sigmas: np.ndarray
    ranked: Ranked

    def of_keypoints(self, columns: slice) -> OksProblem:
        """Return the same problem for some keypoints; who has none of them labelled is ignored."""
        truth, found = self.truth.of_keypoints(columns), self.found.of_keypoints(columns)
        return replace(self, truth=truth, found=found, sigmas=self.sigmas[columns])

    def of_images(self, chosen: np.ndarray) -> OksProblem:
        """Return the same problem for some images (bool mask over image numbers)."""
        rows = np.flatnonzero(chosen[self.found.image])
        ranked = Ranked(self.ranked.predictions.take(rows), self.ranked.score[rows])
        truth = self.truth.take(np.flatnonzero(chosen[self.truth.image]))
        return replace(self, truth=truth, found=self.found.take(rows), ranked=ranked)


def evaluate_oks(
    truth: InstanceColumns, predictions: Poses, schema: KeypointSchema, protocol: OksProtocol
) -> Scores:
    """Return COCO's ten numbers: AP and AR over thresholds, at .5, .75, and by area.

    Raises:
        ConfigError: the schema has no sigmas (the score is then PCK, never AP).
        PredictionError: predictions that cannot be scored against this truth.
    """
    problem = prepare(truth, predictions, schema, protocol)
    result, matches = solve(problem, protocol)
    scores = _scores(problem, matches, numbers(result), schema, protocol)
    derived = int((~np.asarray(truth.has_box, dtype=bool)).sum())
    if derived and not protocol.use_area:
        scores.counts["areas from keypoint extents (no annotated box)"] = derived
    return replace(scores, per_category=_by_category(problem, result))


def evaluate_crowdpose(
    truth: InstanceColumns,
    predictions: Poses,
    schema: KeypointSchema,
    protocol: CrowdPoseProtocol,
) -> Scores:
    """Return CrowdPose's nine numbers: AP and AR at thresholds, and AP by crowd index.

    AP(E), AP(M), AP(H) average the raw precision array, its -1 entries included, and are rounded
    to four decimals, as the reference does.
    """
    problem = prepare(truth, predictions, schema, protocol)
    result, matches = solve(problem, protocol)
    metrics = {name: value for name, value in numbers(result).items() if "(" not in name}
    index = _crowd_index(truth, problem.images, protocol)
    easy, hard = index < protocol.easy_below, ~(index < protocol.hard_from)
    for name, chosen in {"AP(E)": easy, "AP(M)": ~easy & ~hard, "AP(H)": hard}.items():
        part = _of_images(problem, matches, chosen, protocol)
        metrics[name] = round(float(np.mean(part.precision[..., 0])), 4)
    return _scores(problem, matches, metrics, schema, protocol)


def evaluate_wholebody(
    truth: InstanceColumns,
    predictions: Poses,
    schema: KeypointSchema,
    protocol: WholeBodyProtocol,
) -> Scores:
    """Return COCO's ten numbers for all keypoints and, with the part's name before, for each part.

    Every part is scored with the whole person's area and the one score of the whole person.
    """
    problem = prepare(truth, predictions, schema, protocol)
    result, matches = solve(problem, protocol)
    metrics = numbers(result)
    for name, (first, last) in protocol.parts.items():
        part, _ = solve(problem.of_keypoints(part_columns(schema, first, last)), protocol)
        metrics.update({f"{name} {metric}": value for metric, value in numbers(part).items()})
    return _scores(problem, matches, metrics, schema, protocol)


def part_columns(schema: KeypointSchema, first: str, last: str) -> slice:
    """Return the channels from the keypoint `first` to `last`, both included."""
    return slice(schema.index(first, "parts"), schema.index(last, "parts") + 1)


def numbers(result: OksResult) -> dict[str, float]:
    """Return COCO's ten numbers in its order; -1 where an area range is empty."""
    return {
        name: getattr(result, method)(area, threshold)
        for name, (method, area, threshold) in _COLUMNS.items()
    }


def solve(problem: OksProblem, protocol: OksProtocol) -> tuple[OksResult, Matches]:
    """Match and accumulate with the protocol's engine."""
    truth, found = problem.truth, problem.found
    matches = oks_engine.match(truth, found, problem.sigmas, protocol.max_detections)
    if protocol.engine == "pycocotools":
        result = oks_reference.with_pycocotools(
            truth, found, problem.sigmas, len(problem.categories), protocol.max_detections
        )
    else:
        result = oks_engine.accumulate(truth, found, matches, len(problem.categories))
    return result, matches


def _of_images(
    problem: OksProblem, matches: Matches, chosen: np.ndarray, protocol: OksProtocol
) -> OksResult:
    """Return the result over some images; matching goes image by image, so it is not done again."""
    if protocol.engine == "pycocotools":
        return solve(problem.of_images(chosen), protocol)[0]
    return oks_engine.accumulate(
        problem.truth, problem.found, matches, len(problem.categories), chosen
    )


def prepare(
    truth: InstanceColumns, predictions: Poses, schema: KeypointSchema, protocol: OksProtocol
) -> OksProblem:
    """Rank the predictions and bring both sides into the engine's form."""
    check_poses(predictions, schema)
    sigmas = sigmas_of(schema, protocol)
    ranked = rank(predictions, sigmas, protocol)
    images = np.unique(truth.image_id)
    categories = np.unique(truth.category_id)
    left = ranked.predictions
    image = _positions(images, left.image_id)
    refuse_unknown_images(images, left)
    category = _positions(categories, left.category_id)
    # The reference drops what has no keypoint score above 0, and never sees other categories.
    counts = (left.scores > 0).any(axis=1) & (category >= 0)
    rows = np.flatnonzero(counts)
    found = OksDetections(
        image=image[rows],
        category=category[rows],
        keypoints=left.keypoints[rows],
        score=ranked.score[rows],
        area=detection_areas(left, schema, protocol)[rows],
    )
    engine_truth = _engine_truth(truth, images, categories, protocol)
    return OksProblem(
        engine_truth, found, images, categories, sigmas, Ranked(left.take(rows), found.score)
    )


def sigmas_of(schema: KeypointSchema, protocol: OksProtocol) -> np.ndarray:
    """Return the OKS sigmas, the protocol's before the schema's; none is ever invented."""
    sigmas = protocol.sigmas if protocol.sigmas is not None else schema.sigmas
    if sigmas is None:
        raise ConfigError(
            f"schema '{schema.name}' has no OKS sigmas, so there is no AP; use the evaluator "
            "'pck', or give sigmas with their source in the card"
        )
    if len(sigmas) != len(schema):
        raise ConfigError(
            f"protocol: {len(sigmas)} sigmas for the {len(schema)} keypoints of schema "
            f"'{schema.name}', expected one for each"
        )
    return np.asarray(sigmas, dtype=np.float64)


def detection_areas(
    predictions: Poses, schema: KeypointSchema, protocol: OksProtocol
) -> np.ndarray:
    """float64 (N,): what decides the area range of a detection that matches nothing."""
    if protocol.detection_area == "box" and predictions.has_box:
        return predictions.box_xywh[:, 2] * predictions.box_xywh[:, 3]
    columns = slice(None)
    parts = getattr(protocol, "parts", {})
    if protocol.detection_area in parts:
        columns = part_columns(schema, *parts[protocol.detection_area])
    elif protocol.detection_area not in {"box", "keypoints"}:
        valid = ["box", "keypoints", *parts]
        raise ConfigError(
            f"protocol: detection_area '{protocol.detection_area}', expected one of {valid}"
        )
    extent = np.ptp(predictions.keypoints[:, columns], axis=1)
    return extent[:, 0] * extent[:, 1]


def _engine_truth(
    truth: InstanceColumns, images: np.ndarray, categories: np.ndarray, protocol: OksProtocol
) -> OksTruth:
    labelled = np.asarray(truth.visibility) > 0
    box = np.asarray(truth.box_xywh, dtype=np.float64)
    if protocol.use_area:
        area = np.asarray(truth.area, dtype=np.float64)
        if np.isnan(area).any():
            raise ConfigError(
                f"{np.isnan(area).sum()} of {len(area)} annotations have no area; set use_area: "
                "false in the protocol (0.53 x box area is then used, as for sets without areas)"
            )
    else:
        area = box[:, 2] * box[:, 3] * _BOX_TO_AREA
    crowd, everyone = np.asarray(truth.is_crowd, dtype=bool), np.arange(len(truth))
    if protocol.labelled_by == "visibility":
        counted = labelled.any(axis=1)
    else:
        counted = extra_of(truth, everyone, protocol.labelled_by) != 0
    if protocol.subset:
        # Whoever is not in the subset is ignored: neither found nor missed.
        chosen = extra_of(truth, everyone, protocol.subset)
        counted &= np.isfinite(chosen) & (chosen != 0)
    return OksTruth(
        image=np.searchsorted(images, truth.image_id[truth.image_index]),
        category=np.searchsorted(categories, truth.category_id),
        keypoints=exact_points(truth.keypoints),
        labelled=labelled,
        box_xywh=box,
        area=area,
        is_ignored=crowd | ~counted,
        is_crowd=crowd,
    )


def _crowd_index(
    truth: InstanceColumns, images: np.ndarray, protocol: CrowdPoseProtocol
) -> np.ndarray:
    """float64 (M,): crowd index of the images, in the order of their sorted ids."""
    name = protocol.crowd_index
    index = np.full(len(images), np.nan)
    if name in truth.image_extras:
        index[np.searchsorted(images, truth.image_id)] = truth.image_extras[name]
    of_instance = extra_of(truth, np.arange(len(truth)), name)
    index[np.searchsorted(images, truth.image_id[truth.image_index])] = of_instance
    return index


def _positions(known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """int64: place of each value among the sorted known ones, -1 where it is none of them."""
    if not len(known):
        return np.full(len(values), -1)
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[at] == values, at, -1)


def refuse_unknown_images(images: np.ndarray, predictions: Poses) -> None:
    """Raise PredictionError if a prediction is of none of the images (their ids, in any order)."""
    unknown = np.flatnonzero(~np.isin(predictions.image_id, images))
    if unknown.size:
        first = predictions.image_id[unknown[0]]
        raise PredictionError(
            f"{unknown.size} of {len(predictions)} predictions are of images that the annotations "
            f"do not list (the first: image id {id_text(first)}); is it the predictions file of "
            "this split?"
        )


def _by_category(problem: OksProblem, result: OksResult) -> dict[str, dict[str, float]]:
    if len(problem.categories) < 2:
        return {}
    table = {
        id_text(category): numbers(result.of_category(c))
        for c, category in enumerate(problem.categories)
    }
    return {name: row for name, row in table.items() if row["AR"] > -1}


def _scores(
    problem: OksProblem,
    matches: Matches,
    metrics: dict[str, float],
    schema: KeypointSchema,
    protocol: OksProtocol,
) -> Scores:
    counts = {
        "images": len(problem.images),
        "instances": int((~problem.truth.is_ignored).sum()),
        "detections": len(problem.found.score),
    }
    return Scores(
        metrics=metrics,
        headline="AP",
        per_keypoint=_per_keypoint(problem, matches, schema),
        protocol=protocol_dict(protocol, schema),
        counts=counts,
    )


def _per_keypoint(
    problem: OksProblem, matches: Matches, schema: KeypointSchema
) -> dict[str, dict[str, float]]:
    """Mean similarity of each keypoint over the detections matched at OKS 0.5."""
    at = np.flatnonzero(matches.partner[0] >= 0)
    at = at[~problem.truth.is_ignored[matches.partner[0, at]]]
    partner, found = matches.partner[0, at], matches.rows[at]
    offset = problem.found.keypoints[found] - problem.truth.keypoints[partner]
    scale = problem.truth.area[partner] + np.spacing(1)
    squared = (offset**2).sum(axis=-1) / (problem.sigmas * 2) ** 2 / scale[:, None] / 2
    labelled = problem.truth.labelled[partner]
    similarity = np.where(labelled, np.exp(-squared), 0.0).sum(axis=0)
    count = labelled.sum(axis=0)
    mean = np.where(count > 0, similarity / np.maximum(count, 1), np.nan)
    return {
        name: {"similarity": float(mean[k]), "matched": int(count[k])}
        for k, name in enumerate(schema.keypoints)
    }
