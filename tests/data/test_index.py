"""PoseIndex: what it holds, when it is built, and what goes wrong clearly."""

from __future__ import annotations

import errno
import hashlib
import pickle
import tracemalloc
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from toy_data import make_card, make_instance

from posekit.adapters.base import EmptyImage
from posekit.config.plug_ins import code_allowed
from posekit.data.columns import InstanceColumns
from posekit.data.index import PoseIndex, build_index
from posekit.data.index_build import ColumnFile
from posekit.errors import DatasetError, PosekitError
from posekit.output import write_json


def write_annotations(tmp_path: Path, text: str = "some text") -> Path:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    (root / "annotations.txt").write_text(text)
    return root


class CountingAdapter:
    """An adapter that counts how often it is asked."""

    __qualname__ = "CountingAdapter"

    def __init__(self, instances):
        self.instances, self.calls = instances, 0

    def __call__(self, root, split, schema):
        self.calls += 1
        return iter(self.instances)


def test_index_holds_what_the_adapter_gave(make_index):
    with_all = make_instance(
        3, crop_center=np.array([4.0, 5.0]), crop_size=np.array([6.0, 7.0]), extras={"head": 9.0}
    )
    bare = make_instance(4, box_xywh=None, area=None, image_size=None, extras={"head": np.nan})
    columns = make_index(instances=[with_all, bare], images=False).columns
    np.testing.assert_array_equal(columns.keypoints, [with_all.keypoints, bare.keypoints])
    np.testing.assert_array_equal(columns.visibility[0], [2, 2, 1, 2, 2])
    np.testing.assert_array_equal(columns.box_xywh[0], with_all.box_xywh)
    np.testing.assert_array_equal(columns.has_box, [True, False])
    np.testing.assert_array_equal(columns.area, [500.0, np.nan])
    np.testing.assert_array_equal(columns.instance_id, [4, 5])
    np.testing.assert_array_equal(columns.image_path, [b"images/3.png", b"images/4.png"])
    np.testing.assert_array_equal(columns.image_size, [[64, 96], [0, 0]])
    np.testing.assert_array_equal(columns.crop_center, [[4, 5], [np.nan, np.nan]])
    np.testing.assert_array_equal(columns.crop_size, [[6, 7], [np.nan, np.nan]])
    np.testing.assert_array_equal(columns.extras["head"], [9.0, np.nan])


def test_a_missing_box_becomes_the_extent_of_the_labelled_keypoints(make_index):
    one = make_instance(box_xywh=None)
    one.visibility[4] = 0
    low, high = one.keypoints[:4].min(axis=0), one.keypoints[:4].max(axis=0)
    index = make_index(instances=[one], images=False)
    np.testing.assert_allclose(index.columns.box_xywh[0], [*low, *(high - low)])


def test_chunks_follow_one_another(make_index, monkeypatch):
    monkeypatch.setattr("posekit.data.index_build.CHUNK", 3)
    index = make_index(10, images=False)
    np.testing.assert_array_equal(index.columns.instance_id, np.arange(1, 11))
    np.testing.assert_array_equal(
        index.columns.keypoints, [make_instance(i).keypoints for i in range(10)]
    )
    assert len(index.trainable) == 10


def test_text_ids_stay_text(make_index):
    one = make_instance(instance_id="human1", image_id="img")
    columns = make_index(instances=[one], images=False).columns
    assert columns.instance_id.tolist() == [b"human1"]
    assert columns.image_id.tolist() == [b"img"]


def test_images_without_instances_are_kept_with_their_numbers(make_index):
    empty = EmptyImage("images/empty.png", 77, (5, 6), {"crowd_index": 0.5})
    full = make_instance(0, extras={"crowd_index": 0.25})
    columns = make_index(instances=[empty, full], images=False).columns
    assert columns.image_id.tolist() == [77, 0]
    assert columns.image_index.tolist() == [1]
    np.testing.assert_array_equal(columns.image_extras["crowd_index"], [0.5, np.nan])


