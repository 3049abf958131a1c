"""COCO-style files read in blocks hold what they hold when read record by record."""

import dataclasses
import json
import random

import numpy as np
import pytest
from format_writers import NAMES, SCHEMA, TRUTH, coco_data, triples
from test_adapter_fuzz import mutate_tree
from test_adapters_golden import AS_COCO, SETS

from posekit.adapters import Instance, get_adapter
from posekit.adapters.blocks import InstanceBlock, NotInBlocks
from posekit.adapters.coco_json import read, read_blocks
from posekit.adapters.registry import get_block_adapter
from posekit.config.cards import SplitCard, load_dataset_card
from posekit.data.index import build_index
from posekit.errors import DatasetError


def expanded(items):
    for item in items:
        if isinstance(item, InstanceBlock):
            yield from item.instances()
        else:
            yield item


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert type(a) is type(b)
        for field in dataclasses.fields(a):
            one, two = getattr(a, field.name), getattr(b, field.name)
            if field.name == "extras":
                assert one.keys() == two.keys()
                one, two = list(one.values()), [two[name] for name in one]
            assert (one is None) == (two is None), field.name
            if one is not None:
                np.testing.assert_array_equal(one, two)
                assert np.asarray(one).dtype == np.asarray(two).dtype, field.name


@pytest.fixture
def both(tmp_path):
    """Read one file both ways and compare; gives the instances."""

    def run(data, images="img", **options):
        (tmp_path / "a.json").write_text(json.dumps(data))
        split = SplitCard(name="all", annotations="a.json", images=images, options=options)
        single = list(read(tmp_path, split, SCHEMA))
        assert_same(list(expanded(read_blocks(tmp_path, split, SCHEMA))), single)
        return single

    return run


def changed(**changes):
    data = coco_data()
    for annotation in data["annotations"]:
        for key, value in changes.items():
            annotation[key] = value
    return data


def without(*keys):
    data = coco_data()
    for annotation in data["annotations"][1:]:
        for key in keys:
            annotation.pop(key)
    return data


def text_ids():
    data = coco_data()
    for image, annotation in zip(data["images"], data["annotations"], strict=True):
        image["id"] = annotation["image_id"] = f"image {image['id']}"
        annotation["id"] = f"é{annotation['id']}"
    return data


def annotations_first():
    data = coco_data()
    data["images"].insert(0, {"id": 3, "file_name": "sub/z 1.png", "height": None})
    return {key: data[key] for key in ("annotations", "info", "images") if key in data}


REGULAR = {
    "as it is": (coco_data, {}),
    "no areas, boxes, crowds": (lambda: without("area", "bbox", "iscrowd"), {}),
    "null and empty": (lambda: changed(area=None, bbox=[], iscrowd=None), {}),
    "crowds under the other name": (lambda: changed(iscrowd=0, is_crowd=1), {}),
    "truth values": (lambda: changed(iscrowd=True), {}),
    "without ids": (lambda: changed(id=None), {}),
    "numbered": (coco_data, {"renumber": True}),
    "text ids": (text_ids, {}),
    "annotations before images": (annotations_first, {}),
    "codes of its own": (coco_data, {"visibility": {0: 0, 2: 1}}),
    "positive codes": (lambda: changed(keypoints=[1, 2, 0.3] * 4), {"visibility": "positive"}),
    "counts from 1": (coco_data, {"one_based": ["keypoints", "box"]}),
    "whole images": (coco_data, {"crop": {"whole_image": True}}),
    "in parts": (
        lambda: changed(a=triples(TRUTH[0])[:3], b=triples(TRUTH[0])[3:], box_b=[1, 2, 3, 4]),
        {"parts": [{"keypoints": ["a", "b"], "box": "box_b"}]},
    ),
    "extras": (
        lambda: changed(blur=2.5, extra=None),
        {"extras": {"blur": "blur", "extra": "extra"}, "image_extras": {"height": "height"}},
    ),
}


