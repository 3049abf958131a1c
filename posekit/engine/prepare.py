"""Everything that a run reads, made ahead: indices of all splits, crop stores of training rows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from posekit.codecs.registry import build_codec
from posekit.config.plug_ins import takes_allow_code
from posekit.config.recipe import Recipe, load_recipe
from posekit.data.crop_store import open_store
from posekit.data.crops import CropSource
from posekit.engine.setup import ResolvedHead, read_heads

Say = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PreparedHead:
    """What is ready for one head.

    Attributes:
        instances: split -> (instances, trainable ones) of its index.
        index_s: seconds that opening (and, the first time, building) the indices took.
        store_mib: size of the crop store; None where the recipe does not ask for one.
        store_s: seconds that opening (and, the first time, filling) it took.
        broken: instances whose image cannot be read; training replaces and reports them.
    """

    instances: dict[str, tuple[int, int]]
    index_s: float
    store_mib: float | None = None
    store_s: float = 0.0
    broken: int = 0


@takes_allow_code
def prepare(
    recipe: Recipe | str | Path,
    overrides: Iterable[str] = (),
    say: Say | None = None,
    *,
    allow_code: bool = False,
) -> dict[str, PreparedHead]:
    """Build the indices of a recipe's splits and, with `data.cache: store`, its crop stores.

    A run would build them itself; here it happens once, on any machine that sees the cache folder
    and the datasets, before GPUs are taken. What is there already is opened only.

    Args:
        recipe: a Recipe, or the path or name of one.
        overrides: `key.path=value` settings laid upon a recipe given by path or name.
        say: is told (head, instances done, of all) while a store is filled.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Raises:
        ConfigError: a card, the recipe or a setting is wrong.
        DatasetError: annotations are missing or wrong.

    Cost: parsing the annotations, and one decoding of every training image for a store, by
    `data.workers` processes.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    return {name: _prepare_head(recipe, head, say) for name, head in read_heads(recipe).items()}


def _prepare_head(recipe: Recipe, head: ResolvedHead, say: Say | None) -> PreparedHead:
    begun = time.perf_counter()
    training = head.train_index()
    splits = {head.recipe.train: training}
    if head.recipe.evaluate:
        splits[head.recipe.evaluate] = head.index(head.recipe.evaluate)
    done = PreparedHead(
        {split: (len(index), len(index.trainable)) for split, index in splits.items()},
        time.perf_counter() - begun,
    )
    if recipe.data.cache != "store":
        return done
    begun = time.perf_counter()
    codec = build_codec(head.spec.codec, head.spec.input_size, f"head '{head.name}', codec")
    data = CropSource(
        training, head.spec.input_size, codec.warp, recipe.head_augmentation(head.name)
    )

    def progress(number: int, of: int) -> None:
        if say is not None:
            say(head.name, number, of)

    store = open_store(data, workers=recipe.data.workers, progress=progress)
    return dataclasses.replace(
        done,
        store_mib=store.nbytes / 2**20,
        store_s=time.perf_counter() - begun,
        broken=store.broken,
    )