def test_reopening_asks_the_adapter_nothing(tmp_path):
    root, adapter = write_annotations(tmp_path), CountingAdapter([make_instance()])
    for _ in range(3):
        build_index(make_card(), root, "train", tmp_path / "cache", adapter=adapter)
    assert adapter.calls == 1


@pytest.mark.parametrize("change", ["file", "box", "schema"])
def test_changed_input_is_read_anew(tmp_path, change):
    root, adapter = write_annotations(tmp_path), CountingAdapter([make_instance()])
    build_index(make_card(), root, "train", tmp_path / "cache", adapter=adapter)
    card = make_card()
    if change == "file":
        write_annotations(tmp_path, "another text")
    elif change == "box":
        card = make_card(box={"source": "keypoints"})
    else:
        card = make_card(schema={"keypoints": ["a", "b", "c", "d", "e"]})
    build_index(card, root, "train", tmp_path / "cache", adapter=adapter)
    assert adapter.calls == 2


def test_changed_notes_are_no_reason_to_read_anew(tmp_path):
    root, adapter = write_annotations(tmp_path), CountingAdapter([make_instance()])
    build_index(make_card(), root, "train", tmp_path / "cache", adapter=adapter)
    build_index(make_card(notes="new"), root, "train", tmp_path / "cache", adapter=adapter)
    assert adapter.calls == 1


def test_a_list_file_named_in_the_options_counts_as_input(tmp_path):
    root, adapter = write_annotations(tmp_path), CountingAdapter([make_instance()])
    splits = {"train": {"annotations": "annotations.txt", "options": {"subset": {"list": "t.txt"}}}}
    for text in ("a", "a and b"):
        (root / "t.txt").write_text(text)
        build_index(make_card(splits=splits), root, "train", tmp_path / "cache", adapter=adapter)
    assert adapter.calls == 2


def test_data_hash_is_the_sha256_of_the_annotation_file(tmp_path):
    root = write_annotations(tmp_path, "content")
    index = build_index(
        make_card(), root, "train", tmp_path / "cache", adapter=CountingAdapter([make_instance()])
    )
    assert index.data_hash == hashlib.sha256(b"content").hexdigest()


def test_rows_that_cannot_be_trained_on_are_counted_by_reason(make_index):
    nothing = np.zeros(5, np.uint8)
    index = make_index(
        instances=[
            make_instance(0),
            make_instance(1, is_crowd=True),
            make_instance(2, visibility=nothing),
            make_instance(3, box_xywh=np.array([5.0, 5.0, 0.0, 3.0])),
            make_instance(4, box_xywh=np.array([200.0, 5.0, 10.0, 30.0])),
            make_instance(5, area=0.0),
            make_instance(6, area=None),
        ],
        images=False,
    )
    assert index.trainable.tolist() == [0, 6]
    assert index.skipped == {
        "crowd region": 1,
        "no labelled keypoint": 1,
        "no usable box": 2,
        "no area": 1,
    }


def test_nothing_to_train_on_is_one_clear_error(make_index):
    nothing = np.zeros(5, np.uint8)
    index = make_index(instances=[make_instance(i, visibility=nothing) for i in range(3)])
    with pytest.raises(DatasetError, match=r"annotations.txt: none of its 3 instances can be"):
        index.require_trainable()


def test_a_file_without_instances_is_an_error(make_index):
    with pytest.raises(DatasetError, match="it holds no instance"):
        make_index(instances=[])


