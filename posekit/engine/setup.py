"""From a recipe to the things that a run is made of: cards, indices, model, losses."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from posekit.adapters import ADAPTERS
from posekit.codecs import CODECS
from posekit.config.base import read_yaml
from posekit.config.cards import DatasetCard, HeadCard, load_dataset_card, load_head_card
from posekit.config.plug_ins import Parts
from posekit.config.recipe import HeadRecipe, Recipe
from posekit.data.index import PoseIndex, build_index
from posekit.errors import ConfigError, nearest
from posekit.evaluation.registry import EVALUATORS
from posekit.models import HeadSpec, PoseModel, build_model, load_into
from posekit.models.decoders import DECODERS
from posekit.models.freeze import freeze
from posekit.output import write_json
from posekit.training.losses import LOSSES, PointLoss, build_loss


@dataclass(frozen=True)
class ResolvedHead:
    """One head of a recipe with its cards read.

    Attributes:
        name: the head's name in the recipe.
        recipe: its part of the recipe.
        card: the dataset's card.
        root: the dataset's folder.
        spec: what the head is built from.
        loss: the loss mapping (head card with the recipe's settings on top).
        exclude: images that training leaves out.
    """

    name: str
    recipe: HeadRecipe
    card: DatasetCard
    root: Path
    spec: HeadSpec
    loss: dict[str, object]
    exclude: tuple[str, ...] = ()

    @property
    def code(self) -> dict[str, str]:
        """The parts of the head that are code in files: kind of part -> name with SHA-256."""
        named = {
            "adapter": self.card.adapter,
            "evaluator": self.card.evaluator,
            "decoder": self.spec.decoder["kind"],
            "codec": self.spec.codec["kind"],
            "loss": str(self.loss["kind"]),
        }
        return {part: name for part, name in named.items() if "#" in name}

    def index(self, split: str) -> PoseIndex:
        """Open a split of the head's dataset; see `build_index` for what can go wrong."""
        exclude = self.exclude if split == self.recipe.train else ()
        return build_index(self.card, self.root, split, exclude=exclude)

    def train_index(self) -> PoseIndex:
        """Open the training split; DatasetError if nothing in it can be trained on."""
        index = self.index(self.recipe.train)
        index.require_trainable()
        return index


def read_heads(recipe: Recipe) -> dict[str, ResolvedHead]:
    """Read the cards of all heads of a recipe, in the recipe's order.

    Raises:
        ConfigError: a card is missing or wrong, or has no such split.
    """
    return {name: _read_head(recipe, name) for name in recipe.heads}


def require_heads(names: Iterable[str], heads: Collection[str]) -> None:
    """Raise ConfigError, with the nearest name, if one of the names is not a head's."""
    for name in names:
        if name not in heads:
            raise ConfigError(
                f"no head named '{name}'{nearest(name, heads)} (heads: {', '.join(heads)})"
            )


def pinned_part(parts: Parts[Any], kind: HeadCard, own: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a recipe's own settings upon one part of a head card and pin code that they name.

    A file.py lies beside the head card; if the recipe names it, in the working directory.

    Raises:
        ConfigError: as `Parts.pin`.
    """
    beside = kind.file.parent if kind.file and "kind" not in own else Path()
    where = "the recipe" if "kind" in own else str(kind.file)
    return parts.pin_kind({**getattr(kind, parts.word), **own}, where, beside)


def keep_code(folder: Path, heads: Mapping[str, ResolvedHead], *, begins: bool = False) -> None:
    """Hold the code in files that a run's cards name to what it was when the run began.

    RUN/code.json lists it; it is written if the run `begins`.

    Raises:
        ConfigError: a file or its place differs from what was recorded.
    """
    file = folder / "code.json"
    code = {name: head.code for name, head in heads.items() if head.code}
    if begins and code:
        write_json(file, code, error=ConfigError)
    recorded = read_yaml(file) if file.is_file() and not begins else {}
    for name, parts in code.items():
        before = recorded.get(name) or {}
        for part, now in parts.items():
            if recorded and before.get(part) != now:
                raise ConfigError(
                    f"{file}: the {part} of head '{name}' was {before.get(part)} when the run "
                    f"began and is {now} now; put the recorded file there, or begin another run"
                )


def build_run_model(recipe: Recipe, heads: dict[str, ResolvedHead]) -> PoseModel:
    """Build the recipe's model; the same recipe and seed give the same weights.

    Raises:
        ConfigError: parts do not fit together.
        CheckpointError: `training.init` cannot be loaded or does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        model = build_model(
            recipe.backbone,
            {name: head.spec for name, head in heads.items()},
            recipe.posebh.space if recipe.posebh else None,
        )
    if recipe.training.init:
        load_into(model, recipe.training.init)
    freeze(model, recipe.freeze)
    return model


def build_losses(model: PoseModel, heads: dict[str, ResolvedHead]) -> dict[str, PointLoss]:
    """Return each head's per-point loss; ConfigError names the head whose loss does not fit.

    Parameters of a loss start as its head's name says, whatever else is built.
    """
    losses = {}
    for name, head in heads.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(name.encode()))
            where = f"head '{name}', loss"
            losses[name] = build_loss(dict(head.loss), model.head(name).codec, where)
    return losses


def _read_head(recipe: Recipe, name: str) -> ResolvedHead:
    part = recipe.heads[name]
    try:
        card = load_dataset_card(part.dataset)
        kind = load_head_card(part.head)
        card = card.model_copy(
            update={
                parts.word: parts.pin(getattr(card, parts.word), card.where, card.beside)
                for parts in (ADAPTERS, EVALUATORS)
            }
        )
        decoder = pinned_part(DECODERS, kind, part.decoder)
        codec = pinned_part(CODECS, kind, part.codec)
        loss = pinned_part(LOSSES, kind, part.loss)
        card.split(part.train)
        if part.evaluate:
            card.split(part.evaluate)
    except ConfigError as error:
        raise ConfigError(f"head '{name}': {error}") from None
    spec = HeadSpec(
        schema=card.keypoint_schema,
        decoder=decoder,
        codec=codec,
        input_size=part.input_size,
        pixels=recipe.data.pixels,
    )
    return ResolvedHead(
        name=name,
        recipe=part,
        card=card,
        root=recipe.head_root(name, card.folder),
        spec=spec,
        loss=loss,
        exclude=_read_exclusions(name, part.exclude),
    )


def _read_exclusions(head: str, file: str | None) -> tuple[str, ...]:
    if file is None:
        return ()
    path = Path(file).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"heads.{head}.exclude: {path}: cannot be read ({reason})") from None
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
