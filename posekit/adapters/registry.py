"""From the name in a card to the adapter that reads the dataset."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from posekit.adapters.base import Adapter, EmptyImage, Instance, is_adapter
from posekit.adapters.blocks import BlockAdapter
from posekit.adapters.contract import check_instance
from posekit.adapters.files import require_folder
from posekit.adapters.subset import select, split_subset
from posekit.config.cards import DatasetCard, SplitCard
from posekit.config.plug_ins import Parts
from posekit.errors import ConfigError, PosekitError
from posekit.schema import KeypointSchema

_MODULES = (
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


def _built_in(name: str) -> Adapter:
    """Return an adapter that imports its module when it is first called."""

    def read(
        root: Path, split: SplitCard, schema: KeypointSchema
    ) -> Iterator[Instance | EmptyImage]:
        return importlib.import_module(f"posekit.adapters.{name}").read(root, split, schema)

    return read


ADAPTERS: Parts[Adapter] = Parts(
    "adapter",
    {name: _built_in(name) for name in _MODULES},
    is_adapter,
    "a function marked @posekit.adapters.adapter",
)


def get_adapter(card: DatasetCard) -> Adapter:
    """Return the adapter that a card names, ready to use.

    It also obeys the option `subset`, and checks what adapters from outside posekit yield.

    Raises:
        ConfigError: as in `Parts.get`.
    """
    adapter = ADAPTERS.get(card.adapter, card.where, card.beside)
    return _with_subset(adapter if card.adapter in ADAPTERS.built_in else _checked(adapter, card))


def load_adapter(card: DatasetCard) -> Adapter:
    """Return the adapter that a card names, for callers that check every record themselves.

    The option `subset` is obeyed; ConfigError as in `get_adapter`.
    """
    return _with_subset(ADAPTERS.get(card.adapter, card.where, card.beside))


def get_block_adapter(card: DatasetCard) -> BlockAdapter | None:
    """Return the adapter's block reader, if it has one; the option `subset` is obeyed."""
    if card.adapter not in ADAPTERS.built_in:
        return None
    module = importlib.import_module(f"posekit.adapters.{card.adapter}")
    read_blocks: BlockAdapter | None = getattr(module, "read_blocks", None)
    return read_blocks and _with_subset(read_blocks)


def _with_subset(adapter: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    def read(root: Path, split: SplitCard, schema: KeypointSchema) -> Iterator[Any]:
        root = require_folder(Path(root))
        rest, subset = split_subset(split)
        items = adapter(root, rest, schema)
        return select(items, subset, root, split) if subset else items

    return read


def _checked(adapter: Adapter, card: DatasetCard) -> Adapter:
    """Wrap an adapter from outside: check each instance, name the adapter in its errors."""

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
                f"{card.where}: adapter '{card.adapter}' failed after {count} instances "
                f"({type(error).__name__}: {error})"
            ) from error

    return read
