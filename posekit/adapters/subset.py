"""Which images of an annotation file belong to a split, where the files do not say it.

Every dataset's split may carry the option `subset`, whatever its adapter; an image's instances
always stay together.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

from pydantic import Field, model_validator

from posekit.adapters.base import EmptyImage, Instance
from posekit.adapters.blocks import InstanceBlock
from posekit.adapters.files import read_text
from posekit.config.base import Strict, validate
from posekit.config.cards import SplitCard
from posekit.errors import DatasetError

_SHOWN = 5
_LAST_NUMBER = re.compile(r"[-_. ]*[0-9]+$")
_Item = TypeVar("_Item", InstanceBlock | Instance | EmptyImage, Instance | EmptyImage)
_Names = list[str]
_Key = list[tuple[int, str]]


class Subset(Strict):
    """The option `subset`: one rule for keeping images, or `present` alone.

    Attributes:
        list: keep the images that this text file names, one a line, relative to the dataset's
            root or to the split's image folder. The file's path is relative to the root.
        keep_every: keep every n-th image in file order: the n-th, the 2n-th, ...
        leave_out_every: keep the others.
        fraction: keep the images whose hashed group falls in [low, high) of [0, 1), so that two
            splits with ranges side by side share out the images the same way on every machine.
        groups: keep the images of these groups.
        leave_out_groups: keep the images of the others.
        before: keep the images whose path stands before this one, numbers in it taken as numbers.
        starting: keep the others: this image and those after it.
        by: what a group is: the 'image' itself, its 'folder', or its 'stem', which is its path
            without the last number (all frames of video3_0017.png's video; of ann_02.jpg, Ann).
        present: also leave out images whose file is not there.
    """

    list: str | None = None
    keep_every: int | None = Field(None, ge=2)
    leave_out_every: int | None = Field(None, ge=2)
    fraction: tuple[float, float] | None = None
    groups: _Names | None = None
    leave_out_groups: _Names | None = None
    before: str | None = None
    starting: str | None = None
    by: Literal["image", "folder", "stem"] = "image"
    present: bool = False

    @model_validator(mode="after")
    def _one_rule(self) -> Subset:
        rules = set(type(self).model_fields) - {"by", "present"}
        given = {name for name in rules if getattr(self, name) is not None}
        if len(given) > 1 or not (given or self.present):
            raise ValueError(f"expected exactly one of {', '.join(sorted(rules))}, or present")
        if self.fraction and not 0 <= self.fraction[0] < self.fraction[1] <= 1:
            raise ValueError("fraction: expected two numbers 0 <= low < high <= 1")
        if self.by != "image" and not given & {"fraction", "groups", "leave_out_groups"}:
            raise ValueError("by: says what groups are, which only fraction and groups go by")
        return self


def group_of(image: str, by: str) -> str:
    """Return the group of an image by its path; see `Subset.by`."""
    path = PurePosixPath(image)
    if by == "folder":
        return str(path.parent)
    return str(path.parent / _LAST_NUMBER.sub("", path.stem)) if by == "stem" else image


def natural_key(image: str) -> _Key:
    """Return a key that sorts paths with the numbers in them taken as numbers."""
    parts = re.split(r"([0-9]+)", image)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]


def split_subset(split: SplitCard) -> tuple[SplitCard, Subset | None]:
    """Take the option `subset` off a split; ConfigError if it is malformed."""
    if "subset" not in split.options:
        return split, None
    where = f"split '{split.name}', options.subset"
    data = split.options["subset"]
    subset = validate(Subset, data if isinstance(data, dict) else {"list": data}, where)
    rest = {key: value for key, value in split.options.items() if key != "subset"}
    return split.model_copy(update={"options": rest}), subset


def select(items: Iterator[_Item], subset: Subset, root: Path, split: SplitCard) -> Iterator[_Item]:
    """Keep the instances of the subset's images, single or in blocks.

    Raises:
        DatasetError: the list names images without any annotation; known after the last instance.
    """
    rule = _Rule(subset, root, split)
    for item in items:
        if isinstance(item, InstanceBlock):
            paths = [image.image for image in item.images]
            kept = {path for path in dict.fromkeys(paths) if rule.keeps(path)}
            yield item.keep([i for i, path in enumerate(paths) if path in kept])
        elif rule.keeps(item.image):
            yield item
    rule.check()


class _Rule:
    """Decides on one image after the other, in file order, whether the subset has it."""

    def __init__(self, subset: Subset, root: Path, split: SplitCard):
        self._subset, self._root = subset, root
        self._order: dict[str, int] = {}
        self._seen: set[str] = set()
        self._names: list[str] = []
        self._wanted: dict[str, str] = {}
        if subset.list is not None:
            self._file = root / subset.list
            lines = read_text(self._file).splitlines()
            self._names = [line.strip() for line in lines if line.strip()]
            if not self._names:
                raise DatasetError(self._file, "it names no images, expected one name a line")
            self._wanted = {str(PurePosixPath(split.images, name)): name for name in self._names}
            self._wanted |= {name: name for name in self._names}

    def keeps(self, image: str) -> bool:
        """Return whether the subset has an image; may be asked again of the same one."""
        if self._subset.present and not (self._root / image).is_file():
            return False
        if self._subset.list is None:
            position = self._order.setdefault(image, len(self._order))
            return _keeps(self._subset, position, image)
        name = self._wanted.get(image)
        if name is not None:
            self._seen.add(name)
        return name is not None

    def check(self) -> None:
        """Raise DatasetError if the list names images that never came."""
        missing = [name for name in self._names if name not in self._seen]
        if missing:
            shown = ", ".join(missing[:_SHOWN])
            raise DatasetError(
                self._file,
                f"it names {len(missing)} images that the annotations do not have ({shown})",
                fix="take them out of the list, or check that both belong together",
            )


def _keeps(subset: Subset, position: int, image: str) -> bool:
    if subset.keep_every is not None:
        return (position + 1) % subset.keep_every == 0
    if subset.leave_out_every is not None:
        return (position + 1) % subset.leave_out_every != 0
    group = group_of(image, subset.by)
    if subset.groups is not None:
        return group in subset.groups
    if subset.leave_out_groups is not None:
        return group not in subset.leave_out_groups
    if subset.before is not None or subset.starting is not None:
        is_before = natural_key(image) < natural_key(subset.before or subset.starting or "")
        return is_before == (subset.before is not None)
    low, high = subset.fraction or (0.0, 1.0)
    digest = hashlib.sha256(group.encode()).digest()
    return low <= int.from_bytes(digest[:8], "big") / 2**64 < high
