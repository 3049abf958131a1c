"""COCO-style JSON: one file with images, annotations and categories.

Reads COCO, CrowdPose, AP-10K, AnimalPose, COCO-WholeBody, Halpe, ATRW, JHMDB, the COCO-style
copies of many others, and exports of labelling tools, in all of which fields may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posekit.adapters.base import EmptyImage, Instance
from posekit.adapters.blocks import InstanceBlock, NotInBlocks
from posekit.adapters.coco_blocks import BlockPlan, read_file_in_blocks
from posekit.adapters.coco_file import (
    CocoFile,
    check_keypoint_names,
    load_coco_file,
    read_categories,
    tidy_folder,
)
from posekit.adapters.coco_options import CocoOptions, HeadBox, Part
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
from posekit.config.base import validate
from posekit.config.cards import SplitCard
from posekit.errors import ConfigError, DatasetError
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
) -> Iterator[InstanceBlock | EmptyImage]:
    """Stream what `read` streams, as blocks, several times faster and in bounded memory.

    Raises:
        NotInBlocks: a folder of files, an option beyond those of a `BlockPlan`, or a file that is
            not plainly regular: what it needs, or what is wrong with it, is for `read` to say.
        ConfigError: an unknown option in the card.
    """
    options = validate(CocoOptions, split.options, f"split '{split.name}', options")
    plan = _block_plan(options, split, schema)
    file = Path(root) / split.annotations
    if plan is None or not file.is_file():
        raise NotInBlocks
    is_own_order = not options.trust_order and options.parts == [Part()]

    def check_categories(value: Any) -> set[int] | None:
        try:
            categories = read_categories(value, file)
            if is_own_order:
                check_keypoint_names(CocoFile(file, {}, categories, []), schema)
        except DatasetError:
            raise NotInBlocks from None
        return set(categories) if categories else None

    yield from read_file_in_blocks(file, plan, check_categories)


def _block_plan(options: CocoOptions, split: SplitCard, schema: KeypointSchema) -> BlockPlan | None:
    """Return the plan of a split, or None if its options are for the reader of single records."""
    part, crop = options.parts[0], options.crop
    if len(options.parts) > 1 or part.first_of is not None or part.valid:
        return None
    if options.head_box is not None:
        return None
    if options.categories or (crop is not None and not crop.whole_image):
        return None
    return BlockPlan(
        num_keypoints=len(schema),
        image_folder=tidy_folder(split.images),
        keypoints=tuple(part.keypoints),
        box=part.box,
        has_area=part.box == "bbox",
        visibility=options.visibility,
        one_based=frozenset(options.one_based),
        is_whole_image=crop is not None,
        extras=options.extras,
        image_extras=options.image_extras,
        labelled_flag=options.labelled_flag,
        renumber=options.renumber,
        counts_keypoints="keypoints" in part.keypoints,
    )


def _read_file(
    file: Path, split: SplitCard, options: CocoOptions, schema: KeypointSchema, count: int
) -> Iterator[Instance | EmptyImage]:
    coco = load_coco_file(file, split.images, options.image_extras, options.labelled_flag)
    if options.categories:
        coco = _keep_categories(coco, options)
    if not options.trust_order and options.parts == [Part()]:
        check_keypoint_names(coco, schema)
    yield from _Reader(coco, options, schema, count).instances()


class _Reader:
    """Turns the records of one file into instances."""

    def __init__(self, coco: CocoFile, options: CocoOptions, schema: KeypointSchema, count: int):
        self.coco, self.options, self.schema, self.count = coco, options, schema, count
        self.has_num_keypoints = any(
            isinstance(record, dict) and "num_keypoints" in record for record in coco.annotations
        )
        self.renumber = options.renumber or self._number_ids()
        posed = {i for i, record in coco.categories.items() if record.get("keypoints")}
        self.unposed = set(coco.categories) - posed if posed else set()

    def instances(self) -> Iterator[Instance | EmptyImage]:
        """Yield instances, dropping the records as they are done, then the empty images."""
        count = self.count
        empty = dict(self.coco.images)
        records = self.coco.annotations
        for position, record in enumerate(records):
            records[position] = None
            place = self._place(record, position)
            category_id = self._category(record, place)
            if self.options.categories and category_id not in self.coco.categories:
                continue
            if category_id in self.unposed and "keypoints" not in record:
                continue
            for part in self.options.parts:
                if part.valid and not field_of(record, part.valid, place):
                    continue
                count += 1
                instance = self._instance(record, part, category_id, count, place)
                empty.pop(instance.image_id, None)
                yield instance
        for image in empty.values():
            yield EmptyImage(image.path, image.image_id, image.size, dict(image.extras))

    def _instance(
        self, record: Mapping[str, Any], part: Part, category_id: int, count: int, place: Place
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
        center, size = self._crop(record, image.size, place)
        area = record.get("area") if part.box == "bbox" else None
        return Instance(
            image=image.path,
            image_id=image.image_id,
            instance_id=count if self.renumber else record["id"],
            keypoints=points,
            visibility=visibility,
            box_xywh=box,
            area=None if area is None else _area(area, place),
            category_id=category_id,
            is_crowd=_is_crowd(record, place),
            image_size=image.size,
            crop_center=center,
            crop_size=size,
            extras=self._extras(record, part, image.extras, place),
        )

    def _keypoints(
        self, record: Mapping[str, Any], part: Part, place: Place
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
        self, record: Mapping[str, Any], part: Part, of_image: Mapping[str, float], place: Place
    ) -> dict[str, float]:
        """Return the annotation's numbers, and the image's where the annotation has none."""
        wanted = dict(self.options.extras)
        if self.has_num_keypoints and "keypoints" in part.keypoints:
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

    def _number_ids(self) -> bool:
        """Check the annotation ids and tell whether instances must be numbered instead."""
        if self.options.renumber or len(self.options.parts) > 1:
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


def _keep_categories(coco: CocoFile, options: CocoOptions) -> CocoFile:
    wanted = set(options.categories)
    kept = {
        category_id: record
        for category_id, record in coco.categories.items()
        if category_id in wanted or str(record.get("name")) in wanted
    }
    if not kept:
        names = ", ".join(str(r.get("name", i)) for i, r in coco.categories.items()) or "none"
        raise ConfigError(
            f"option 'categories' asks for {sorted(map(str, wanted))}; {coco.file} has {names}"
        )
    return CocoFile(coco.file, coco.images, kept, coco.annotations)


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
