"""A model's card: what it is, what it was trained on, and its numbers with their protocol."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posekit.config.cards import DatasetCard, load_dataset_card
from posekit.errors import CheckpointError, ConfigError
from posekit.inference.predictor import model_file
from posekit.models import read_description

_PROTOCOL_KEYS = (
    "dataset", "split", "boxes", "flip_test", "decoder", "normalisers", "thresholds",
    "sigmas_source", "use_area", "nms", "subset", "data_hash",
)  # fmt: skip
_TRAINING_KEYS = (
    "steps", "epochs", "batch_size", "batch_total", "precision", "ema_decay", "init", "seed",
)  # fmt: skip
_MOST_NAMES = 30


def model_card(model: str | Path, *, address: str | None = None, licence: str = "other") -> str:
    """Write the card of a run or a model file as Markdown, with the Hub's header.

    Args:
        model: a run's folder, a model file, or an address.
        address: 'owner/name' on the Hub, for the lines that show how to use it.
        licence: identifier of the weights' licence; 'other' says to look at the datasets' terms.

    Raises:
        CheckpointError: there is no model.
    """
    file = model_file(model)
    about = read_description(file)
    recipe: Mapping[str, Any] = about.get("recipe") or {}
    cards = {name: _dataset(recipe, name) for name in about["model"]["heads"]}
    parts = [
        _header(cards, licence),
        _what(about, recipe, file),
        _use(about, f"hf:{address}" if address else file.name),
        _heads_table(about, recipe, cards),
        _numbers(about, metrics_files(model)),
        _training(recipe, about),
        _limits(cards, licence),
        _keypoints(about),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def metrics_files(model: str | Path) -> dict[str, Path]:
    """Return each evaluated head's metrics.json of a run (or of the run that a file lies in)."""
    path = Path(model)
    run = path if path.is_dir() else path.parent.parent
    files = {file.parent.name: file for file in sorted(run.glob("eval/*/metrics.json"))}
    is_run = path.is_dir() or path.parent.name == "checkpoints"
    return files if is_run else {}


def _header(cards: Mapping[str, DatasetCard | None], licence: str) -> str:
    names = dict.fromkeys(card.name for card in cards.values() if card is not None)
    lines = [
        "---", "library_name: posekit", "pipeline_tag: keypoint-detection", f"license: {licence}",
        "tags:", "- pose-estimation", "- keypoints", *(f"- {name}" for name in names), "---",
    ]  # fmt: skip
    return "\n".join(lines)


def _what(about: Mapping[str, Any], recipe: Mapping[str, Any], file: Path) -> str:
    backbone = {k: v for k, v in about["model"]["backbone"].items() if v is not None}
    name = recipe.get("name") or file.stem
    settings = ", ".join(f"{key} {value}" for key, value in backbone.items() if key != "pretrained")
    count = len(about["model"]["heads"])
    heads = f"{count} heads, one a dataset" if count > 1 else "one head"
    return f"# {name}\n\nA keypoint model: one backbone ({settings}) with {heads}."


def _use(about: Mapping[str, Any], address: str) -> str:
    heads = list(about["model"]["heads"])
    more = ' or "all"' if len(heads) > 1 else ""
    return (
        f'```python\nimport posekit\n\nmodel = posekit.load("{address}")\n'
        f'poses = model.predict("photo.jpg", head="{heads[0]}"){"  # " + ", ".join(heads) + more}\n'
        f"print(poses)\n```\n\n    posekit predict {address} photo.jpg --head {heads[0]}"
    )


