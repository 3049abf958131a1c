"""Convert weights between projects, and datasets to COCO-style JSON."""

from __future__ import annotations

from pathlib import Path

from posekit.adapters.registry import get_adapter
from posekit.adapters.write_coco import write_coco
from posekit.config.cards import SplitCard, load_dataset_card
from posekit.config.plug_ins import takes_allow_code
from posekit.config.recipe import load_recipe
from posekit.engine.setup import read_heads
from posekit.models.convert import convert_file
from posekit.models.ledger import Ledger


@takes_allow_code
def convert(
    source: str | Path,
    target: str | Path,
    *,
    recipe: str | Path | None = None,
    head: str | None = None,
    allow_code: bool = False,
) -> Ledger:
    """Convert weights from ViTPose, ViTPose+, PoseBH or transformers, or to them.

    Args:
        source: a model of posekit or of another project.
        target: file to write (.safetensors, .pth), or a folder for transformers.
        recipe: recipe that describes a foreign source's heads.
        head: to transformers: which head, if there are several.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Returns:
        What became of every tensor.

    Raises:
        CheckpointError, ConfigError: the source cannot be read or does not fit; see `convert_file`.
    """
    heads = None
    if recipe is not None:
        heads = {name: one.spec for name, one in read_heads(load_recipe(recipe)).items()}
    return convert_file(source, target, heads, head=head)


@takes_allow_code
def convert_dataset(
    dataset: str | Path,
    split: str,
    root: str | Path,
    out: str | Path,
    *,
    allow_code: bool = False,
) -> SplitCard:
    """Write a split of any readable dataset as one COCO-style JSON file, images by reference.

    Args:
        dataset: name or path of the dataset's card.
        split: the split to convert.
        root: the dataset's folder.
        out: file to write, inside that folder.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Returns:
        The split as a card describes it.

    Raises:
        ConfigError, DatasetError: the card or the annotations are wrong.
    """
    card = load_dataset_card(dataset)
    instances = get_adapter(card)(Path(root), card.split(split), card.keypoint_schema)
    return write_coco(Path(out), instances, card.keypoint_schema)
