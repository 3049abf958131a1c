"""Finds and validates cards: the datasets and the kinds of head that posekit knows.

A name is looked up in the user's own folders first (`POSEKIT_CARDS`, several separated by the
system's path separator), then among the cards that ship. A path to a YAML file always works.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from posekit.config.base import Strict, merge, read_yaml, validate
from posekit.errors import ConfigError, nearest
from posekit.schema import KeypointSchema

Kind = Literal["datasets", "heads", "recipes"]


class SplitCard(Strict):
    """The files of one split of a dataset, relative to the dataset's root.

    Attributes:
        annotations: the annotation file (or folder, for formats with a file an image).
        images: folder that image names in the annotation file are relative to.
        detections: detector boxes of this split as a COCO result file, if the protocol uses them.
        detections_source: where to get that file.
        options: what the adapter needs to know besides; the adapter checks the keys.
    """

    name: str = ""
    annotations: str = ""
    images: str = ""
    detections: str = ""
    detections_source: str = ""
    options: dict[str, Any] = Field(default_factory=dict)


class BoxCard(Strict):
    """How the crop around an instance is made.

    Attributes:
        padding: the box is enlarged by this factor before cropping.
        source: 'annotation' (missing boxes fall back to keypoints) or 'keypoints' (extent of the
            labelled keypoints, always).
        keep_aspect: enlarge the short side to the input's aspect; False stretches the box onto
            the input, as ViTPose does with MPII's square boxes.
        clip: what is done to annotated boxes in images of declared size. 'vitpose': corners are
            clipped to the image and the box becomes one pixel smaller than annotated (the
            0.x code that the published numbers come from); 'image': clipped only (mmpose 1.x);
            'none': taken as they are. Boxes of detectors, boxes made from keypoints and centres
            that the annotation brings are never changed.
    """

    padding: float = Field(1.25, gt=0)
    source: Literal["annotation", "keypoints"] = "annotation"
    keep_aspect: bool = True
    clip: Literal["vitpose", "image", "none"] = "vitpose"


class DatasetCard(Strict):
    """One dataset: schema, files of each split, adapter, evaluator, source, licence.

    Attributes:
        name: the card's name.
        title: the dataset's name as people write it.
        source: paper and home page.
        licence: terms as the source states them.
        subject: what an instance is: person, animal, face, hand, ...
        folder: the dataset's usual folder below a data root; the name if left out.
        keypoint_schema: the schema (key `schema` in the file).
        adapter: built-in name, an entry point, or code that runs only if the user allows it:
            `file.py:function` beside the card, `package.module:function`.
        splits: split name -> files.
        box: how crops are made.
        evaluator: name of the evaluator, found as the adapter is.
        protocol: the evaluator's settings that differ from its defaults.
        notes: what a user should know.
        file: the card's own file, for messages and for adapters beside it.
    """

    name: str
    title: str = ""
    source: str
    licence: str
    subject: str
    folder: str = ""
    keypoint_schema: KeypointSchema
    adapter: str
    splits: dict[str, SplitCard]
    box: BoxCard = BoxCard()
    evaluator: str
    protocol: dict[str, Any] = Field(default_factory=dict)
    notes: str = ""
    file: Path | None = None

    @field_validator("splits")
    @classmethod
    def _name_splits(cls, splits: dict[str, SplitCard]) -> dict[str, SplitCard]:
        if not splits:
            raise ValueError("a dataset needs at least one split")
        return {name: split.model_copy(update={"name": name}) for name, split in splits.items()}

    @property
    def where(self) -> str:
        """What messages call the card: its file, or its name where there is none."""
        return str(self.file) if self.file else f"dataset '{self.name}'"

    @property
    def beside(self) -> Path:
        """The folder that code in a `file.py` beside the card is looked for in."""
        return self.file.parent if self.file else Path()

    def split(self, name: str) -> SplitCard:
        """Return a split's files by name; ConfigError lists the splits that there are."""
        if name not in self.splits:
            raise ConfigError(
                f"dataset '{self.name}' has no split '{name}'{nearest(name, self.splits)} "
                f"(splits: {', '.join(self.splits)})"
            )
        return self.splits[name]