def _heads_table(
    about: Mapping[str, Any],
    recipe: Mapping[str, Any],
    cards: Mapping[str, DatasetCard | None],
) -> str:
    lines = [
        "## Heads", "", "| head | dataset | subject | keypoints | crop | the dataset's licence |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, spec in about["model"]["heads"].items():
        card = cards[name]
        told = (recipe.get("heads") or {}).get(name, {}).get("dataset", spec["schema"]["name"])
        title = (card.title or card.name) if card else Path(str(told)).stem
        height, width = spec["input_size"]
        lines.append(
            f"| {name} | {title} | {card.subject if card else '?'} | "
            f"{len(spec['schema']['keypoints'])} | {height} x {width} (h x w) | "
            f"{card.licence if card else 'its card is not at hand'} |"
        )
    return "\n".join(lines)


def _numbers(about: Mapping[str, Any], files: Mapping[str, Path]) -> str:
    lines = ["## Evaluation"]
    stored = about.get("metrics") or {}
    for name in about["model"]["heads"]:
        if name in files:
            lines.append(_measured(name, _read(files[name])))
        elif name in stored:
            values = ", ".join(f"{key} {_number(value)}" for key, value in stored[name].items())
            lines.append(f"**{name}**: {values} (while training; the protocol is in the recipe)")
        else:
            lines.append(f"**{name}**: not evaluated.")
    return "\n\n".join(lines)


def _measured(name: str, data: Mapping[str, Any]) -> str:
    metrics, baseline = data["metrics"], data.get("baseline") or {}
    rows = ["| metric | this model | mean pose |", "|---|---|---|"]
    rows += [
        f"| {key} | {_number(value)} | {_number(baseline.get(key))} |"
        for key, value in metrics.items()
    ]
    protocol = data.get("protocol") or {}
    said = [
        f"{key} {protocol[key]}" for key in _PROTOCOL_KEYS if protocol.get(key) not in (None, "")
    ]
    counts = ", ".join(f"{value} {key}" for key, value in (data.get("counts") or {}).items())
    findings = [f"- {item['name']}: {item['text']}" for item in data.get("findings") or []]
    parts = [f"**{name}** ({counts})", "\n".join(rows), f"Protocol: {'; '.join(said)}."]
    if findings:
        parts.append("What looks wrong:\n\n" + "\n".join(findings))
    return "\n\n".join(parts)


def _training(recipe: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    if not recipe:
        return "## Training\n\nThe file does not tell how it was trained."
    training = recipe.get("training") or {}
    said = [f"{key} {training[key]}" for key in _TRAINING_KEYS if training.get(key) is not None]
    optimiser = (recipe.get("optimizer") or {}).get("name")
    notes = recipe.get("notes") or ""
    text = f"Optimiser {optimiser}; {', '.join(said)}. Saved at step {about.get('step', '?')}."
    whole = "The whole recipe is in the header of the file (`posekit info`)."
    return "\n\n".join(part for part in ("## Training", notes, f"{text} {whole}") if part)


def _limits(cards: Mapping[str, DatasetCard | None], licence: str) -> str:
    subjects = dict.fromkeys(card.subject for card in cards.values() if card is not None)
    seen = ", ".join(subjects) or "what its datasets show"
    terms = (
        " The weights' licence is not stated; the terms of the datasets above may bind them."
        if licence == "other"
        else ""
    )
    return (
        f"## Limits\n\nTrained on pictures of: {seen}. Each head answers for every box that it is "
        "given, whether there is such a subject or not, and gives a place for every keypoint; low "
        f"scores tell what it does not see. Do not use it to identify people.{terms}"
    )


def _keypoints(about: Mapping[str, Any]) -> str:
    lines = ["## Keypoints"]
    for name, spec in about["model"]["heads"].items():
        names = spec["schema"]["keypoints"]
        more = f", and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        lines.append(f"**{name}**: {', '.join(names[:_MOST_NAMES])}{more}")
    return "\n\n".join(lines)


def _dataset(recipe: Mapping[str, Any], head: str) -> DatasetCard | None:
    name = (recipe.get("heads") or {}).get(head, {}).get("dataset")
    try:
        return load_dataset_card(name) if name else None
    except ConfigError:
        return None


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CheckpointError(f"{file}: cannot be read as JSON; evaluate the run again") from None


def _number(value: Any) -> str:
    if not isinstance(value, int | float) or math.isnan(value):
        return "-"
    return f"{value:.4f}"
