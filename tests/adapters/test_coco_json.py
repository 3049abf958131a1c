"""COCO-style JSON: what may be missing, what may be odd, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from format_writers import NAMES, SCHEMA, coco_data

from posekit.adapters import EmptyImage
from posekit.adapters.coco_file import CocoFile
from posekit.adapters.coco_json import read
from posekit.config.cards import SplitCard
from posekit.errors import ConfigError, DatasetError
from posekit.schema import KeypointSchema


@pytest.fixture
def load(tmp_path):
    def run(data, images="", schema=SCHEMA, **options):
        text = data if isinstance(data, str) else json.dumps(data)
        (tmp_path / "a.json").write_text(text)
        split = SplitCard(name="all", annotations="a.json", images=images, options=options)
        return list(read(tmp_path, split, schema))

    return run


def one(**changes):
    """A file of one image and one annotation; a value of `...` takes the key out."""
    data = coco_data()
    data["images"], data["annotations"] = data["images"][:1], data["annotations"][:1]
    annotation = data["annotations"][0]
    for key, value in changes.items():
        if value is ...:
            annotation.pop(key)
        else:
            annotation[key] = value
    return data


def test_missing_area_box_and_num_keypoints_are_told_as_missing(load):
    instance = load(one(area=..., bbox=..., num_keypoints=..., iscrowd=...))[0]
    assert instance.area is None
    assert instance.box_xywh is None
    assert instance.is_crowd is False
    assert "num_keypoints" not in instance.extras


def test_null_fields_count_as_missing(load):
    instance = load(one(area=None, bbox=[], iscrowd=None))[0]
    assert instance.area is None
    assert instance.box_xywh is None


def test_crowd_regions_are_marked_under_both_spellings(load):
    assert load(one(iscrowd=1))[0].is_crowd
    assert load(one(iscrowd=..., is_crowd=1))[0].is_crowd


def test_unlabelled_points_become_zero_whatever_stood_there(load):
    keypoints = [9.0, 9.0, 0, 1, 2, 1, 3, 4, 2, float("nan"), 0, 0]
    instance = load(one(keypoints=keypoints))[0]
    np.testing.assert_array_equal(instance.visibility, [0, 1, 2, 0])
    np.testing.assert_array_equal(instance.keypoints, [[0, 0], [1, 2], [3, 4], [0, 0]])


def test_nested_keypoints_equal_flat_ones(load):
    data = one()
    flat = load(data)[0].keypoints
    values = data["annotations"][0]["keypoints"]
    nested = load(one(keypoints=[values[i : i + 3] for i in range(0, 12, 3)]))[0].keypoints
    np.testing.assert_array_equal(flat, nested)


@pytest.mark.parametrize("image_id", [0, 1, 10**15, -3, "000123", "é"])
@pytest.mark.parametrize("annotation_id", [0, 2**40, "abc"])
def test_ids_of_any_size_zero_and_text_are_kept(load, image_id, annotation_id):
    data = one(image_id=image_id, id=annotation_id)
    data["images"][0]["id"] = image_id
    instance = load(data)[0]
    assert (instance.image_id, instance.instance_id) == (image_id, annotation_id)


def test_annotations_without_ids_are_numbered_from_one(load):
    data = coco_data()
    for annotation in data["annotations"]:
        del annotation["id"]
    assert [instance.instance_id for instance in load(data)] == [1, 2, 3]


def test_images_without_annotations_come_last_as_empty(load):
    data = coco_data()
    del data["annotations"][0]
    last = load(data, "img")[-1]
    assert isinstance(last, EmptyImage)
    assert (last.image, last.image_id, last.image_size) == ("img/a.jpg", 7, (80, 90))


def test_empty_and_absent_keypoint_lists_of_categories_pass(load):
    for keypoints in ([], ...):
        data = one()
        if keypoints is ...:
            del data["categories"][0]["keypoints"]
        else:
            data["categories"][0]["keypoints"] = keypoints
        assert len(load(data)) == 1


def test_annotations_of_a_category_without_keypoints_are_left_out(load):
    data = coco_data()
    data["categories"].append({"id": 0, "name": "cage"})
    data["annotations"].append({"id": 9, "image_id": 7, "category_id": 0, "bbox": [0, 0, 9, 9]})
    assert len(load(data)) == 3


def test_the_option_categories_keeps_those_named(load):
    data = coco_data()
    data["categories"].append({"id": 5, "name": "rat", "keypoints": list(NAMES)})
    data["annotations"][2]["category_id"] = 5
    assert [i.instance_id for i in load(data, categories=["rat"]) if hasattr(i, "area")] == [2]
    assert [i.instance_id for i in load(data, categories=[1]) if hasattr(i, "area")] == [0, 1]
    with pytest.raises(ConfigError, match=r"'categories' asks for \['cat'\].*has mouse, rat"):
        load(data, categories=["cat"])


def test_numbers_beside_the_annotation_become_extras(load):
    data = one(head_size=12.5)
    data["images"][0]["crowdIndex"] = 0.25
    instance = load(data, extras={"head": "head_size"}, image_extras={"crowd_index": "crowdIndex"})
    assert instance[0].extras == {"head": 12.5, "num_keypoints": 4.0, "crowd_index": 0.25}


def test_crops_from_center_and_scale(load):
    data = one(center=[10.0, 20.0], scale=0.5)
    center, size = load(data, crop={})[0].crop_center, load(data, crop={})[0].crop_size
    np.testing.assert_allclose([center, size], [[10, 20], [100, 100]])
    inverse = load(data, crop={"side": 256, "inverse": True}, one_based=["center"])[0]
    np.testing.assert_allclose([inverse.crop_center, inverse.crop_size], [[9, 19], [512, 512]])


def test_one_based_coordinates_lose_one(load):
    plain = load(one(keypoints=[5, 6, 2, 0, 0, 0, 7, 8, 1, 9, 9, 2]))[0]
    moved = load(
        one(keypoints=[6, 7, 2, 0, 0, 0, 8, 9, 1, 10, 10, 2], bbox=[2, 3, 70, 66]),
        one_based=["keypoints", "box"],
    )[0]
    np.testing.assert_array_equal(plain.keypoints, moved.keypoints)
    np.testing.assert_array_equal(plain.box_xywh, moved.box_xywh)


def test_parts_laid_end_to_end_make_one_instance(load):
    data = one(keypoints=[1, 2, 2, 3, 4, 2], foot=[5, 6, 1, 7, 8, 0.4])
    parts = [{"keypoints": ["keypoints", "foot"]}]
    instance = load(data, parts=parts, visibility="positive")[0]
    np.testing.assert_array_equal(instance.keypoints, [[1, 2], [3, 4], [5, 6], [7, 8]])


def test_several_parts_make_several_instances_where_valid(load):
    hand = [1, 1, 1] * len(SCHEMA)
    data = one(left=hand, left_ok=False, left_box=[0, 0, 5, 5])
    data["annotations"][0] |= {"right": hand, "right_ok": True, "right_box": [9, 9, 5, 5]}
    parts = [{"keypoints": [s], "box": f"{s}_box", "valid": f"{s}_ok"} for s in ("left", "right")]
    instances = load(data, parts=parts)
    assert [instance.box_xywh.tolist() for instance in instances] == [[9, 9, 5, 5]]
    assert instances[0].area is None


def test_atrw_filename_and_backslashes_name_images(load):
    data = one()
    data["images"][0]["filename"] = "clip\\" + data["images"][0].pop("file_name")
    assert load(data, "img")[0].image == "img/clip/a.jpg"


FAULTS = {
    "a list": ([], r"found a list, expected an object.*check the card's adapter"),
    "truncated": ('{"images": [', r"not valid JSON.*line 1, column 13.*cut short"),
    "empty": ("", r"not valid JSON"),
    "no images": ({"annotations": []}, r"key 'images' is missing \(found annotations"),
    "images no list": ({"images": {}, "annotations": []}, r"images: found \{\}, expected a list"),
    "bad number": (one(bbox=[1, 2, "3", 4]), r"annotation 0: bbox: found '3', expected a number"),
    "short box": (one(bbox=[1, 2, 3]), r"found \[1, 2, 3\], expected 4 numbers"),
    "short": (one(keypoints=[1, 2, 2]), r"found 3 numbers, expected 12 \(x, y, visibility of 4"),
    "text": (one(keypoints=["1"] * 12), r"keypoints: found .*expected a list of numbers"),
    "ragged": (one(keypoints=[[1, 2], [3]]), r"expected a list of numbers"),
    "no points": (one(keypoints=...), r"annotation 0: key 'keypoints' is missing"),
    "NaN": (
        one(keypoints=[float("nan"), 1, 2, *[1] * 9]),
        r"keypoint 'nose' is labelled but stands at \(nan, 1\.0\).*not labelled",
    ),
    "huge": (one(keypoints=[1e39, 1, 2, *[1] * 9]), r"expected finite coordinates"),
    "visibility": (one(keypoints=[1, 1, 3, *[1] * 9]), r"found visibility 3, expected 0, 1 or 2"),
    "crowd": (one(iscrowd="yes"), r"iscrowd: found 'yes', expected 0 or 1"),
    "area": (one(area=-4), r"area: found -4, expected square pixels"),
    "image": (one(image_id=99), r"annotation 0: image_id 99 names no image"),
    "text id": (one(image_id="7"), r"image_id '7' names no image of the file \(ids there are num"),
    "category": (one(category_id=4), r"category_id 4 is not among the file's categories \(1\)"),
    "big id": (one(id=2**70), r"id: found a huge integer, expected a whole number of at most 64"),
    "bool id": (one(id=True), r"id: found True, expected a number"),
    "half id": (one(id=1.5), r"id: found 1\.5, expected a whole number"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_file_record_found_and_expected(load, fault):
    data, message = FAULTS[fault]
    with pytest.raises(DatasetError, match=message) as caught:
        load(data)
    assert caught.value.file.endswith("a.json")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../secret.jpg", r"does not name a file below the image folder; take out the '\.\.'"),
        ("/etc/passwd", r"is an absolute path, expected one below the image folder"),
        ("C:\\x.jpg", r"is an absolute path"),
        ("a\\..\\..\\b.jpg", r"does not name a file below"),
        ("", r"found '', expected a file name"),
        (5, r"found 5, expected a file name"),
        ("a\0b", r"expected a file name"),
    ],
)
def test_image_names_stay_below_the_image_folder(load, name, message):
    data = one()
    data["images"][0]["file_name"] = name
    with pytest.raises(DatasetError, match=message):
        load(data)


def test_repeated_ids_are_refused_with_a_way_out(load):
    data = coco_data()
    data["annotations"][1]["id"] = 0
    with pytest.raises(DatasetError, match=r"annotation 0: its id appears twice.*renumber: true"):
        load(data)
    assert [instance.instance_id for instance in load(data, renumber=True)] == [1, 2, 3]
    data = coco_data()
    data["images"][1]["id"] = 7
    with pytest.raises(DatasetError, match=r"image 7: its id appears twice, for a\.jpg and b\.jpg"):
        load(data)


def test_ids_present_on_some_annotations_only_are_refused(load):
    data = coco_data()
    del data["annotations"][1]["id"]
    with pytest.raises(DatasetError, match=r"1 of 3 annotations have no id.*renumber"):
        load(data)


def test_the_same_names_in_another_order_are_refused(load):
    data = one()
    data["categories"][0]["keypoints"] = ["Nose", "R_Eye", "L_Eye", "TailBase"]
    with pytest.raises(DatasetError, match=r"keypoint 1 is 'right_eye' where the schema has 'left"):
        load(data)
    assert load(data, trust_order=True)


def test_a_category_with_another_number_of_keypoints_is_refused(load):
    data = one()
    data["categories"][0]["keypoints"] = ["nose"]
    with pytest.raises(DatasetError, match=r"category 1: it lists 1 keypoints, expected the 4"):
        load(data)


def test_other_words_for_the_keypoints_pass(load):
    other = KeypointSchema("other", ("a", "b", "c", "d"))
    assert load(one(), schema=other)


def test_codes_of_visibility_can_be_translated(load):
    data = one(keypoints=[1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 1])
    instance = load(data, visibility={1: 2, 2: 1, 3: 0})[0]
    np.testing.assert_array_equal(instance.visibility, [2, 1, 0, 2])
    with pytest.raises(ConfigError, match=r"expected codes of the file mapped to 0, 1 or 2"):
        load(data, visibility={1: 7})


@pytest.mark.parametrize("kind", [int, float])
@pytest.mark.parametrize("side", [1, 1 << 30])
def test_an_image_may_be_as_small_or_as_large_as_the_limits(kind, side):
    coco = CocoFile(Path("a.json"))
    coco.add_images([{"id": 1, "file_name": "a.jpg", "height": kind(side), "width": kind(side)}])
    assert coco.images[1].image_size == (side, side)


@pytest.mark.parametrize("kind", [int, float])
@pytest.mark.parametrize("size", [(-1, 9), (9, -1), (9, (1 << 30) + 1), ((1 << 30) + 1, 9)])
def test_an_image_beyond_the_limits_of_size_is_named(kind, size):
    record = {"id": 1, "file_name": "a.jpg", "height": kind(size[0]), "width": kind(size[1])}
    with pytest.raises(DatasetError, match=r"image 1.*expected positive sizes"):
        CocoFile(Path("a.json")).add_images([record])
