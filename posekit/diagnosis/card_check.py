"""What is wrong with a card that cannot be loaded, said as findings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posekit.config.cards import find, load_dataset_card, read_with_extends
from posekit.diagnosis.findings import Finding
from posekit.diagnosis.sides import involution_problems
from posekit.errors import ConfigError


def card_findings(name: str | Path) -> tuple[Finding, ...]:
    """Name what keeps a card from being loaded; none if it loads.

    Flip pairs that are no involution are told apart from all other faults, with every pair at
    fault and not only the first.

    Raises:
        ConfigError: there is no such card, or it is no YAML mapping.
    """
    file = find("datasets", name)
    data = read_with_extends("datasets", file)
    try:
        load_dataset_card(name)
    except ConfigError as error:
        problems = _pair_problems(data.get("schema"))
        if problems:
            return (
                Finding(
                    "flip_pairs_no_involution",
                    "error",
                    f"{file}: the flip pairs are no involution: {'; '.join(problems)}",
                    "give each keypoint exactly one partner, or none if it is on the midline",
                    len(problems),
                ),
            )
        return (Finding("card_unusable", "error", str(error), "correct the card"),)
    return ()


def _pair_problems(schema: Any) -> list[str]:
    if not isinstance(schema, dict):
        return []
    keypoints, pairs = schema.get("keypoints"), schema.get("flip_pairs")
    if not isinstance(keypoints, list) or not isinstance(pairs, list):
        return []
    if not all(isinstance(pair, list | tuple) for pair in pairs):
        return []
    return involution_problems(
        [str(name) for name in keypoints], [[str(name) for name in pair] for pair in pairs]
    )