class HeadCard(Strict):
    """One kind of head: decoder, codec, loss; each a mapping with `kind` and its settings."""

    name: str
    title: str = ""
    decoder: dict[str, Any]
    codec: dict[str, Any]
    loss: dict[str, Any] = Field(default_factory=lambda: {"kind": "mse"})
    file: Path | None = None

    @field_validator("decoder", "codec", "loss")
    @classmethod
    def _has_kind(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "kind" not in value:
            raise ValueError("expected a mapping with the key 'kind'")
        return value


def card_folders(kind: Kind) -> list[Path]:
    """Return the folders searched for `kind`, the user's own first."""
    own = os.environ.get("POSEKIT_CARDS", "")
    folders = [Path(entry).expanduser() / kind for entry in own.split(os.pathsep) if entry]
    return [*folders, _shipped(kind)]


def available(kind: Kind) -> dict[str, Path]:
    """Return name -> file of every card or recipe that can be named, sorted by name."""
    found: dict[str, Path] = {}
    for folder in reversed(card_folders(kind)):
        found.update({file.stem: file for file in folder.glob("*.yaml")})
    return dict(sorted(found.items()))


def find(kind: Kind, name: str | Path, passing_over: tuple[Path, ...] = ()) -> Path:
    """Return the file of a card or recipe named by path or by name.

    Args:
        kind: which sort of card.
        name: a name, or a path that ends in .yaml or .yml.
        passing_over: resolved files that a name may not mean, so that a user's own `coco.yaml`
            can extend the `coco` that ships.

    Raises:
        ConfigError: no such file or name; tells the nearest name and where it looked.
    """
    path = Path(name).expanduser()
    names = available(kind)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        if path.stem in names and path.parent.name in {kind, ""}:
            return names[path.stem]
        raise ConfigError(f"{path}: there is no such file{nearest(path.stem, names)}")
    folders = card_folders(kind)
    for folder in folders:
        file = folder / f"{name}.yaml"
        if file.is_file() and file.resolve() not in passing_over:
            return file
    looked = ", ".join(str(folder) for folder in folders)
    raise ConfigError(
        f"no {kind.rstrip('s')} named '{name}'{nearest(str(name), names)} (looked in {looked})"
    )


def read_with_extends(kind: Kind, file: Path, _seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a YAML file and lay it upon the one that it `extends`, if any.

    Raises:
        ConfigError: a file cannot be read, or the files extend one another in a circle.
    """
    if file.resolve() in _seen:
        raise ConfigError(f"{file}: 'extends' leads back to this file")
    data = read_yaml(file)
    parent = data.pop("extends", None)
    if parent is None:
        return data
    seen = (*_seen, file.resolve())
    beside = file.parent / str(parent)
    parent_file = beside if beside.is_file() else _find_parent(kind, parent, file, seen)
    base = read_with_extends(kind, parent_file, seen)
    return merge(base, data)


def load_dataset_card(name: str | Path) -> DatasetCard:
    """Load a dataset's card by name or path; ConfigError says what is wrong with it."""
    file = find("datasets", name)
    data = read_with_extends("datasets", file)
    return dataset_card_from_dict(data, str(file), file)


def dataset_card_from_dict(
    data: dict[str, Any], where: str, file: Path | None = None
) -> DatasetCard:
    """Build a card from its mapping (key `schema` holds the schema); ConfigError names `where`."""
    data = dict(data)
    data.setdefault("name", file.stem if file else "")
    for key in sorted({"file", "keypoint_schema"} & set(data)):
        raise ConfigError(f"{where}: unknown key '{key}'; did you mean 'schema'?")
    data["keypoint_schema"] = _read_schema(data, where)
    del data["schema"]
    data.setdefault("folder", data["name"])
    return validate(DatasetCard, {**data, "file": file}, where)


def load_head_card(name: str | Path) -> HeadCard:
    """Load a head kind's card by name or path; ConfigError says what is wrong with it."""
    file = find("heads", name)
    data = read_with_extends("heads", file)
    return validate(HeadCard, {"name": file.stem, **data, "file": file}, str(file))


class _SchemaKeys(Strict):
    """The keys of `schema` in a dataset's card, as `KeypointSchema` explains them."""

    name: str | None = None
    keypoints: list[str]
    flip_pairs: list[tuple[str, str]] | None = None
    skeleton: list[tuple[str, str]] = Field(default_factory=list)
    sigmas: list[float] | None = None
    sigmas_source: str | None = None
    upper_body: list[str] = Field(default_factory=list)
    meanings: dict[str, str] = Field(default_factory=dict)


class _SchemaFile(Strict):
    keys: _SchemaKeys = Field(alias="schema")


def _read_schema(card: dict[str, Any], where: str) -> KeypointSchema:
    keys = validate(_SchemaFile, {k: card[k] for k in ("schema",) if k in card}, where).keys
    given = keys.model_dump(exclude_unset=True)
    try:
        return KeypointSchema.from_dict({"name": card["name"], **given})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _find_parent(kind: Kind, parent: Any, file: Path, seen: tuple[Path, ...]) -> Path:
    try:
        return find(kind, str(parent), passing_over=seen)
    except ConfigError as error:
        raise ConfigError(f"{file}: key 'extends': {error}") from None


@cache
def _shipped(kind: Kind) -> Path:
    package = Path(__file__).resolve().parents[1]
    installed = package / "_cards" / kind
    return installed if installed.is_dir() else package.parent / kind
