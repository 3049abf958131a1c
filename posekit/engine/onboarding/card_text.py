"""Writes a card and a recipe as YAML that is pleasant to read and to edit."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml

from posekit.engine.onboarding.found import Found

_WIDTH = 96


def card_text(
    name: str,
    found: Found,
    keypoints: tuple[str, ...],
    pairs: list[tuple[str, str]],
    links: list[tuple[str, str]],
    form: str,
) -> str:
    """Return a dataset's card as YAML."""
    protocol = "{normalisers: {PCK: box_long_side}, thresholds: [0.1, 0.05, 0.2]}"
    lines = [
        f"# Made by `posekit datasets new` from a {form}. Edit freely; posekit reads no comments.",
        f"title: {_plain(name)}",
        f"subject: {_plain(found.subject or 'unknown')}",
        "source: unknown   # who made it, and where to get it",
        "licence: unknown  # terms of the annotations and of the images",
        f"folder: {_plain(found.root.name)}",
        f"adapter: {found.adapter}",
        "splits:",
    ]
    for split, keys in found.splits.items():
        kept = {key: value for key, value in keys.items() if value}
        lines += [f"  {_plain(split)}:", *_nested(kept, "    ")]
    has_no_box = any("no boxes" in sentence for sentence in found.unsure)
    if has_no_box or found.adapter in {"deeplabcut", "sleap"}:
        lines.append("box: {padding: 1.25, source: keypoints}")
    else:
        lines.append("box: {padding: 1.25}")
    lines += [
        "evaluator: pck  # AP needs published sigmas",
        f"protocol: {protocol}",
        "schema:",
        *_listed("keypoints", [_plain(k) for k in keypoints]),
        "  # what trades places in the mirror; everything else keeps its place",
        *_listed("flip_pairs", [f"[{_plain(a)}, {_plain(b)}]" for a, b in pairs]),
    ]
    if links:
        lines += _listed("skeleton", [f"[{_plain(a)}, {_plain(b)}]" for a, b in links])
    return "\n".join(lines) + "\n"


def recipe_text(name: str, card: Path, found: Found) -> str:
    """Return a recipe that trains on the card, upon the shipped recipe `own_dataset`."""
    held_out = next((split for split in ("val", "test") if split in found.splits), None)
    lines = [
        f"# Trains on {_plain(name)}: posekit train THIS_FILE --plan, then without --plan.",
        "# Upon the recipe own_dataset (posekit info own_dataset); its keys can be set here.",
        "extends: own_dataset",
        "heads:",
        "  own:",
        f"    dataset: {_plain(str(card.absolute()))}",
        f"    root: {_plain(str(found.root))}",
        f"    evaluate: {held_out or 'null'}",
    ]
    return "\n".join(lines) + "\n"


def _nested(keys: dict[str, Any], indent: str) -> list[str]:
    text = yaml.safe_dump(
        keys, sort_keys=False, default_flow_style=None, allow_unicode=True, width=_WIDTH
    )
    return [indent + line for line in text.splitlines()]


def _listed(key: str, entries: list[str]) -> list[str]:
    if not entries:
        return [f"  {key}: []"]
    line = f"  {key}: [{', '.join(entries)}]"
    if len(line) <= _WIDTH:
        return [line]
    joined = " ".join(entry.replace(" ", "\0") + "," for entry in entries)
    rows = [row.replace("\0", " ") for row in wrap(joined, _WIDTH - 4, break_long_words=False)]
    return [f"  {key}: [", *(f"    {row}" for row in rows), "  ]"]


def _plain(text: str) -> str:
    """Return a text as a YAML scalar, quoted where it must be."""
    dumped: str = yaml.safe_dump(text, allow_unicode=True, width=10_000)
    return dumped.removesuffix("...\n").strip()
