"""Explain why a score is 0, -1, NaN or too good: each known fault by name, with evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from posekit.adapters.fields import id_text
from posekit.data.columns import InstanceColumns
from posekit.diagnosis.findings import Finding, warning
from posekit.diagnosis.geometry import geometry_findings
from posekit.diagnosis.pairs import Pairs, pair
from posekit.evaluation.base import Scores, evaluated_rows
from posekit.evaluation.oks_engine import AREA_RANGES
from posekit.evaluation.oks_nms import instance_scores
from posekit.evaluation.protocol import OksProtocol, Protocol
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema

_MANY = 0.5
_SOME = 0.05
_ENOUGH = 10
_SAME = 1e-9
_A_FEW = 2
_SHOWN = 6


@dataclass(frozen=True)
class Case:
    """What a diagnosis looks at."""

    truth: InstanceColumns
    predictions: Poses
    schema: KeypointSchema
    protocol: Protocol
    pairs: Pairs


@dataclass(frozen=True)
class Diagnosis:
    """What was found; empty if nothing looks wrong."""

    findings: tuple[Finding, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the faults."""
        return tuple(finding.name for finding in self.findings)

    def text(self) -> str:
        """One paragraph a finding, or a sentence that there is none."""
        if not self.findings:
            return "Nothing looks wrong."
        return "\n".join(f"{f.name}: {f.text}" for f in self.findings)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the findings for JSON; `is_fatal` means that the rest was not looked at."""
        return [
            {"name": f.name, "text": f.text, "is_fatal": f.severity == "error"}
            for f in self.findings
        ]


def diagnose(
    truth: InstanceColumns,
    predictions: Poses,
    schema: KeypointSchema,
    protocol: Protocol,
    scores: Scores | None = None,
) -> Diagnosis:
    """Look for known faults in predictions, annotations and protocol.

    Never raises for faulty data. Faults that make others certain are reported alone. Where the
    scores are given, numbers that are -1 or NaN for lack of people are explained too.
    """
    by_id = not isinstance(protocol, OksProtocol)
    pairs = pair(truth, predictions, trust_ids=by_id)
    case = Case(truth, predictions, schema, protocol, pairs)
    for stage in (_STRUCTURE, _SETTINGS):
        found = [finding for check in stage for finding in check(case)]
        if any(finding.severity == "error" for finding in found):
            return Diagnosis(tuple(found))
    found += [finding for check in _REST for finding in check(case)]
    misplaced = geometry_findings(case.pairs, schema)
    found += misplaced or list(_upside_down(case))
    if scores is not None:
        found += [*_empty_ranges(case, scores), *_empty_buckets(scores)]
    return Diagnosis(tuple(found))


def _nothing_labelled(case: Case) -> Iterator[Finding]:
    if not len(evaluated_rows(case.truth)):
        yield Finding(
            "nothing_labelled",
            "error",
            f"none of the {len(case.truth)} annotations has a labelled keypoint that counts; is "
            "this a test split without public annotations, or the wrong visibility codes?",
        )


def _no_predictions(case: Case) -> Iterator[Finding]:
    if not len(case.predictions):
        yield Finding(
            "no_predictions",
            "error",
            "there is not a single prediction",
        )


def _keypoint_count(case: Case) -> Iterator[Finding]:
    found, expected = case.predictions.keypoints.shape[1], len(case.schema)
    if found != expected:
        yield Finding(
            "wrong_keypoint_count",
            "error",
            f"predictions have {found} keypoints, schema '{case.schema.name}' has {expected}: they "
            "are of another head or dataset",
        )


def _not_finite(case: Case) -> Iterator[Finding]:
    p = case.predictions
    bad = ~np.isfinite(p.keypoints).all(axis=(1, 2)) | ~np.isfinite(p.scores).all(axis=1)
    bad |= ~np.isfinite(p.box_scores)
    if bad.any():
        yield Finding(
            "nan_predictions",
            "error" if bad.mean() > _MANY else "warning",
            f"{bad.sum()} of {len(bad)} predictions hold NaN or infinity (the first: instance "
            f"{id_text(p.instance_id[np.flatnonzero(bad)[0]])}); did training diverge?",
        )


def _images(case: Case) -> Iterator[Finding]:
    p, truth = case.predictions, case.truth
    known = np.isin(p.image_id.astype("S"), np.asarray(truth.image_id).astype("S"))
    if not known.any():
        yield Finding(
            "no_common_images",
            "error",
            f"not one of the {len(np.unique(p.image_id))} predicted image ids is in the "
            f"annotations (predictions: {id_text(p.image_id[0])}, annotations: "
            f"{id_text(truth.image_id[0])}): it is the predictions file of another split or set",
        )
        return
    if not known.all():
        yield warning(
            "unknown_images",
            f"{(~known).sum()} of {len(known)} predictions are of images that the annotations do "
            "not list; they belong to another split",
        )
    rows = evaluated_rows(truth)
    needed = np.unique(np.asarray(truth.image_id)[np.asarray(truth.image_index)[rows]])
    covered = np.isin(needed.astype("S"), p.image_id.astype("S")).mean()
    if covered < 1 - _SOME:
        yield warning(
            "missing_images",
            f"only {covered:.0%} of the {len(needed)} images with labelled instances have a "
            "prediction; the others count as missed",
        )


def _categories(case: Case) -> Iterator[Finding]:
    known = np.isin(case.predictions.category_id, case.truth.category_id)
    if known.mean() < 1 - _SOME:
        yield Finding(
            "wrong_category",
            "error" if not known.any() else "warning",
            f"{(~known).sum()} of {len(known)} predictions are of categories that the annotations "
            f"lack (predicted {np.unique(case.predictions.category_id)[:5].tolist()}, annotated "
            f"{np.unique(case.truth.category_id)[:5].tolist()}); OKS scoring drops them",
        )
    elif case.pairs.by == "instance id" and len(case.pairs):
        own = np.asarray(case.truth.category_id)[case.pairs.truth_rows]
        differs = case.predictions.category_id[case.pairs.rows] != own
        if differs.mean() > _SOME:
            yield warning(
                "wrong_category",
                f"{differs.sum()} of {len(differs)} predictions have another category than the "
                "instance whose box they were made in; a result must carry its instance's category",
            )


def _sigmas(case: Case) -> Iterator[Finding]:
    if not isinstance(case.protocol, OksProtocol):
        return
    sigmas = case.protocol.sigmas if case.protocol.sigmas is not None else case.schema.sigmas
    if sigmas is None and not case.protocol.needs_sigmas:
        return
    if sigmas is None:
        yield Finding(
            "no_sigmas",
            "error",
            f"schema '{case.schema.name}' has no OKS sigmas, so there is no AP; PCK needs none",
        )
    elif len(sigmas) != len(case.schema):
        yield Finding(
            "wrong_number_of_sigmas",
            "error",
            f"{len(sigmas)} sigmas for {len(case.schema)} keypoints; they are of another schema",
        )
    elif np.median(sigmas) > 0.3:
        yield warning(
            "sigmas_too_large",
            f"the median sigma is {np.median(sigmas):.3g}, usual are 0.01 to 0.11: were COCO's "
            "values (0.26, 0.25, ...) not divided by ten? AP comes out too good",
        )


def _areas(case: Case) -> Iterator[Finding]:
    if not isinstance(case.protocol, OksProtocol) or not case.protocol.use_area:
        return
    area = np.asarray(case.truth.area)[evaluated_rows(case.truth)]
    bad = ~(area > 0)
    if bad.mean() > _SOME:
        kind = "no area" if np.isnan(area[bad]).all() else "an area of 0"
        yield warning(
            "zero_area",
            f"{bad.sum()} of {len(area)} labelled annotations have {kind}; OKS divides by it and "
            "no detection can match. Set use_area: false (0.53 x box area)",
        )


def _ids(case: Case) -> Iterator[Finding]:
    p = case.predictions
    keys = list(zip(p.image_id.tolist(), p.instance_id.tolist(), strict=True))
    repeats = len(keys) - len(set(keys))
    lost = repeats / len(keys)
    if lost > _SOME and repeats > _A_FEW:
        yield warning(
            "colliding_ids",
            f"{lost:.0%} of the predictions repeat an instance id of their image and are dropped "
            "as repeats; give every instance its own id",
        )


def _scores(case: Case) -> Iterator[Finding]:
    p = case.predictions
    if not isinstance(case.protocol, OksProtocol):
        return
    none = ~(p.scores > 0).any(axis=1)
    if none.mean() > _SOME:
        yield warning(
            "zero_scores",
            f"{none.sum()} of {len(p)} predictions have no keypoint score above 0 and are dropped; "
            "are heatmaps all negative, or scores logits?",
        )
        return
    score = instance_scores(p, case.protocol)
    if len(p) >= _ENOUGH and np.ptp(score) <= _SAME:
        yield warning(
            "constant_scores",
            f"all {len(p)} predictions have the same score, {score[0]:.3g}: AP ranks them by "
            "chance. Check the keypoint scores, the box scores and keypoint_score_threshold "
            f"({case.protocol.keypoint_score_threshold:g})",
        )


def _upside_down(case: Case) -> Iterator[Finding]:
    pairs = case.pairs
    if len(pairs) < 3 * _ENOUGH or not isinstance(case.protocol, OksProtocol):
        return
    score = instance_scores(case.predictions, case.protocol)
    if np.ptp(score) <= _SAME:
        return
    error = np.nanmean(pairs.errors(), axis=1)
    order = np.argsort(np.argsort(error)), np.argsort(np.argsort(score[pairs.rows]))
    rank_correlation = np.corrcoef(*order)[0, 1]
    if rank_correlation > 0.4:
        yield warning(
            "scores_upside_down",
            f"higher scores go with larger errors (rank correlation {rank_correlation:.2f}); is "
            "the score a distance or an uncertainty?",
        )


def _empty_ranges(case: Case, scores: Scores) -> Iterator[Finding]:
    for label, name in {"AP (M)": "medium", "AP (L)": "large"}.items():
        if scores.metrics.get(label) == -1:
            low, high = (f"{np.sqrt(v):g}" for v in AREA_RANGES[name])
            yield warning(
                "empty_area_range",
                f"{label} is -1 because no labelled instance has an area of {low}^2 to {high}^2 "
                "pixels; it is no score",
            )


def _empty_buckets(scores: Scores) -> Iterator[Finding]:
    """Parts, subsets, columns and crowd classes that nothing labelled falls into."""
    empty = [
        name
        for name, value in scores.metrics.items()
        if (value == -1 or np.isnan(value)) and not name.endswith(("(M)", "(L)"))
    ]
    if empty:
        shown = ", ".join(empty[:_SHOWN]) + (" ..." if len(empty) > _SHOWN else "")
        yield warning(
            "empty_bucket",
            f"{len(empty)} of {len(scores.metrics)} numbers are -1 or not a number ({shown}): "
            "nothing labelled falls into their part, subset or class; they are no scores",
        )


Check = Callable[[Case], Iterator[Finding]]
_STRUCTURE: tuple[Check, ...] = (_nothing_labelled, _no_predictions)
_SETTINGS: tuple[Check, ...] = (_keypoint_count, _not_finite, _images, _categories, _sigmas)
_REST: tuple[Check, ...] = (_areas, _ids, _scores)
