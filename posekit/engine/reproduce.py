"""Reproduce a published number: is everything in place, and does the result agree?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from posekit.config.cards import DatasetCard, SplitCard, load_dataset_card
from posekit.config.plug_ins import takes_allow_code
from posekit.config.published import Published
from posekit.config.recipe import Recipe, load_recipe
from posekit.data.index import build_index
from posekit.engine.other_datasets import load_any
from posekit.engine.setup import ResolvedHead, read_heads
from posekit.errors import ConfigError
from posekit.evaluation.base import Scores
from posekit.evaluation.compare import read_scores
from posekit.evaluation.protocol import Protocol
from posekit.evaluation.registry import protocol_of
from posekit.evaluation.runner import evaluate_model
from posekit.models import PoseModel

Verdict = Literal["reproduced", "above", "below", "not judged"]
_FILLED_IN = {
    *("decoder", "dataset", "split", "head", "data_hash", "posekit_version"),
    *("shift_flipped", "padding", "headline", "engine", "sigmas", "sigmas_source"),
}
"""Protocol keys that a run fills in or that do not change a number."""


@dataclass(frozen=True)
class Needed:
    """A file or folder that a recipe needs.

    Attributes:
        path: where it must lie.
        what: what it is.
        source: where to get it.
        entry: the published entry that cannot be compared without it; '' for training.
        is_judged: False if that entry is not judged anyway.
    """

    path: Path
    what: str
    source: str
    entry: str = ""
    is_judged: bool = True

    @property
    def is_there(self) -> bool:
        """A file of some length, or a folder with something in it."""
        if self.path.is_dir():
            return next(self.path.iterdir(), None) is not None
        return self.path.is_file() and self.path.stat().st_size > 0


@dataclass(frozen=True)
class Row:
    """One published number and ours.

    Attributes:
        entry: name of the recipe's entry; head, dataset, split, metric: what was measured.
        published, found: the two values, in the evaluator's unit.
        verdict: 'reproduced' (within the tolerance), 'above', 'below', or 'not judged'.
        source: the table of the published number.
        doubt: why the number cannot be expected, if so.
        taken_from: 'run' if the run's own evaluation was used, 'model' if it was computed again.
    """

    entry: str
    head: str
    dataset: str
    split: str
    metric: str
    published: float
    found: float
    verdict: Verdict
    source: str
    doubt: str
    taken_from: Literal["run", "model"]


@dataclass(frozen=True)
class Reproduction:
    """What `reproduce` found.

    Attributes:
        recipe: its name.
        needed: number of files and folders that were looked for; missing: those not there.
        rows: the comparison; none without a run or model, and none of entries that lack files.
    """

    recipe: str
    needed: int
    missing: tuple[Needed, ...]
    rows: tuple[Row, ...] = ()

    @property
    def is_good(self) -> bool:
        """Nothing that is judged lacks a file or is below what was published."""
        has_all = not any(file.is_judged for file in self.missing)
        return has_all and all(row.verdict != "below" for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        missing = [{**dataclasses.asdict(m), "path": str(m.path)} for m in self.missing]
        rows = [dataclasses.asdict(row) for row in self.rows]
        return {"recipe": self.recipe, "needed": self.needed, "missing": missing, "rows": rows}


@takes_allow_code
def reproduce(
    recipe: Recipe | str | Path,
    model: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    allow_code: bool = False,
) -> Reproduction:
    """Check that a recipe's files are in place and compare a result with the published numbers.

    Args:
        recipe: a Recipe, or the path or name of one; it must have `published` numbers.
        model: run folder or model file. Numbers that the run has by the same protocol are taken as
            they are, the others are measured. Without it only the files are checked, those of
            training included.
        overrides: `key.path=value` settings laid upon a recipe given by path or name.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Raises:
        ConfigError: the recipe publishes nothing, or a setting is wrong.
        DatasetError, CheckpointError, PredictionError: as the parts do.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    if not recipe.published:
        raise ConfigError(
            f"recipe '{recipe.name}' has no published numbers to reproduce; give it a mapping "
            "'published', or take one that has (its name starts with vitpose or posebh)"
        )
    heads = read_heads(recipe)
    needed = list(needed_files(recipe, heads, training=model is None))
    missing = tuple(file for file in needed if not file.is_there)
    if model is None:
        return Reproduction(recipe.name, len(needed), missing)
    comparer = _Comparer(recipe, heads, Path(model))
    lacking = {file.entry for file in missing}
    rows = [row for name in recipe.published if name not in lacking for row in comparer.rows(name)]
    return Reproduction(recipe.name, len(needed), missing, tuple(rows))


def needed_files(
    recipe: Recipe, heads: Mapping[str, ResolvedHead], *, training: bool = True
) -> Iterator[Needed]:
    """Return every file and folder that training and each published entry need.

    Args:
        training: False leaves out what only training needs.
    """
    seen: set[tuple[Path, str]] = set()
    for file in _all_files(recipe, heads, training):
        if (file.path, file.entry) not in seen:
            seen.add((file.path, file.entry))
            yield file


