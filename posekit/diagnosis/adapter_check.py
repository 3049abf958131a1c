"""The contract of adapters, run over a user's own, with every breach named."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from posekit.adapters.base import Adapter, EmptyImage, Instance
from posekit.adapters.contract import check_instance
from posekit.adapters.registry import load_adapter
from posekit.config.cards import DatasetCard, SplitCard
from posekit.diagnosis.check import present_splits
from posekit.diagnosis.findings import MOST_EXAMPLES, CheckReport, Example, Finding, in_order
from posekit.errors import DatasetError, PosekitError

_AGAIN = 200
_FIX = "correct the adapter"


def check_adapter(
    card: DatasetCard, root: str | Path, *, splits: Sequence[str] = ()
) -> CheckReport:
    """Run a card's adapter over its splits and name every breach of the contract.

    Looked at are: each record's fields (`posekit.adapters.check_instance`), one id an image and
    one image an id, ids of instances, the same extras in every record, the same records when read
    again, images that are there, and errors: a folder without the annotations must give one
    PosekitError, nothing else.

    Args:
        card: the card that names the adapter.
        root: the dataset's folder.
        splits: by default all whose annotations are there.

    Raises:
        ConfigError: the adapter cannot be imported, or the card has no such split.
        DatasetError: the folder is not there.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DatasetError(root, "there is no such folder", fix="name the dataset's folder")
    read = load_adapter(card)
    findings: list[Finding] = []
    for name in splits or present_splits(card, root):
        split = card.split(name)
        found = [*_run(read, card, root, split), *_on_an_empty_folder(read, card, split)]
        findings += [replace(one, split=name) for one in found]
    return CheckReport(card.name, findings=in_order(findings))


def _run(read: Adapter, card: DatasetCard, root: Path, split: SplitCard) -> Iterator[Finding]:
    records: list[Any] = []
    try:
        stream = read(root, split, card.keypoint_schema)
        if not hasattr(stream, "__next__"):
            yield Finding(
                "adapter_does_not_stream",
                "warning",
                f"the adapter gives a {type(stream).__name__}, expected an iterator: all records "
                "are in memory at once",
                "yield the records one by one",
            )
        records.extend(stream)
    except PosekitError as error:
        yield Finding("adapter_stops", "error", f"after {len(records)} records: {error}", _FIX)
    # Whatever the user's function raises is a finding about it.
    except Exception as error:
        yield Finding(
            "adapter_fails",
            "error",
            f"after {len(records)} records it raises {type(error).__name__}: {error}; users "
            "should see a DatasetError that names file and record",
            _FIX,
        )
    yield from _contract(records, card)
    instances = [one for one in records if isinstance(one, Instance)]
    if not instances:
        yield Finding("adapter_gives_nothing", "error", "it yields no Instance", _FIX)
        return
    yield from _ids(records, instances)
    yield from _extras(instances)
    yield from _again(read, card, root, split, records)
    yield from _images(records, root)


def _contract(records: list[Any], card: DatasetCard) -> Iterator[Finding]:
    """Gather breaches by the field that they begin with, so that one fault is one finding."""
    breaches: dict[str, list[tuple[int, str]]] = {}
    for number, record in enumerate(records, 1):
        try:
            check_instance(record, card.keypoint_schema, f"record {number}")
        except DatasetError as error:
            field = error.problem.partition(":")[0]
            breaches.setdefault(field, []).append((number, error.problem))
    for field, found in breaches.items():
        yield Finding(
            "contract_broken",
            "error",
            f"{len(found)} of {len(records)} records break the contract, the first is record "
            f"{found[0][0]}: {found[0][1]}",
            f"{_FIX} ({field})",
            len(found),
            tuple(
                Example(image=f"record {number}", note=problem)
                for number, problem in found[:MOST_EXAMPLES]
            ),
        )


