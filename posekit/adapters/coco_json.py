"""COCO-style JSON: one file with images, annotations and categories.

Reads COCO, CrowdPose, AP-10K, AnimalPose, COCO-WholeBody, Halpe, ATRW, JHMDB, the COCO-style
copies of many others, and exports of labelling tools, in all of which fields may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from posekit.adapters.base import EmptyImage, Instance
from posekit.adapters.blocks import InstanceBlock, NotInBlocks
from posekit.adapters.coco_blocks import block_of
from posekit.adapters.coco_file import (
    CocoFile,
    check_keypoint_names,
    is_plain_id,
    load_coco_file,
    read_categories,
    tidy_folder,
)
from posekit.adapters.coco_options import CocoOptions, HeadBox, InstanceFields
from posekit.adapters.fields import (
    Place,
    box_xywh,
    check_unique,
    field_of,
    first_triples,
    identifier,
    keypoint_triples,
    number,
    pair_of_numbers,
    show,
    whole,
)
from posekit.adapters.json_pieces import JsonMembers
from posekit.config.base import validate
from posekit.config.cards import SplitCard
from posekit.errors import ConfigError
from posekit.schema import KeypointSchema


def read(root: Path, split: SplitCard, schema: KeypointSchema) -> Iterator[Instance | EmptyImage]:
    """Stream the annotations of a COCO-style file in file order, then the images without any.

    The split may name a folder, whose .json files are then read one after the other. A file is
    loaded once; records are let go as they are yielded. Annotations whose category
    has no keypoints while another has some are left out (labelling tools write such parents).
    An annotation without `area`, `bbox`, `iscrowd`, `category_id` or `id` is read without it.

    Raises:
        DatasetError: anything malformed; see `coco_file` and `fields`.
        ConfigError: an unknown option in the card.
    """
    options = validate(CocoOptions, split.options, f"split '{split.name}', options")
    path = Path(root) / split.annotations
    if not path.is_dir():
        yield from _read_file(path, split, options, schema, 0)
        return
    files = sorted(path.glob("*.json"))
    if not files:
        Place(path).fail("found no .json file in this folder, expected COCO-style files")
    count = 0
    images: dict[int | str, Path] = {}
    for file in files:
        for item in _read_file(file, split, options, schema, count):
            count += isinstance(item, Instance)
            if images.setdefault(item.image_id, file) != file:
                Place(file, f"image {item.image_id}").fail(
                    f"its id stands in {images[item.image_id].name} too, expected every id once"
                )
            yield item


def read_blocks(
    root: Path, split: SplitCard, schema: KeypointSchema
) -> Iterator[InstanceBlock | Instance | EmptyImage]:
    """Stream what `read` streams, several times faster and in bounded memory.

    The file is read piece by piece. A piece of plainly regular annotations becomes a block; any
    other is read record by record, as in `read`. Memory: the images, the ids and a piece.

    Raises:
        NotInBlocks: a folder of files, or a file that only `read` can judge, because that takes
            all of its annotations: ids that are odd or repeated, an unknown category, or text
            that does not fall apart into records.
        DatasetError, ConfigError: as `read`.
    """
    options = validate(CocoOptions, split.options, f"split '{split.name}', options")
    file = Path(root) / split.annotations
    if not file.is_file():
        raise NotInBlocks
    coco = CocoFile(file, tidy_folder(split.images), options)
    with file.open("rb") as stream:
        yield from _PieceReader(coco, schema).items(JsonMembers(stream))


def _read_file(
    file: Path, split: SplitCard, options: CocoOptions, schema: KeypointSchema, count: int
) -> Iterator[Instance | EmptyImage]:
    coco = load_coco_file(file, split.images, options)
    reader = _RecordReader(coco, schema, count)
    reader.use_categories(coco.categories)
    reader.has_counts = any(
        isinstance(record, dict) and "num_keypoints" in record for record in coco.annotations
    )
    reader.is_numbered = reader.number_ids()
    yield from reader.instances(coco.annotations)
    yield from reader.empty_images()


class _RecordReader:
    """Turns annotation records of one file into instances, one by one.

    Attributes:
        count: instances so far.
        position: annotation records so far.
        used: ids of the images that have instances.
        has_counts: whether the file has the field `num_keypoints`.
        is_numbered: whether instances are numbered instead of taking the annotations' ids.
    """

    def __init__(self, coco: CocoFile, schema: KeypointSchema, count: int = 0):
        self.coco, self.options, self.schema, self.count = coco, coco.options, schema, count
        self.position = 0
        self.used: set[int | str] = set()
        self.has_counts: bool | None = None
        self.is_numbered = self.options.renumber or len(self.options.parts) > 1
        self._unposed: set[int] = set()

    def use_categories(self, categories: dict[int, Mapping[str, Any]]) -> None:
        """Keep the categories that the options name, and check their keypoint names."""
        if self.options.categories:
            categories = _wanted(categories, self.options, self.coco.file)
        self.coco.categories = categories
        if not self.options.trust_order and self.options.parts == [InstanceFields()]:
            check_keypoint_names(self.coco, self.schema)
        posed = {i for i, record in categories.items() if record.get("keypoints")}
        self._unposed = set(categories) - posed if posed else set()

    def instances(self, records: list[Any]) -> Iterator[Instance]:
        """Yield the instances of the next records, dropping each record when it is done."""
        for i, record in enumerate(records):
            records[i] = None
            place = self._place(record, self.position)
            self.position += 1
            category_id = self._category(record, place)
            if self.options.categories and category_id not in self.coco.categories:
                continue
            if category_id in self._unposed and "keypoints" not in record:
                continue
            for part in self.options.parts:
                if part.valid and not field_of(record, part.valid, place):
                    continue
                self.count += 1
                instance = self._instance(record, part, category_id, place)
                self.used.add(instance.image_id)
                yield instance

    def empty_images(self) -> Iterator[EmptyImage]:
        """Yield the images without instances."""
        for image_id, image in self.coco.images.items():
            if image_id not in self.used:
                yield EmptyImage(image.image, image_id, image.image_size, dict(image.extras))

    def _instance(
        self, record: Mapping[str, Any], part: InstanceFields, category_id: int, place: Place
    ) -> Instance:
        image_id = identifier(field_of(record, "image_id", place), "image_id", place)
        image = self.coco.images.get(image_id)
        if image is None:
            place.fail(
                f"image_id {show(image_id)} names no image of the file"
                + (" (ids there are numbers)" if isinstance(image_id, str) else ""),
                "add the image's record or take the annotation out",
            )
        points, visibility = self._keypoints(record, part, place)
        box = box_xywh(record.get(part.box), place, part.box)
        if box is not None and "box" in self.options.one_based:
            box[:2] -= 1
        center, size = self._crop(record, image.image_size, place)
        area = record.get("area") if part.box == "bbox" else None
        return Instance(
            image=image.image,
            image_id=image.image_id,
            instance_id=self.count if self.is_numbered else record["id"],
            keypoints=points,
            visibility=visibility,
            box_xywh=box,
            area=None if area is None else _area(area, place),
            category_id=category_id,
            is_crowd=_is_crowd(record, place),
            image_size=image.image_size,
            crop_center=center,
            crop_size=size,
            extras=self._extras(record, part, image.extras, place),
        )

    def _keypoints(
        self, record: Mapping[str, Any], part: InstanceFields, place: Place
    ) -> tuple[np.ndarray, np.ndarray]:
        if len(part.keypoints) == 1:
            name = part.keypoints[0]
            values = field_of(record, name, place)
        else:
            name = " + ".join(part.keypoints)
            values = []
            for key in part.keypoints:
                piece = field_of(record, key, place)
                values += piece if isinstance(piece, list) else [piece]
        if part.first_of is not None:
            values = first_triples(values, part.first_of, len(self.schema), place, name)
        points, visibility = keypoint_triples(
            values, self.schema, place, self.options.visibility, name
        )
        if "keypoints" in self.options.one_based:
            points[visibility > 0] -= 1
        return points, visibility

    def _crop(
        self, record: Mapping[str, Any], image_size: tuple[int, int] | None, place: Place
    ) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        crop = self.options.crop
        if crop is None:
            return None, None
        if crop.whole_image:
            if image_size is None:
                place.fail("its image declares no width and height, expected them for the crop")
            size = np.array(image_size[::-1], dtype=np.float64)
            return size / 2, size
        shift = 1.0 if "center" in self.options.one_based else 0.0
        x, y = pair_of_numbers(field_of(record, "center", place), "center", place)
        if crop.size is not None:
            wide, high = pair_of_numbers(field_of(record, crop.size, place), crop.size, place)
            return np.array([x - shift, y - shift]), np.array([wide, high])
        scale = number(field_of(record, "scale", place), "scale", place)
        side = crop.side / scale if crop.inverse and scale > 0 else crop.side * scale
        if scale <= 0 or not np.isfinite(side):
            place.fail(f"scale: found {show(scale)}, expected a positive number")
        y += crop.shift_down * scale
        return np.array([x - shift, y - shift]), np.array([side, side])

    def _extras(
        self,
        record: Mapping[str, Any],
        part: InstanceFields,
        of_image: Mapping[str, float],
        place: Place,
    ) -> dict[str, float]:
        """Return the annotation's numbers, and the image's where the annotation has none."""
        wanted = dict(self.options.extras)
        if self.has_counts and "keypoints" in part.keypoints:
            wanted["num_keypoints"] = "num_keypoints"
        extras = dict(of_image)
        for name, key in wanted.items():
            if record.get(key) is not None:
                extras[name] = number(record[key], key, place)
            else:
                extras.setdefault(name, float("nan"))
        if self.options.head_box is not None:
            extras["head_size"] = _head_size(record, self.options.head_box, place)
        return extras

    def _category(self, record: Mapping[str, Any], place: Place) -> int:
        listed = self.coco.categories
        if record.get("category_id") is None:
            return next(iter(listed)) if len(listed) == 1 else 1
        category_id = whole(record["category_id"], "category_id", place)
        if listed and category_id not in listed and not self.options.categories:
            known = ", ".join(map(str, list(listed)[:10]))
            place.fail(f"category_id {category_id} is not among the file's categories ({known})")
        return category_id

    def _place(self, record: Any, position: int) -> Place:
        if not isinstance(record, dict):
            Place(self.coco.file, f"annotation at position {position}").fail(
                f"found {show(record)}, expected an object"
            )
        shown = record.get("id")
        known = isinstance(shown, (int, str))
        return Place(
            self.coco.file, f"annotation {shown}" if known else f"annotation at position {position}"
        )

    def number_ids(self) -> bool:
        """Check all annotation ids; return whether instances must be numbered instead."""
        if self.is_numbered:
            return True
        ids = []
        without = 0
        for position, record in enumerate(self.coco.annotations):
            place = self._place(record, position)
            if record.get("id") is None:
                without += 1
                continue
            record["id"] = identifier(record["id"], "id", place)
            ids.append(record["id"])
        if without and ids:
            Place(self.coco.file).fail(
                f"{without} of {without + len(ids)} annotations have no id, expected all or none",
                "set the option renumber: true of the split",
            )
        fix = "give every annotation its own id, or set the option renumber: true of the split"
        check_unique(ids, "annotation", self.coco.file, fix)
        return not ids


class _PieceReader(_RecordReader):
    """Reads a file piece by piece, each as a block if it can be, else record by record."""

    def __init__(self, coco: CocoFile, schema: KeypointSchema):
        super().__init__(coco, schema)
        self._ids: list[np.ndarray | list[int | str]] = []
        self._id_kind: type | None = None
        self._seen_categories: set[int] = set()
        self._has_categories = False

    def items(self, members: JsonMembers) -> Iterator[InstanceBlock | Instance | EmptyImage]:
        """Yield the file's instances and empty images."""
        has_images, late = False, None
        has_annotations = False
        for key in members:
            if key == "images":
                first = 0
                for records, _ in members.pieces():
                    self.coco.add_images(records, first)
                    first += len(records)
                check_unique(list(self.coco.images), "image", self.coco.file)
                has_images = True
            elif key == "categories":
                self._take_categories(members.value())
            elif key == "annotations":
                has_annotations = True
                if has_images:
                    yield from self._annotations(members)
                else:  # they name images, so their turn comes after those
                    late = members.position
                    members.skip()
            else:
                members.skip()
        if not (has_images and has_annotations):
            raise NotInBlocks
        if late is not None:
            members.position = late
            yield from self._annotations(members)
        self._take_categories(None)
        listed = self.coco.categories
        if listed and not self._seen_categories <= set(listed):
            raise NotInBlocks
        if self._has_repeated_ids():
            raise NotInBlocks
        yield from self.empty_images()

    def _annotations(self, members: JsonMembers) -> Iterator[InstanceBlock | Instance]:
        for records, text in members.pieces():
            has_counts = any("num_keypoints" in record for record in records)
            if self.has_counts is None:
                self.has_counts = has_counts
            if has_counts and not self.has_counts:
                raise NotInBlocks  # what went out before lacks that extra
            ids = self._own_ids(records)
            try:
                block = block_of(
                    records,
                    self.coco.images,
                    self.options,
                    len(self.schema),
                    np.arange(self.count + 1, self.count + 1 + len(records))
                    if ids is None
                    else ids,
                    has_counts=self.has_counts,
                    # Only texts with such a word need to be looked through for truth values.
                    is_strict=b"true" in text or b"false" in text,
                )
            except NotInBlocks:
                self._find_categories()
                yield from self.instances(records)
                continue
            self.count += len(block)
            self.position += len(block)
            self.used.update([image.image_id for image in block.images])
            self._seen_categories.update(np.unique(block.category_id).tolist())
            yield block

    def _own_ids(self, records: list[dict[str, Any]]) -> np.ndarray | list[int | str] | None:
        """Return the records' ids, or None if instances are numbered."""
        if self.options.renumber or len(self.options.parts) > 1:
            return None
        ids: list[Any] = [record.get("id") for record in records]
        kinds = {type(entry) for entry in ids}
        if len(kinds) != 1 or self._id_kind not in {None, *kinds}:
            raise NotInBlocks
        self._id_kind = kinds.pop()
        self.is_numbered = self._id_kind is type(None)
        if self.is_numbered:
            return None
        found: np.ndarray | list[int | str] = ids
        if self._id_kind is int:
            try:
                found = np.array(ids, dtype=np.int64)
            except OverflowError:
                raise NotInBlocks from None
        elif not all(map(is_plain_id, ids)):
            raise NotInBlocks
        self._ids.append(found)
        return found

    def _has_repeated_ids(self) -> bool:
        if self._id_kind is int:
            ids = np.concatenate(self._ids)
            return len(np.unique(ids)) < len(ids)
        texts = list(chain.from_iterable(self._ids))
        return len(set(texts)) < len(texts)

    def _take_categories(self, value: Any) -> None:
        if not self._has_categories:
            self.use_categories(read_categories(value, self.coco.file))
            self._has_categories = True

    def _find_categories(self) -> None:
        """Look ahead for the categories, which COCO's files have at the end."""
        if self._has_categories:
            return
        with self.coco.file.open("rb") as stream:
            members = JsonMembers(stream)
            for key in members:
                if key == "categories":
                    self._take_categories(members.value())
                    return
                members.skip()
        self._take_categories(None)