@pytest.mark.parametrize("by", [(2, 5), ("images/2.png", "images/5.png")])
def test_excluded_images_are_left_out_of_training(make_index, by):
    index = make_index(6, exclude=by)
    assert index.trainable.tolist() == [0, 1, 3, 4]
    assert index.skipped["excluded image"] == 2
    assert pickle.loads(pickle.dumps(index)).trainable.tolist() == [0, 1, 3, 4]  # noqa: S301


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": np.zeros((4, 2), np.float32)}, r"shape \(4, 2\).*expected \(5, 2\)"),
        ({"visibility": np.array([2, 2, 3, 2, 2])}, "found visibility 3, expected 0, 1 or 2"),
        ({"keypoints": np.full((5, 2), np.nan, np.float32)}, "is not a finite number"),
        ({"extras": {"head": 1.0}}, "extra number 'head'"),
    ],
)
def test_an_instance_that_does_not_fit_is_named(make_index, changes, message):
    with pytest.raises(DatasetError, match=message) as caught:
        make_index(instances=[make_instance(0), make_instance(1, **changes)], images=False)
    assert "instance 2 of image images/1.png" in str(caught.value)


def test_missing_folder_and_file_are_named(tmp_path):
    with code_allowed(), pytest.raises(DatasetError, match=r"nowhere: there is no such folder"):
        build_index(make_card(), tmp_path / "nowhere", "train", tmp_path)
    with code_allowed(), pytest.raises(DatasetError, match=r"annotations.txt: there is no such"):
        build_index(make_card(), tmp_path, "train", tmp_path)


def test_a_full_disk_leaves_no_half_written_cache(make_index, tmp_path, monkeypatch):
    def full(self, rows):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ColumnFile, "append", full)
        with pytest.raises(PosekitError, match=r"No space left on device.*POSEKIT_CACHE"):
            make_index()
    assert list((tmp_path / "cache" / "indices").iterdir()) == []
    assert len(make_index()) == 8


def test_of_two_builders_at_once_one_wins_and_both_read_it(tmp_path):
    root = write_annotations(tmp_path)

    class Racing(CountingAdapter):
        def __call__(self, *arguments):
            first = super().__call__(*arguments)
            if self.calls == 1:
                build_index(make_card(), root, "train", tmp_path / "cache", adapter=self)
            return first

    adapter = Racing([make_instance(i) for i in range(3)])
    index = build_index(make_card(), root, "train", tmp_path / "cache", adapter=adapter)
    assert adapter.calls == 2
    assert len(index) == 3
    assert [entry.name for entry in (tmp_path / "cache" / "indices").iterdir()] == [
        index.folder.name
    ]


def test_a_damaged_cache_is_made_anew(make_index):
    index = make_index(6)
    with (index.folder / "keypoints.npy").open("rb+") as stream:
        stream.truncate(150)
    again = make_index(6)
    np.testing.assert_array_equal(again.columns.keypoints[5], make_instance(5).keypoints)


def inflate(index: PoseIndex, count: int, folder: Path) -> PoseIndex:
    """Write an index of `count` rows that all repeat the first one of another."""
    folder.mkdir()
    for field in fields(InstanceColumns):
        if "extras" not in field.name:
            column = np.asarray(getattr(index.columns, field.name))
            np.save(folder / f"{field.name}.npy", np.repeat(column[:1], count, axis=0))
    np.save(folder / "trainable.npy", np.arange(count))
    write_json(folder / "index.json", {"data_hash": "", "skipped": {}})
    return PoseIndex(folder, index.card, index.root, index.split)


def test_opening_200000_instances_allocates_less_than_a_megabyte(make_index, tmp_path):
    large = inflate(make_index(1), 200_000, tmp_path / "large")
    tracemalloc.start()
    index = PoseIndex(large.folder, large.card, large.root, large.split)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index.trainable) == 200_000
    assert peak < 1_000_000


def test_a_pickled_index_holds_no_columns(make_index, tmp_path):
    small = make_index(1)
    large = inflate(small, 200_000, tmp_path / "large")
    assert abs(len(pickle.dumps(large)) - len(pickle.dumps(small))) < 200
    opened = pickle.loads(pickle.dumps(large))  # noqa: S301
    assert isinstance(opened.columns.keypoints.base, np.memmap)
    assert isinstance(opened.trainable, np.memmap)
