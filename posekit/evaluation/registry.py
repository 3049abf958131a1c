"""The evaluators by the names that dataset cards use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from posekit.config.base import apply_overrides, validate
from posekit.config.cards import DatasetCard
from posekit.data.columns import InstanceColumns
from posekit.errors import ConfigError, nearest
from posekit.evaluation import dlc, joint_ap, nme, oks, pck, pckh
from posekit.evaluation.base import Scores
from posekit.evaluation.protocol import (
    AucEpeProtocol,
    CrowdPoseProtocol,
    DlcProtocol,
    JointApProtocol,
    NmeProtocol,
    OksProtocol,
    PckhProtocol,
    PckProtocol,
    Protocol,
    WholeBodyProtocol,
)
from posekit.poses.table import Poses

_LOWER_IS_BETTER = ("NME", "FR@", "EPE", "RMSE")


@dataclass(frozen=True)
class Evaluator:
    """A family of metrics: its protocol class and its function."""

    name: str
    protocol_class: type[Protocol]
    function: Callable[..., Scores]


EVALUATORS = {
    name: Evaluator(name, protocol_class, function)
    for name, protocol_class, function in (
        ("oks", OksProtocol, oks.evaluate_oks),
        ("crowdpose", CrowdPoseProtocol, oks.evaluate_crowdpose),
        ("wholebody", WholeBodyProtocol, oks.evaluate_wholebody),
        ("joint_ap", JointApProtocol, joint_ap.evaluate_joint_ap),
        ("pck", PckProtocol, pck.evaluate_pck),
        ("pckh", PckhProtocol, pckh.evaluate_pckh),
        ("nme", NmeProtocol, nme.evaluate_nme),
        ("auc_epe", AucEpeProtocol, pck.evaluate_pck),
        ("dlc", DlcProtocol, dlc.evaluate_dlc),
    )
}


def get_evaluator(name: str) -> Evaluator:
    """Return an evaluator by name; ConfigError names the nearest one."""
    if name not in EVALUATORS:
        raise ConfigError(
            f"no evaluator named '{name}'{nearest(name, EVALUATORS)} "
            f"(evaluators: {', '.join(EVALUATORS)})"
        )
    return EVALUATORS[name]


def split_settings(given: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Split `key=value` settings into those of a protocol and those of a recipe.

    A protocol's are KEY=value with a key that some protocol has, or protocol.KEY=value.

    Returns:
        protocol setting -> value, and the other settings as they were given.

    Raises:
        ConfigError: a setting without '='.
    """
    keys = {key for e in EVALUATORS.values() for key in e.protocol_class.model_fields}
    mine: list[str] = []
    others: list[str] = []
    for setting in given:
        key = setting.partition("=")[0].strip().partition(".")[0]
        if key in keys:
            mine.append(f"protocol.{setting.strip()}")
        else:
            (mine if key == "protocol" else others).append(setting)
    return dict(apply_overrides({}, mine).get("protocol", {})), others


def protocol_of(card: DatasetCard, settings: Mapping[str, Any] | None = None) -> Protocol:
    """Return a dataset's protocol: the evaluator's defaults, the card's settings, then `settings`.

    Raises:
        ConfigError: an unknown evaluator or setting; names file, key and the nearest valid key.
    """
    where = str(card.file or f"card '{card.name}'")
    evaluator = get_evaluator(card.evaluator)
    filled = {"padding": card.box.padding, "dataset": card.name}
    merged = {**filled, **card.protocol}
    validate(evaluator.protocol_class, merged, f"{where}, protocol")
    return validate(evaluator.protocol_class, {**merged, **(settings or {})}, "protocol settings")


def evaluate(
    card: DatasetCard,
    truth: InstanceColumns,
    predictions: Poses,
    protocol: Protocol | None = None,
) -> Scores:
    """Score predictions by the official protocol of the card's dataset (or by `protocol`)."""
    evaluator = get_evaluator(card.evaluator)
    chosen = protocol or protocol_of(card)
    if not isinstance(chosen, evaluator.protocol_class):
        raise ConfigError(
            f"evaluator '{evaluator.name}' needs a {evaluator.protocol_class.__name__}, found a "
            f"{type(chosen).__name__}"
        )
    scores = evaluator.function(truth, predictions, card.keypoint_schema, chosen)
    return _with_headline(scores, chosen.headline) if chosen.headline else scores


def _with_headline(scores: Scores, headline: str) -> Scores:
    if headline not in scores.metrics:
        raise ConfigError(
            f"protocol: headline '{headline}' is none of its metrics"
            f"{nearest(headline, scores.metrics)} (metrics: {', '.join(scores.metrics)})"
        )
    return replace(scores, headline=headline, lower_is_better=headline.startswith(_LOWER_IS_BETTER))
