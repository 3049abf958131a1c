"""Split, prune, rename, merge and add heads of model files; crop rules and recipe go along."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from posekit.codecs import CODECS
from posekit.config.cards import load_dataset_card, load_head_card
from posekit.config.recipe import recipe_from_dict
from posekit.engine.setup import pinned_part, require_heads
from posekit.errors import ConfigError
from posekit.inference.predictor import model_file
from posekit.models import HeadSpec, PoseModel, load_model, read_description, save_checkpoint
from posekit.models.decoders import DECODERS
from posekit.models.surgery import add_head, drop_heads, merge_models, rename_head, single_head


def split_heads(model: str | Path, folder: str | Path) -> list[Path]:
    """Write each head as a plain model of its own: FOLDER/HEAD.safetensors.

    Experts and adapters are folded in, so each file answers as its head did.
    """
    source = model_file(model)
    net, about = load_model(source), read_description(source)
    written = []
    for name in net.head_names:
        file = Path(folder) / f"{name}.safetensors"
        one = single_head(net, name)
        save_checkpoint(file, one, _described(about, {name: name}, one))
        written.append(file)
    return written


def keep_heads(model: str | Path, names: Sequence[str], out: str | Path) -> Path:
    """Write a model with some of the heads only; experts that none of them needs go too.

    Raises:
        ConfigError: an unknown head, or none is kept.
    """
    source = model_file(model)
    net = load_model(source)
    require_heads(names, net.head_names)
    pruned = drop_heads(net, [name for name in net.head_names if name not in names])
    about = _described(read_description(source), {name: name for name in pruned.head_names}, pruned)
    save_checkpoint(out, pruned, about)
    return Path(out)


def remove_heads(model: str | Path, names: Sequence[str], out: str | Path) -> Path:
    """Write a model without some of its heads; see `keep_heads`."""
    net = load_model(model_file(model))
    require_heads(names, net.head_names)
    return keep_heads(model, [name for name in net.head_names if name not in names], out)


def rename_heads(model: str | Path, names: Mapping[str, str], out: str | Path) -> Path:
    """Write a model in which heads have other names (old -> new)."""
    source = model_file(model)
    net = load_model(source)
    for old, new in names.items():
        net = rename_head(net, old, new)
    about = read_description(source)
    kept = {name: names.get(name, name) for name in about["model"]["heads"]}
    save_checkpoint(out, net, _described(about, kept, net))
    return Path(out)


def merge_files(models: Sequence[str | Path], out: str | Path) -> Path:
    """Write one model with the heads of several that share a backbone.

    The crop rules of all heads go along; the recipes do not, as there are several.

    Raises:
        ConfigError: fewer than two models, a head in two of them, or backbones that differ.
    """
    if len(models) < 2:
        raise ConfigError("merging needs at least two models")
    files = [model_file(model) for model in models]
    net, boxes = load_model(files[0]), dict(read_description(files[0]).get("boxes") or {})
    for file in files[1:]:
        try:
            net = merge_models(net, load_model(file))
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from None
        boxes |= read_description(file).get("boxes") or {}
    save_checkpoint(out, net, {"boxes": boxes})
    return Path(out)


def append_head(
    model: str | Path,
    out: str | Path,
    name: str,
    dataset: str | Path,
    head: str | Path = "classic_udp",
    *,
    input_size: tuple[int, int] | None = None,
    expert_of: str | None = None,
    seed: int = 0,
) -> Path:
    """Write a model with one more, untrained head for a dataset.

    Args:
        model: run folder or model file.
        out: file to write.
        name: the new head's name.
        dataset, head: names or paths of the cards that it is made from.
        input_size: (height, width) of its crops in pixels; the first head's by default.
        expert_of: in a model with experts, the head whose expert it shares; by default it gets a
            copy of the first one.
        seed: of its weights.

    Raises:
        ConfigError: a card is missing or wrong, does not fit the backbone, or the name is taken.
    """
    source = model_file(model)
    net, about = load_model(source), read_description(source)
    card, kind = load_dataset_card(dataset), load_head_card(head)
    size = input_size or net.head(net.head_names[0]).input_size
    decoder, codec = pinned_part(DECODERS, kind, {}), pinned_part(CODECS, kind, {})
    spec = HeadSpec(card.keypoint_schema, decoder, codec, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        more = add_head(net, name, spec, expert_of=expert_of)
    about["boxes"] = {**(about.get("boxes") or {}), name: card.box.model_dump(mode="json")}
    if about.get("recipe"):
        part = {"dataset": str(dataset), "head": str(head), "input_size": list(size)}
        heads = {**about["recipe"]["heads"], name: part}
        about["recipe"] = {**about["recipe"], "heads": heads}
    save_checkpoint(out, more, _described(about, {n: n for n in more.head_names}, more))
    return Path(out)


def _described(
    about: Mapping[str, Any], names: Mapping[str, str], model: PoseModel
) -> dict[str, Any]:
    """Return the description for the heads that are left (old name -> new name)."""
    kept: dict[str, Any] = {}
    if "step" in about:
        kept["step"] = about["step"]
    for key in ("boxes", "metrics"):
        part = {names[old]: value for old, value in (about.get(key) or {}).items() if old in names}
        if part:
            kept[key] = part
    recipe = copy.deepcopy(about.get("recipe"))
    if recipe is not None:
        recipe["heads"] = {names[o]: h for o, h in recipe["heads"].items() if o in names}
        experts = model.backbone_config.get("experts")
        recipe["backbone"] = {**recipe["backbone"], "experts": experts}
        # other parts of the recipe may still name heads that are gone; such a recipe is left out
        with suppress(ConfigError):
            kept["recipe"] = recipe_from_dict(recipe).model_dump(mode="json")
    return kept
