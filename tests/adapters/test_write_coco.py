"""What is written as COCO reads back equal, bit by bit."""

import json

import numpy as np
import pytest
from format_writers import FORMATS, SCHEMA
from hypothesis import given, settings
from hypothesis import strategies as st
from test_adapter_contract import read_all

from posekit.adapters import EmptyImage, Instance
from posekit.adapters.write_coco import write_coco
from posekit.errors import DatasetError, OutputError

NUMBER = st.floats(-1e5, 1e5, width=32)


@st.composite
def instance_lists(draw):
    """Instances with everything that one can have, two an image at most, ids of either kind."""
    text = draw(st.booleans())
    items = []
    for number in range(draw(st.integers(1, 4))):
        image = number // 2
        visibility = np.array(draw(st.lists(st.integers(0, 2), min_size=4, max_size=4)), np.uint8)
        flat = draw(st.lists(NUMBER, min_size=8, max_size=8))
        points = np.where(visibility[:, None] > 0, np.array(flat).reshape(4, 2), 0)
        box = draw(st.none() | st.lists(st.floats(-1e9, 1e9), min_size=4, max_size=4))
        items.append(
            Instance(
                image=f"img/{image}ä.jpg",
                image_id=f"i{image}" if text else image - 2**40,
                instance_id=f"a{number}" if text else number,
                keypoints=points.astype(np.float32),
                visibility=visibility,
                box_xywh=None if box is None else np.array(box),
                area=draw(st.none() | st.floats(0, 1e9)),
                category_id=draw(st.integers(0, 3)),
                is_crowd=draw(st.booleans()),
                image_size=(40, 50),
                crop_center=np.array([1.1, 2.2]),
                crop_size=np.array([3.3, 4.4]),
                extras={"head_size": draw(st.floats(0, 9) | st.just(float("nan")))},
            )
        )
    return [*items, EmptyImage("img/none.jpg", "none" if text else 9, (7, 8), {"crowd": 0.5})]


def assert_equal(ours, read):
    assert (read.image, read.image_id, read.image_size) == (
        ours.image,
        ours.image_id,
        ours.image_size,
    )
    if isinstance(ours, EmptyImage):
        assert read.extras["crowd"] == ours.extras["crowd"]
        return
    assert (read.instance_id, read.category_id) == (ours.instance_id, ours.category_id)
    assert (read.area, read.is_crowd) == (ours.area, ours.is_crowd)
    for name in ("keypoints", "visibility", "box_xywh", "crop_center", "crop_size"):
        np.testing.assert_array_equal(getattr(read, name), getattr(ours, name))
    for name, value in ours.extras.items():
        np.testing.assert_equal(read.extras[name], value)


@settings(max_examples=60, deadline=None)
@given(items=instance_lists())
def test_any_instances_read_back_bit_by_bit(items, tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    split = write_coco(root / "out.json", items, SCHEMA)
    for ours, read in zip(items, read_all("coco_json", split, root), strict=True):
        assert_equal(ours, read)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_survives_the_way_through_coco(form, tmp_path):
    adapter, write, _ = FORMATS[form]
    items = read_all(adapter, write(tmp_path), tmp_path)
    split = write_coco(tmp_path / "out.json", items, SCHEMA, {1: "mouse"})
    for ours, read in zip(items, read_all("coco_json", split, tmp_path), strict=True):
        assert_equal(ours, read)


def test_categories_carry_names_skeleton_from_one_and_flip_pairs(tmp_path):
    adapter, write, _ = FORMATS["coco_json"]
    items = read_all(adapter, write(tmp_path), tmp_path)
    schema = type(SCHEMA)("toy", SCHEMA.keypoints, SCHEMA.flip_pairs, (("nose", "tail_base"),))
    write_coco(tmp_path / "out.json", items, schema, {1: "mouse"})
    category = json.loads((tmp_path / "out.json").read_text())["categories"][0]
    assert category["name"] == "mouse"
    assert category["keypoints"] == list(SCHEMA.keypoints)
    assert category["skeleton"] == [[1, 4]]
    assert category["flip_pairs"] == [["left_eye", "right_eye"]]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    (tmp_path / "out.json").write_text("kept")

    def broken():
        yield from ()
        raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        write_coco(tmp_path / "out.json", broken(), SCHEMA)
    assert (tmp_path / "out.json").read_text() == "kept"
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]
    with pytest.raises(OutputError, match=r"written \(.*out.json is not a folder\)"):
        write_coco(tmp_path / "out.json" / "out.json", [], SCHEMA)


def test_an_image_id_for_two_images_and_an_extra_called_like_a_field_are_refused(tmp_path):
    items = [EmptyImage("a.jpg", 1), EmptyImage("b.jpg", 1)]
    with pytest.raises(DatasetError, match=r"image 1: its id stands for a\.jpg and b\.jpg"):
        write_coco(tmp_path / "out.json", items, SCHEMA)
    point, code = np.zeros((4, 2), np.float32), np.zeros(4, np.uint8)
    clash = Instance("a.jpg", 1, 1, point, code, extras={"bbox": 1.0})
    with pytest.raises(DatasetError, match=r"an extra is called 'bbox' like a field of COCO"):
        write_coco(tmp_path / "out.json", [clash], SCHEMA)