def _ids(records: list[Any], instances: list[Instance]) -> Iterator[Finding]:
    known = [one for one in records if isinstance(one, Instance | EmptyImage)]
    for name, what in (("image", "image_id"), ("image_id", "image")):
        seen: dict[Any, set[Any]] = {}
        for one in known:
            seen.setdefault(getattr(one, name), set()).add(getattr(one, what))
        mixed = [key for key, values in seen.items() if len(values) > 1]
        if mixed:
            yield Finding(
                "image_ids_mixed",
                "error",
                f"{len(mixed)} values of {name} come with several values of {what}, for example "
                f"{mixed[0]!r} with {sorted(map(str, seen[mixed[0]]))[:3]}",
                "one image, one id",
                len(mixed),
            )
    counts = Counter((one.image, one.instance_id) for one in instances)
    repeated = [key for key, count in counts.items() if count > 1]
    if repeated:
        yield Finding(
            "ids_repeated",
            "error",
            f"{len(repeated)} instance ids come more than once in an image, for example "
            f"{repeated[0][1]!r} in {repeated[0][0]}",
            "give every instance its own id, its running number for want of another",
            len(repeated),
        )


def _extras(instances: list[Instance]) -> Iterator[Finding]:
    first = set(instances[0].extras)
    other = [n for n, one in enumerate(instances, 1) if set(one.extras) != first]
    if other:
        yield Finding(
            "extras_differ",
            "error",
            f"{len(other)} instances bring other extras than the first ({sorted(first)}), for "
            f"example instance {other[0]}: {sorted(instances[other[0] - 1].extras)}",
            "bring the same names in every instance, NaN where there is no value",
            len(other),
        )


def _again(
    read: Adapter, card: DatasetCard, root: Path, split: SplitCard, records: list[Any]
) -> Iterator[Finding]:
    again: list[Any] = []
    # Errors of the user's function: one that the first reading had, too, is told there.
    with contextlib.suppress(Exception):
        again.extend(islice(iter(read(root, split, card.keypoint_schema)), _AGAIN))
    differ = [
        number
        for number, (one, other) in enumerate(zip(records, again, strict=False), 1)
        if not _same(one, other)
    ]
    if differ or len(again) < min(_AGAIN, len(records)):
        yield Finding(
            "adapter_not_repeatable",
            "error",
            "reading the split a second time gives other or fewer records"
            + (f", the first is record {differ[0]}" if differ else ""),
            "read in a fixed order (sort folder listings) and draw nothing at random",
            max(len(differ), 1),
        )


def _images(records: list[Any], root: Path) -> Iterator[Finding]:
    paths = {one.image for one in records if isinstance(getattr(one, "image", None), str)}
    missing = sorted(path for path in paths if not (root / path).is_file())
    if missing:
        yield Finding(
            "images_missing",
            "error",
            f"{len(missing)} of {len(paths)} images are not below the dataset's folder, for "
            f"example {missing[0]}",
            "give paths relative to the root, with the split's images folder in front",
            len(missing),
            tuple(Example(image=path) for path in missing[:MOST_EXAMPLES]),
        )


def _on_an_empty_folder(read: Adapter, card: DatasetCard, split: SplitCard) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            count = sum(1 for _ in read(Path(folder), split, card.keypoint_schema))
        except PosekitError:
            return
        # Anything else is what the contract forbids.
        except Exception as error:
            yield Finding(
                "adapter_error_unclear",
                "warning",
                f"on a folder without annotations it raises {type(error).__name__}: {error}",
                "raise posekit.errors.DatasetError(file, what was found and expected)",
            )
            return
        yield Finding(
            "adapter_error_missing",
            "warning",
            f"on a folder without annotations it gives {count} records and no error",
            "raise posekit.errors.DatasetError if the annotations are not there",
        )


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if not isinstance(a, Instance | EmptyImage):
        return bool(a == b)
    names = a.__dataclass_fields__
    return all(_equal(getattr(a, name), getattr(b, name)) for name in names)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (np.isnan(a) and np.isnan(b))
    return bool(a == b)
