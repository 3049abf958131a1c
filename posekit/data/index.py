"""PoseIndex: all annotations of one split as memory-mapped columns, built once and cached."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from posekit import adapters as adapters_package
from posekit.adapters.base import Adapter
from posekit.adapters.blocks import NotInBlocks
from posekit.adapters.registry import ADAPTERS, get_adapter, get_block_adapter
from posekit.config.cards import DatasetCard, SplitCard
from posekit.data.boxes import crop_boxes
from posekit.data.cache_folder import default_cache, discard, publish
from posekit.data.columns import InstanceColumns
from posekit.data.index_build import load_columns, write_columns
from posekit.errors import DatasetError
from posekit.output import write_json
from posekit.version import __version__

INDEX_VERSION = 1
_IMAGE_SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".webp",
    ".avi",
    ".mp4",
}


class PoseIndex:
    """The instances of one dataset split; opens in milliseconds and pickles as a path.

    Attributes:
        columns: all instances, memory-mapped; processes share one copy.
        card, schema: the dataset's.
        root: the dataset's folder.
        split: name of the split.
        folder: the cache folder with the columns.
        trainable: int64 rows that training may use: no crowd, at least one labelled keypoint, a
            usable box, an area above 0 where the file has one, not excluded.
        skipped: reason -> number of rows left out of `trainable`.
        data_hash: sha256 of what was read: of the annotation file, or, where the split has
            several, of the sorted list of their names and sha256.
    """

    def __init__(
        self,
        folder: Path,
        card: DatasetCard,
        root: Path,
        split: str,
        exclude: Sequence[str | int] = (),
    ):
        self.folder, self.card, self.root, self.split = folder, card, root, split
        self.schema = card.keypoint_schema
        self._exclude = tuple(exclude)
        description = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.data_hash: str = description["data_hash"]
        self.skipped: dict[str, int] = dict(description["skipped"])
        self.columns: InstanceColumns = load_columns(folder)
        self.trainable: np.ndarray = np.load(folder / "trainable.npy", mmap_mode="r")
        if self._exclude:
            self._leave_out()

    def __len__(self) -> int:
        return len(self.columns)

    def __reduce__(self) -> tuple[Any, ...]:
        return PoseIndex, (self.folder, self.card, self.root, self.split, self._exclude)

    @property
    def name(self) -> str:
        """Dataset and split, as messages and random draws name them."""
        return f"{self.card.name}/{self.split}"

    def crop_boxes(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return centre and unpadded size of the rows' crop boxes: float64 (n, 2) each."""
        return crop_boxes(self.columns, np.asarray(rows), self.card.box)

    def image_file(self, row: int) -> Path:
        """Return the file of a row's image."""
        return self.image_file_at(int(self.columns.image_index[row]))

    def image_file_at(self, image_index: int) -> Path:
        """Return the file of an image by its row in the image columns."""
        return self.root / self.columns.image_path[image_index].decode()

    def require_trainable(self) -> None:
        """Raise DatasetError if there is nothing to train on, saying why."""
        if len(self.trainable):
            return
        counts = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
        raise DatasetError(
            self.root / self.card.split(self.split).annotations,
            f"none of its {len(self)} instances can be trained on ({counts})",
            fix="check the annotations, or choose another split",
        )

    def _leave_out(self) -> None:
        names = {str(entry).encode() for entry in self._exclude}
        paths = np.isin(self.columns.image_path, list(names))
        ids = np.isin(self.columns.image_id.astype("S"), list(names))
        excluded = (paths | ids)[self.columns.image_index[self.trainable]]
        self.trainable = self.trainable[~excluded]
        self.skipped["excluded image"] = int(excluded.sum())


