"""Which images of an annotation file belong to a split, where the files do not say it.

Every dataset's split may carry the option `subset`, whatever its adapter; an image's instances
always stay together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pydantic import Field, model_validator

from posekit.adapters.base import EmptyImage, Instance
from posekit.adapters.files import read_text
from posekit.catalog import SplitCard
from posekit.config import Strict, validate
from posekit.errors import DatasetError

_SHOWN = 5


class Subset(Strict):
    """The option `subset`: one rule for keeping images.

    Attributes:
        list: keep the images that this text file names, one a line, relative to the dataset's
            root or to the split's image folder. The file's path is relative to the root.
        keep_every: keep every n-th image in file order: the n-th, the 2n-th, ...
        leave_out_every: keep the others.
        fraction: keep the images whose hashed path falls in [low, high) of [0, 1), so that two
            splits with ranges side by side share out the images the same way on every machine.
    """

    list: str | None = None
    keep_every: int | None = Field(None, ge=2)
    leave_out_every: int | None = Field(None, ge=2)
    fraction: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> Subset:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"expected exactly one of {', '.join(type(self).model_fields)}")
        if self.fraction and not 0 <= self.fraction[0] < self.fraction[1] <= 1:
            raise ValueError("fraction: expected two numbers 0 <= low < high <= 1")
        return self


def split_subset(split: SplitCard) -> tuple[SplitCard, Subset | None]:
    """Take the option `subset` off a split; ConfigError if it is malformed."""
    if "subset" not in split.options:
        return split, None
    where = f"split '{split.name}', options.subset"
    data = split.options["subset"]
    subset = validate(Subset, data if isinstance(data, dict) else {"list": data}, where)
    rest = {key: value for key, value in split.options.items() if key != "subset"}
    return split.model_copy(update={"options": rest}), subset


def select(
    instances: Iterator[Instance | EmptyImage], subset: Subset, root: Path, split: SplitCard
) -> Iterator[Instance | EmptyImage]:
    """Keep the instances of the subset's images.

    Raises:
        DatasetError: the list names images without any annotation; known after the last instance.
    """
    if subset.list is not None:
        yield from _listed(instances, root / subset.list, split)
        return
    order: dict[str, int] = {}
    for instance in instances:
        position = order.setdefault(instance.image, len(order))
        if _keeps(subset, position, instance.image):
            yield instance


def _keeps(subset: Subset, position: int, image: str) -> bool:
    if subset.keep_every is not None:
        return (position + 1) % subset.keep_every == 0
    if subset.leave_out_every is not None:
        return (position + 1) % subset.leave_out_every != 0
    low, high = subset.fraction or (0.0, 1.0)
    digest = hashlib.sha256(image.encode()).digest()
    return low <= int.from_bytes(digest[:8], "big") / 2**64 < high


def _listed(
    instances: Iterator[Instance | EmptyImage], file: Path, split: SplitCard
) -> Iterator[Instance | EmptyImage]:
    names = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    if not names:
        raise DatasetError(file, "it names no images, expected one name a line")
    wanted = {str(PurePosixPath(split.images, name)): name for name in names}
    wanted |= {name: name for name in names}
    seen: set[str] = set()
    for instance in instances:
        name = wanted.get(instance.image)
        if name is not None:
            seen.add(name)
            yield instance
    missing = [name for name in names if name not in seen]
    if missing:
        shown = ", ".join(missing[:_SHOWN])
        raise DatasetError(
            file,
            f"it names {len(missing)} images that the annotations do not have ({shown})",
            fix="take them out of the list, or check that both belong together",
        )