@pytest.mark.parametrize("name", REGULAR)
def test_regular_files_read_alike_both_ways(name, both):
    make, options = REGULAR[name]
    assert len(both(make(), **options)) >= 3


@pytest.mark.parametrize(
    "fault",
    [
        {"keypoints": [1, 2, 3] * 4},
        {"keypoints": [1, 2] * 4},
        {"keypoints": [True, 2, 2] * 4},
        {"keypoints": ["1", 2, 2] * 4},
        {"keypoints": [1e39, 2, 2] * 4},
        {"bbox": [1, 2, 3]},
        {"bbox": [1, 2, 3, True]},
        {"bbox": "1234"},
        {"area": -1},
        {"area": True},
        {"image_id": 99},
        {"image_id": 7.0},
        {"category_id": 5},
        {"category_id": None},
        {"iscrowd": 2},
        {"id": 1},
        {"id": 1 << 63},
        {"id": True},
    ],
    ids=str,
)
def test_what_is_odd_is_read_or_refused_as_it_is_record_by_record(fault, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(changed(**fault)))
    split = SplitCard(name="all", annotations="a.json")

    def outcome(reader):
        try:
            return list(expanded(reader(tmp_path, split, SCHEMA)))
        except NotInBlocks:
            return "needs the whole file"
        except DatasetError as error:
            return str(error)

    expected, found = outcome(read), outcome(read_blocks)
    if found == "needs the whole file":
        assert fault.keys() <= {"id", "category_id"}
    elif isinstance(expected, str):
        assert found == expected
    else:
        assert_same(found, expected)


def test_mutated_files_read_alike_or_are_refused_by_both(tmp_path):
    split = SplitCard(name="all", annotations="a.json", images="img")
    regular = refused = 0
    for seed in range(300):
        tree = mutate_tree(coco_data(), random.Random(seed))  # noqa: S311
        (tmp_path / "a.json").write_text(json.dumps(tree))
        try:
            found = list(expanded(read_blocks(tmp_path, split, SCHEMA)))
        except NotInBlocks:
            continue
        except DatasetError:
            with pytest.raises(DatasetError):
                list(read(tmp_path, split, SCHEMA))
            refused += 1
            continue
        assert_same(found, list(read(tmp_path, split, SCHEMA)))
        regular += 1
    assert regular > 30
    assert refused > 30


def many(count):
    data = coco_data()
    template = data["annotations"][0]
    data["annotations"] = [
        {**template, "id": i, "image_id": 7 + i % 2, "area": i, "bbox": [i, 1, 2, 3]}
        for i in range(count)
    ]
    return data


def card_for(tmp_path, **split):
    from test_adapter_contract import card_of  # noqa: PLC0415

    return card_of("coco_json", SplitCard(annotations="a.json", images="img", **split))


def refuse(*_, **__):
    pytest.fail("read record by record")