def _wanted(
    categories: dict[int, Mapping[str, Any]], options: CocoOptions, file: Path
) -> dict[int, Mapping[str, Any]]:
    wanted = set(options.categories)
    kept = {
        category_id: record
        for category_id, record in categories.items()
        if category_id in wanted or str(record.get("name")) in wanted
    }
    if not kept:
        names = ", ".join(str(r.get("name", i)) for i, r in categories.items()) or "none"
        raise ConfigError(
            f"option 'categories' asks for {sorted(map(str, wanted))}; {file} has {names}"
        )
    return kept


def _head_size(record: Mapping[str, Any], head: HeadBox, place: Place) -> float:
    value = record.get(head.field)
    if value is None:
        return float("nan")
    if not isinstance(value, list) or len(value) != 4:
        place.fail(f"{head.field}: found {show(value)}, expected four numbers")
    numbers = np.array([number(v, head.field, place) for v in value])
    sides = numbers[2:] - numbers[:2] if head.corners else numbers[2:]
    return head.factor * float(np.hypot(*sides))


def _area(value: Any, place: Place) -> float:
    area = number(value, "area", place)
    if area < 0:
        place.fail(f"area: found {show(value)}, expected square pixels, not below 0")
    return area


def _is_crowd(record: Mapping[str, Any], place: Place) -> bool:
    value = record.get("iscrowd", record.get("is_crowd"))  # APT-36K writes is_crowd
    if value is None or value is False or value is True:
        return bool(value)
    if value not in (0, 1):
        place.fail(f"iscrowd: found {show(value)}, expected 0 or 1")
    return bool(value)