def _all_files(
    recipe: Recipe, heads: Mapping[str, ResolvedHead], training: bool
) -> Iterator[Needed]:
    if training:
        for source in recipe.sources.values():
            yield Needed(Path(source.file).expanduser(), "weights to start from", source.where)
        for head in heads.values():
            yield from _split_files(head.card, head.root, head.card.split(head.recipe.train))
    for name in recipe.published:
        entry = _Entry.of(recipe, heads, name)
        is_judged = not entry.published.doubt
        for file in _entry_files(entry):
            yield dataclasses.replace(file, entry=name, is_judged=is_judged)


def _entry_files(entry: _Entry) -> Iterator[Needed]:
    split = entry.card.split(entry.split)
    yield from _split_files(entry.card, entry.root, split)
    if entry.protocol.boxes == "detections":
        where = split.detections_source or entry.card.source
        yield Needed(entry.root / split.detections, f"detector's boxes of '{split.name}'", where)
    elif entry.protocol.boxes != "annotation":
        yield Needed(Path(entry.protocol.boxes).expanduser(), "detector's boxes", "your own file")


def _split_files(card: DatasetCard, root: Path, split: SplitCard) -> Iterator[Needed]:
    title = card.title or card.name
    yield Needed(root / split.annotations, f"annotations of {title} '{split.name}'", card.source)
    for value in split.options.values():
        if isinstance(value, str) and Path(value).suffix:
            yield Needed(root / value, f"ground truth of {title} '{split.name}'", card.source)
    if split.images:
        yield Needed(root / split.images, f"images of {title} '{split.name}'", card.source)


@dataclass(frozen=True)
class _Entry:
    """A published entry with everything that it leaves out filled in."""

    name: str
    published: Published
    head: str
    card: DatasetCard
    root: Path
    split: str
    protocol: Protocol

    @classmethod
    def of(cls, recipe: Recipe, heads: Mapping[str, ResolvedHead], name: str) -> _Entry:
        published = recipe.published[name]
        head = heads[published.head or name]
        settings = dict(recipe.evaluation.protocol)
        if published.dataset:
            card = load_dataset_card(published.dataset)
            root = Path(recipe.data_root).expanduser() / card.folder
        else:
            card, root = head.card, head.root
            settings |= head.recipe.protocol
        split = published.split or ("" if published.dataset else head.recipe.evaluate or "")
        if not split:
            raise ConfigError(f"published.{name}: say which split of '{card.name}' it is for")
        card.split(split)
        protocol = protocol_of(card, {**settings, **published.protocol})
        return cls(name, published, head.name, card, root, split, protocol)


class _Comparer:
    """Compares one run or model with the published entries of its recipe."""

    def __init__(self, recipe: Recipe, heads: Mapping[str, ResolvedHead], path: Path):
        self.recipe, self.heads, self.path = recipe, heads, path
        self._model: PoseModel | None = None
        self._measured: dict[tuple[Any, ...], Scores] = {}
        has_scores = path.is_dir() and any(path.glob("eval/*/metrics.json"))
        self._of_run = read_scores(path) if has_scores else {}

    def rows(self, name: str) -> Iterator[Row]:
        """Return a row for each metric of an entry."""
        entry = _Entry.of(self.recipe, self.heads, name)
        scores, taken_from = self._scores(entry)
        for metric, value in entry.published.metrics.items():
            if metric not in scores.metrics:
                raise ConfigError(
                    f"published.{name}: '{metric}' is no metric of '{entry.card.name}' "
                    f"(metrics: {', '.join(scores.metrics)})"
                )
            found = scores.metrics[metric]
            yield Row(
                name,
                entry.head,
                entry.card.name,
                entry.split,
                metric,
                value,
                found,
                _verdict(entry.published, value, found),
                entry.published.source,
                entry.published.doubt,
                taken_from,
            )

    def _scores(self, entry: _Entry) -> tuple[Scores, Literal["run", "model"]]:
        own = self._of_run.get(entry.head)
        if own is not None and _made_by(own.protocol, entry):
            return own, "run"
        key = (entry.head, entry.card.name, entry.split, entry.protocol.model_dump_json())
        if key not in self._measured:
            if self._model is None:
                self._model = load_any(self.path)
            index = build_index(entry.card, entry.root, entry.split)
            size = self.recipe.evaluation.batch_size
            self._measured[key] = evaluate_model(
                self._model, entry.head, index, protocol=entry.protocol, batch_size=size
            )[0]
        return self._measured[key], "model"


def _made_by(protocol: Mapping[str, Any], entry: _Entry) -> bool:
    """Return whether a run's scores were made on the entry's split by its protocol."""
    if (protocol.get("dataset"), protocol.get("split")) != (entry.card.name, entry.split):
        return False
    wanted = entry.protocol.model_dump(mode="json")
    return all(protocol.get(key) == value for key, value in wanted.items() if key not in _FILLED_IN)


def _verdict(published: Published, value: float, found: float) -> Verdict:
    if published.doubt:
        return "not judged"
    if abs(found - value) <= published.tolerance * abs(value):
        return "reproduced"
    return "above" if found > value else "below"