def test_the_index_of_a_regular_file_never_asks_for_single_records(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text(json.dumps(many(2000)))
    monkeypatch.setattr("posekit.adapters.coco_json._RecordReader.instances", refuse)
    index = build_index(card_for(tmp_path), tmp_path, "all", tmp_path / "cache")
    assert index.columns.area.tolist() == list(range(2000))
    assert index.columns.image_path[index.columns.image_index[:3]].tolist() == [
        b"img/a.jpg",
        b"img/b.jpg",
        b"img/a.jpg",
    ]
    assert index.columns.image_path[-1] == b"img/c.jpg"


def nested(values):
    return [values[i : i + 3] for i in range(0, len(values), 3)]


@pytest.mark.parametrize("categories", ["last", "first", "none"])
def test_only_the_piece_with_an_odd_record_is_read_record_by_record(tmp_path, categories):
    data = many(2000)
    data["annotations"][1200]["keypoints"] = nested(data["annotations"][0]["keypoints"])
    named = {"categories": data.pop("categories")}
    data = {"last": {**data, **named}, "first": {**named, **data}, "none": data}[categories]
    (tmp_path / "a.json").write_text(json.dumps(data))
    split = SplitCard(name="all", annotations="a.json", images="img")
    items = list(read_blocks(tmp_path, split, SCHEMA))
    single = [item.instance_id for item in items if isinstance(item, Instance)]
    assert 1200 in single
    assert len(single) < 1900
    assert_same(list(expanded(items)), list(read(tmp_path, split, SCHEMA)))


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({"crop": {"side": 100}}, {"center": [3, 4], "scale": 1.5}),
        ({"head_box": {"field": "head"}}, {"head": [1, 2, 3, 4]}),
        ({"categories": ["thing"]}, {}),
        ({"parts": [{"valid": "good"}, {"valid": "bad"}]}, {"good": True, "bad": 1}),
    ],
)
def test_options_that_only_single_records_know_are_read_in_pieces_too(tmp_path, options, changes):
    data = many(700)
    for record in data["annotations"]:
        record.update(changes)
    data["categories"] = [{"id": 1, "name": "thing", "keypoints": []}]
    (tmp_path / "a.json").write_text(json.dumps(data))
    split = SplitCard(name="all", annotations="a.json", images="img", options=options)
    expected = list(read(tmp_path, split, SCHEMA))
    assert len(expected) > 700
    assert_same(list(read_blocks(tmp_path, split, SCHEMA)), expected)


def test_a_field_that_only_later_records_have_needs_the_whole_file(tmp_path):
    data = many(2000)
    for record in data["annotations"]:
        record.pop("num_keypoints", None)
    data["annotations"][1999]["num_keypoints"] = 3
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(NotInBlocks):
        list(read_blocks(tmp_path, SplitCard(annotations="a.json"), SCHEMA))
    index = build_index(card_for(tmp_path), tmp_path, "all", tmp_path / "cache")
    assert np.isnan(index.columns.extras["num_keypoints"]).sum() == 1999


@pytest.mark.parametrize("name", ["annotation 1999", "annotation at position 1999"])
def test_a_fault_late_in_the_file_is_named_with_its_record(name, tmp_path):
    data = many(2000)
    data["annotations"][1999]["bbox"] = [1]
    for record in data["annotations"]:
        if "position" in name:
            del record["id"]
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(DatasetError, match=f"{name}: bbox: found"):
        build_index(card_for(tmp_path), tmp_path, "all", tmp_path / "cache")


@pytest.mark.parametrize(
    "rule", [{"keep_every": 2}, {"leave_out_every": 2}, {"fraction": [0, 0.6]}, {"list": "l.txt"}]
)
def test_a_subset_of_blocks_is_the_subset_of_instances(rule, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(many(7)))
    (tmp_path / "l.txt").write_text("b.jpg\nc.jpg\n")
    card = card_for(tmp_path, options={"subset": rule})
    blocks = get_block_adapter(card)(tmp_path, card.split("all"), SCHEMA)
    single = list(get_adapter(card)(tmp_path, card.split("all"), SCHEMA))
    assert single
    assert_same(list(expanded(blocks)), single)


@pytest.mark.shared
@pytest.mark.parametrize("name", [name for name in SETS if name != "mpii"])
def test_real_files_read_alike_both_ways(name, reference):
    index = json.loads((reference / "samples" / "index.json").read_text())
    card = load_dataset_card(name)
    options = next(iter(card.splits.values())).options
    if name in AS_COCO:
        options = AS_COCO[name]
    split = SplitCard(name="all", annotations=index[name]["file"], options=options)
    try:
        found = list(expanded(read_blocks(reference / "samples", split, card.keypoint_schema)))
    except NotInBlocks:
        pytest.skip("its format is for the reader of single records")
    assert_same(found, list(read(reference / "samples", split, card.keypoint_schema)))


def test_names_are_compared_with_the_schema_s(tmp_path):
    data = coco_data()
    data["categories"][0]["keypoints"] = [*NAMES[1:], NAMES[0]]
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="expected one order of keypoints in both"):
        list(read_blocks(tmp_path, SplitCard(annotations="a.json"), SCHEMA))