def build_index(
    card: DatasetCard,
    root: str | Path,
    split_name: str,
    cache_dir: str | Path | None = None,
    *,
    exclude: Sequence[str | int] = (),
    adapter: Adapter | None = None,
) -> PoseIndex:
    """Open the index of a split; read the annotation files only if they or the card changed.

    What is cached is keyed by path, size and time of change of the annotation files, by the parts
    of the card that matter and by posekit's version. Opening costs a few milliseconds whatever the
    number of instances; building costs the adapter's parsing (COCO-style JSON in all about 15 us an
    instance of 17 keypoints) and about 10 us an instance where the adapter gives no blocks.

    Args:
        card: the dataset's card.
        root: the dataset's folder.
        split_name: name of one of the card's splits.
        cache_dir: the cache folder; POSEKIT_CACHE or the user's own by default.
        exclude: image ids, or paths relative to the root, that training leaves out.
        adapter: the adapter, instead of the one that the card names.

    Raises:
        ConfigError: the card has no such split or names no adapter that there is or may run.
        DatasetError: an annotation file is missing or wrong.
        PosekitError: the cache cannot be written.
    """
    root = Path(root).expanduser().absolute()
    split = card.split(split_name)
    if adapter is None:  # pinned, so that an edited file.py is another key of the cache
        pinned = ADAPTERS.pin(card.adapter, card.where, card.beside)
        card = card.model_copy(update={"adapter": pinned})
    files = _source_files(card, root, split)
    key = _cache_key(card, root, split, files, adapter)
    base = Path(cache_dir).expanduser() if cache_dir is not None else default_cache()
    folder = base / "indices" / f"{card.name}-{split_name}-{key[:20]}"
    for _ in range(2):
        if not (folder / "index.json").is_file():
            publish(folder, partial(_fill, adapter, card, root, split, files))
        try:
            return PoseIndex(folder, card, root, split_name, exclude)
        except (OSError, ValueError, KeyError):
            discard(folder)
    raise DatasetError(folder, "this cache is damaged and cannot be rebuilt")


def _fill(
    adapter: Adapter | None,
    card: DatasetCard,
    root: Path,
    split: SplitCard,
    files: list[Path],
    folder: Path,
) -> None:
    summary = _write_instances(adapter, card, root, split, folder)
    description = {
        "dataset": card.name,
        "split": split.name,
        "root": str(root),
        "data_hash": _content_hash(root, files),
        "posekit": __version__,
        **summary,
    }
    write_json(folder / "index.json", description)


def _write_instances(
    adapter: Adapter | None, card: DatasetCard, root: Path, split: SplitCard, folder: Path
) -> dict[str, Any]:
    """Write the columns: in blocks where the adapter and the file allow it, else one by one."""
    schema, source = card.keypoint_schema, root / split.annotations
    read_blocks = None if adapter else get_block_adapter(card)
    if read_blocks is not None:
        try:
            return write_columns(folder, read_blocks(root, split, schema), schema, card.box, source)
        except NotInBlocks:
            for file in folder.iterdir():
                file.unlink()
    instances = (adapter or get_adapter(card))(root, split, schema)
    return write_columns(folder, instances, schema, card.box, source)


def _source_files(card: DatasetCard, root: Path, split: SplitCard) -> list[Path]:
    """Return the files that a split's annotations are read from, sorted."""
    if not root.is_dir():
        raise DatasetError(
            root,
            f"there is no such folder, expected dataset '{card.name}' in it",
            fix="put the dataset there, or name its folder (data_root, or the head's root)",
        )
    main = root / split.annotations
    if not main.exists():
        raise DatasetError(
            main,
            f"there is no such file, expected the annotations of split '{split.name}' of dataset "
            f"'{card.name}'",
            fix="check the folder, or the split's files in the card",
        )
    named = [root / text for text in _texts(split.options)]
    files = [file for file in named if file.is_file()]
    return sorted({*files, *(_files_below(main) if main.is_dir() else [main])})


def _files_below(folder: Path) -> Iterator[Path]:
    for path, _, names in os.walk(folder):
        for name in names:
            if os.path.splitext(name)[1].lower() not in _IMAGE_SUFFIXES:
                yield Path(path, name)


def _texts(value: Any) -> Iterator[str]:
    """Return every text in nested mappings and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)


def _cache_key(
    card: DatasetCard,
    root: Path,
    split: SplitCard,
    files: list[Path],
    adapter: Adapter | None,
) -> str:
    name = getattr(adapter, "__qualname__", card.adapter)
    code = sorted(Path(adapters_package.__path__[0]).glob("*.py"))
    content = {
        "index": INDEX_VERSION,
        "posekit": __version__,
        "schema": card.keypoint_schema.to_dict(),
        "split": split.model_dump(mode="json"),
        "box": card.box.model_dump(mode="json"),
        "adapter": name,
        "root": str(root),
        "files": _stamps(files),
        "code": _stamps(code),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _stamps(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    stats = [(str(file), file.stat()) for file in files]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _content_hash(root: Path, files: list[Path]) -> str:
    hashes = []
    for file in files:
        with file.open("rb") as stream:
            hashes.append(hashlib.file_digest(stream, "sha256").hexdigest())
    if len(hashes) == 1:
        return hashes[0]
    lines = [
        f"{os.path.relpath(file, root)} {digest}\n"
        for file, digest in zip(files, hashes, strict=True)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
