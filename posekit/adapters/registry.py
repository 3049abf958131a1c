"""From the name in a card to the adapter that reads the dataset."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from posekit.adapters.base import Adapter, EmptyImage, Instance
from posekit.adapters.blocks import BlockAdapter
from posekit.adapters.files import require_folder
from posekit.adapters.subset import select, split_subset
from posekit.config.cards import DatasetCard, SplitCard
from posekit.errors import ConfigError, PosekitError, nearest
from posekit.schema import KeypointSchema

ENTRY_POINTS = "posekit.adapters"
"""Entry-point group in which an installed package offers adapters by name."""

BUILT_IN = {
    name: f"posekit.adapters.{name}:read"
    for name in (
        "aic_json",
        "coco_json",
        "cofw_mat",
        "deeplabcut",
        "freihand_json",
        "landmark_csv",
        "lsp_mat",
        "mpii_json",
        "pts_folder",
        "sleap",
        "wflw_txt",
        "yolo_pose",
    )
}


def get_adapter(card: DatasetCard) -> Adapter:
    """Return the adapter that a card names, ready to use.

    The name is a built-in, the name of an entry point, `package.module:function`, or
    `file.py:function` beside the card. Only the named one is imported. The adapter given back
    also obeys the option `subset`, and checks what adapters from outside posekit yield.

    Raises:
        ConfigError: there is no such adapter, or it cannot be imported.
    """
    name = card.adapter
    if name in BUILT_IN:
        return _with_subset(_from_module(BUILT_IN[name], card))
    return _with_subset(_checked(_load_foreign(card), card))


def load_adapter(card: DatasetCard) -> Adapter:
    """Return the adapter that a card names, for callers that check every record themselves.

    The option `subset` is obeyed; ConfigError as in `get_adapter`.
    """
    if card.adapter in BUILT_IN:
        return _with_subset(_from_module(BUILT_IN[card.adapter], card))
    return _with_subset(_load_foreign(card))


def get_block_adapter(card: DatasetCard) -> BlockAdapter | None:
    """Return the adapter's block reader, if it has one; the option `subset` is obeyed."""
    if card.adapter not in BUILT_IN:
        return None
    module = importlib.import_module(BUILT_IN[card.adapter].partition(":")[0])
    read_blocks: BlockAdapter | None = getattr(module, "read_blocks", None)
    return read_blocks and _with_subset(read_blocks)


def known_adapters() -> list[str]:
    """Return the names that a card can use without a colon: built-ins and entry points."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def _load_foreign(card: DatasetCard) -> Adapter:
    name = card.adapter
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return _import(point.load, card)
    target, colon, function = name.partition(":")
    if not colon or not target or not function:
        hint = nearest(name, known_adapters())
        raise ConfigError(
            f"{_where(card)}: there is no adapter '{name}'{hint} (built in: "
            f"{', '.join(sorted(BUILT_IN))}; or package.module:function, or file.py:function)"
        )
    return (
        _from_file(card, target, function) if target.endswith(".py") else _from_module(name, card)
    )


def _from_module(name: str, card: DatasetCard) -> Adapter:
    module, _, function = name.partition(":")
    return _function(_import(lambda: importlib.import_module(module), card), function, card)


def _from_file(card: DatasetCard, target: str, function: str) -> Adapter:
    folder = card.file.parent if card.file else Path()
    file = (folder / target).resolve()
    if not file.is_file():
        raise ConfigError(f"{_where(card)}: adapter '{card.adapter}': there is no file {file}")
    unique = f"posekit_adapter_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(unique, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{_where(card)}: adapter file {file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    loader = spec.loader
    _import(lambda: loader.exec_module(module), card)
    return _function(module, function, card)


def _import(load: Callable[[], Any], card: DatasetCard) -> Any:
    try:
        return load()
    # The user's module runs here; whatever it raises is a fault of that adapter.
    except Exception as error:
        raise ConfigError(
            f"{_where(card)}: adapter '{card.adapter}' cannot be imported "
            f"({type(error).__name__}: {error})"
        ) from error


def _function(module: Any, name: str, card: DatasetCard) -> Adapter:
    function = getattr(module, name, None)
    if not callable(function):
        offered = [n for n in vars(module) if not n.startswith("_") and callable(vars(module)[n])]
        raise ConfigError(
            f"{_where(card)}: adapter '{card.adapter}': the module has no function '{name}'"
            f"{nearest(name, offered)}"
        )
    return function


def _with_subset(adapter: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    def read(root: Path, split: SplitCard, schema: KeypointSchema) -> Iterator[Any]:
        root = require_folder(Path(root))
        rest, subset = split_subset(split)
        items = adapter(root, rest, schema)
        return select(items, subset, root, split) if subset else items

    return read


def _checked(adapter: Adapter, card: DatasetCard) -> Adapter:
    """Wrap an adapter from outside: check each instance, name the adapter in its errors."""
    from posekit.adapters.contract import check_instance  # noqa: PLC0415

    def read(
        root: Path, split: SplitCard, schema: KeypointSchema
    ) -> Iterator[Instance | EmptyImage]:
        count = 0
        try:
            for instance in adapter(root, split, schema):
                count += 1
                check_instance(instance, schema, f"{card.adapter}, instance {count}")
                yield instance
        except (PosekitError, GeneratorExit):
            raise
        # Any other error comes out of the user's function; say how far it got.
        except Exception as error:
            raise ConfigError(
                f"{_where(card)}: adapter '{card.adapter}' failed after {count} instances "
                f"({type(error).__name__}: {error})"
            ) from error

    return read


def _where(card: DatasetCard) -> str:
    return str(card.file) if card.file else f"dataset '{card.name}'"
