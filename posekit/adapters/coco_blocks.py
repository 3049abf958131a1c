"""COCO-style JSON in columns: the quick way through regular files of any length.

Every check of the reader of single records (`coco_json`) is made here too, but over thousands of
records at once and without finding out which one is at fault. Whatever is not plainly regular
raises NotInBlocks, and the file is read record by record, which names the fault or copes with it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from posekit.adapters.base import EmptyImage
from posekit.adapters.blocks import ImageTable, InstanceBlock, NotInBlocks
from posekit.adapters.coco_file import LONGEST_SIDE, plain_image_path
from posekit.adapters.fields import VisibilityCodes
from posekit.adapters.json_pieces import JsonMembers

_INT64 = 1 << 63
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class BlockPlan:
    """How records of one split become columns; the regular part of `coco_json.CocoOptions`.

    Attributes:
        num_keypoints: keypoints of the schema.
        image_folder: folder of the images, relative to the dataset's root.
        keypoints: fields whose flat lists, laid end to end, are the schema's keypoints.
        box: field of the box.
        has_area: whether `area` belongs to this box.
        visibility: how the file codes visibility.
        one_based: which of 'keypoints' and 'box' count from 1.
        is_whole_image: the crop is the whole image.
        extras: name -> annotation field.
        image_extras: name -> image field.
        labelled_flag: image field by which images that were never labelled are left out.
        renumber: number the instances from 1.
        counts_keypoints: keep `num_keypoints` where the file has it.
    """

    num_keypoints: int
    image_folder: str
    keypoints: tuple[str, ...]
    box: str
    has_area: bool
    visibility: VisibilityCodes
    one_based: frozenset[str]
    is_whole_image: bool
    extras: Mapping[str, str]
    image_extras: Mapping[str, str]
    labelled_flag: str | None
    renumber: bool
    counts_keypoints: bool


@dataclass
class _State:
    """What has been seen so far of one file."""

    table: ImageTable = field(default_factory=ImageTable)
    rows: dict[int | str, int] = field(default_factory=dict)
    ids: list[np.ndarray | list[str]] = field(default_factory=list)
    used: list[np.ndarray] = field(default_factory=list)
    categories: set[int] = field(default_factory=set)
    listed: Any = None
    has_images: bool = False
    has_annotations: bool = False
    count: int = 0
    id_kind: type | None = None
    has_counts: bool | None = None


def read_file_in_blocks(
    file: Path, plan: BlockPlan, check_categories: Callable[[Any], set[int] | None]
) -> Iterator[InstanceBlock | EmptyImage]:
    """Stream a COCO-style file's annotations as blocks in file order, then its empty images.

    Time: about 8 us a record of 17 keypoints. Memory: the images' ids and paths, and a piece of
    the file; the annotations are gone through twice where they stand before the images.

    Args:
        file: the JSON file.
        plan: what to make of a record.
        check_categories: is called with the file's `categories` (None if it has none), and gives
            the ids that annotations may name, or None if any may.

    Raises:
        NotInBlocks: the file must be read record by record.
    """
    state = _State()
    with file.open("rb") as stream:
        members = JsonMembers(stream)
        late: int | None = None
        for key in members:
            if key == "images":
                _read_images(members, plan, state)
            elif key == "categories":
                state.listed = members.value()
            elif key != "annotations":
                _pass_over(members)
            elif state.has_images:
                yield from _blocks(members, plan, state)
            else:
                late = members.position
                _pass_over(members)
            state.has_annotations |= key == "annotations"
        if not (state.has_images and state.has_annotations):
            raise NotInBlocks
        if late is not None:
            members.position = late
            yield from _blocks(members, plan, state)
    known = check_categories(state.listed)
    if known is not None and not state.categories <= known:
        raise NotInBlocks
    _check_ids(state)
    yield from _empty_images(state)


def _blocks(members: JsonMembers, plan: BlockPlan, state: _State) -> Iterator[InstanceBlock]:
    for records, text in members.pieces():
        yield _block(records, text, plan, state)


def _read_images(members: JsonMembers, plan: BlockPlan, state: _State) -> None:
    for records, _ in members.pieces():
        _add_images(records, plan, state)
    if len({type(entry) for entry in state.rows}) > 1:
        raise NotInBlocks
    state.has_images = True


def _pass_over(members: JsonMembers) -> None:
    """Go past a member that means nothing here, however long it is."""
    start = members.position
    try:
        for _ in members.pieces():
            pass
    except NotInBlocks:
        members.position = start
        members.value()


def _add_images(records: list[dict[str, Any]], plan: BlockPlan, state: _State) -> None:
    table = state.table
    kept = []
    for record in records:
        image_id, path = record.get("id"), plain_image_path(plan.image_folder, record)
        if path is None or image_id is None or not _is_plain_id(image_id):
            raise NotInBlocks
        if image_id in state.rows:
            raise NotInBlocks
        size = _image_size(record.get("height"), record.get("width"))
        if plan.labelled_flag and not record.get(plan.labelled_flag, True):
            continue
        kept.append(record)
        state.rows[image_id] = len(table.ids)
        table.ids.append(image_id)
        table.paths.append(path)
        table.sizes.append(size)
    for name, key in plan.image_extras.items():
        values = _numbers_or_nan([record.get(key) for record in kept])
        table.extras.setdefault(name, []).extend(values.tolist())


def _is_plain_id(value: Any) -> bool:
    if type(value) is int:
        return -_INT64 <= value < _INT64
    return type(value) is str and bool(value) and "\0" not in value


def _image_size(height: Any, width: Any) -> tuple[int, int] | None:
    if not height or not width:
        return None
    if type(height) is not int or type(width) is not int:
        raise NotInBlocks
    if min(height, width) <= 0 or max(height, width) > LONGEST_SIDE:
        raise NotInBlocks
    return height, width


def _block(
    records: list[dict[str, Any]], text: bytes, plan: BlockPlan, state: _State
) -> InstanceBlock:
    # Truth values pass for numbers in Python; only texts with such a word are looked through.
    strict = b"true" in text or b"false" in text
    try:
        image = np.array([state.rows[record["image_id"]] for record in records], dtype=np.int64)
    except (KeyError, TypeError):
        raise NotInBlocks from None
    # 1, 1.0 and True are one key of a mapping; only numbers that are whole are ids here.
    if not {type(record["image_id"]) for record in records} <= {int, str}:
        raise NotInBlocks
    points, visibility = _keypoints(records, plan, strict)
    boxes = _boxes([record.get(plan.box) for record in records], strict)
    if "box" in plan.one_based:
        boxes[:, :2] -= 1
    area = np.full(len(records), np.nan)
    if plan.has_area:
        area = _numbers_or_nan([record.get("area") for record in records])
        if (area < 0).any():
            raise NotInBlocks
    state.count += len(records)
    state.used.append(np.unique(image))
    center, size = _crops(image, plan, state.table)
    return InstanceBlock(
        table=state.table,
        image=image,
        instance_id=_ids(records, plan, state),
        keypoints=points,
        visibility=visibility,
        box_xywh=boxes,
        area=area,
        category_id=_category_ids(records, state),
        is_crowd=_crowds(records),
        crop_center=center,
        crop_size=size,
        extras=_extras(records, image, plan, state),
    )


def _keypoints(
    records: list[dict[str, Any]], plan: BlockPlan, strict: bool
) -> tuple[np.ndarray, np.ndarray]:
    flat = array("d")
    expected = 3 * plan.num_keypoints
    try:
        if len(plan.keypoints) == 1:
            lists = [record[plan.keypoints[0]] for record in records]
        else:
            lists = [
                list(chain.from_iterable([record[key] for key in plan.keypoints]))
                for record in records
            ]
        for values in lists:
            if len(values) != expected:
                raise NotInBlocks
            flat.fromlist(values)
    except (KeyError, TypeError, OverflowError):
        raise NotInBlocks from None
    if strict and bool in {type(value) for values in lists for value in values}:
        raise NotInBlocks
    triples = np.frombuffer(flat, dtype=np.float64).reshape(-1, plan.num_keypoints, 3)
    visibility = _codes(triples[:, :, 2], plan.visibility)
    labelled = (visibility > 0)[:, :, None]
    points = np.where(labelled, triples[:, :, :2], 0.0)
    # Not finite as float32 includes not finite at all.
    if not (np.abs(points) <= _LARGEST).all():
        raise NotInBlocks
    result = points.astype(np.float32)
    if "keypoints" in plan.one_based:
        result[visibility > 0] -= 1
    return result, visibility


def _codes(raw: np.ndarray, codes: VisibilityCodes) -> np.ndarray:
    if codes == "positive":
        if not np.isfinite(raw).all():
            raise NotInBlocks
        return np.where(raw > 0, 2, 0).astype(np.uint8)
    table: Mapping[int, int] = {0: 0, 1: 1, 2: 2} if codes == "coco" else dict(codes)
    result = np.full(raw.shape, 255, dtype=np.uint8)
    for theirs, ours in table.items():
        result[raw == theirs] = ours
    if (result == 255).any():
        raise NotInBlocks
    return result


def _boxes(values: list[Any], strict: bool) -> np.ndarray:
    boxes = np.full((len(values), 4), np.nan)
    given = [i for i, value in enumerate(values) if value is not None and value != []]
    flat = array("d")
    try:
        for i in given:
            if len(values[i]) != 4:
                raise NotInBlocks
            flat.fromlist(values[i])
    except (TypeError, OverflowError):
        raise NotInBlocks from None
    if strict and bool in {type(entry) for i in given for entry in values[i]}:
        raise NotInBlocks
    numbers = np.frombuffer(flat, dtype=np.float64).reshape(-1, 4)
    if not np.isfinite(numbers).all():
        raise NotInBlocks
    boxes[given] = numbers
    return boxes


def _numbers_or_nan(values: list[Any]) -> np.ndarray:
    kinds = {type(value) for value in values}
    if not kinds <= {int, float, type(None)}:
        raise NotInBlocks
    if kinds <= {int, float}:
        return _finite(values)
    result = np.full(len(values), np.nan)
    given = [i for i, value in enumerate(values) if value is not None]
    result[given] = _finite([values[i] for i in given])
    return result


def _finite(values: Iterable[float]) -> np.ndarray:
    try:
        result = np.array(values, dtype=np.float64)
    except OverflowError:
        raise NotInBlocks from None
    if not np.isfinite(result).all():
        raise NotInBlocks
    return result


def _ids(records: list[dict[str, Any]], plan: BlockPlan, state: _State) -> np.ndarray | list[str]:
    numbered = np.arange(state.count - len(records) + 1, state.count + 1)
    if plan.renumber:
        return numbered
    ids = [record.get("id") for record in records]
    kinds = {type(entry) for entry in ids}
    if len(kinds) != 1 or state.id_kind not in {None, *kinds}:
        raise NotInBlocks
    state.id_kind = kinds.pop()
    if state.id_kind is type(None):
        return numbered
    found: np.ndarray | list[str]
    if state.id_kind is int:
        try:
            found = np.array(ids, dtype=np.int64)
        except OverflowError:
            raise NotInBlocks from None
    elif all(_is_plain_id(entry) for entry in ids):
        found = [str(entry) for entry in ids]
    else:
        raise NotInBlocks
    state.ids.append(found)
    return found


def _category_ids(records: list[dict[str, Any]], state: _State) -> np.ndarray:
    ids = [record.get("category_id") for record in records]
    if {type(entry) for entry in ids} != {int}:
        raise NotInBlocks
    try:
        found = np.array(ids, dtype=np.int64)
    except OverflowError:
        raise NotInBlocks from None
    state.categories |= set(np.unique(found).tolist())
    return found


def _crowds(records: list[dict[str, Any]]) -> np.ndarray:
    values = [record.get("iscrowd", record.get("is_crowd")) for record in records]
    if not {type(value) for value in values} <= {int, bool, type(None)}:
        raise NotInBlocks
    if not set(values) <= {0, 1, None}:
        raise NotInBlocks
    return np.array([bool(value) for value in values])


def _crops(image: np.ndarray, plan: BlockPlan, table: ImageTable) -> tuple[np.ndarray, np.ndarray]:
    if not plan.is_whole_image:
        none = np.full((len(image), 2), np.nan)
        return none, none
    sizes = [table.sizes[row] for row in image.tolist()]
    if None in sizes:
        raise NotInBlocks
    size = np.array(sizes, dtype=np.float64)[:, ::-1]
    return size / 2, size


def _extras(
    records: list[dict[str, Any]], image: np.ndarray, plan: BlockPlan, state: _State
) -> dict[str, np.ndarray]:
    wanted = dict(plan.extras)
    if plan.counts_keypoints:
        has_counts = any("num_keypoints" in record for record in records)
        if state.has_counts is None:
            state.has_counts = has_counts
        if has_counts and not state.has_counts:
            raise NotInBlocks  # earlier blocks went out without that column
        if state.has_counts:
            wanted["num_keypoints"] = "num_keypoints"
    rows = image.tolist()
    extras = {
        name: np.array([values[row] for row in rows], dtype=np.float64)
        for name, values in state.table.extras.items()
    }
    for name, key in wanted.items():
        own = _numbers_or_nan([record.get(key) for record in records])
        extras[name] = np.where(np.isnan(own), extras[name], own) if name in extras else own
    return extras


def _check_ids(state: _State) -> None:
    if state.id_kind is int:
        ids = np.concatenate(state.ids)
        if len(np.unique(ids)) != len(ids):
            raise NotInBlocks
    elif state.id_kind is str:
        texts = list(chain.from_iterable(state.ids))
        if len(set(texts)) != len(texts):
            raise NotInBlocks


def _empty_images(state: _State) -> Iterator[EmptyImage]:
    is_empty = np.ones(len(state.table.ids), dtype=bool)
    for rows in state.used:
        is_empty[rows] = False
    for row in np.flatnonzero(is_empty).tolist():
        yield state.table.empty_image(row)
