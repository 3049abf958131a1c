"""Poses leave in every form and come back as they were, missing keypoints included."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posekit.adapters.pandas_hdf import read_frame
from posekit.errors import ConfigError, DatasetError, PosekitError, PredictionError
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema

SCHEMA = KeypointSchema(
    "dog",
    ("nose", "box", "left_ear", "right_ear"),  # 'box' is also the beginning of columns
    flip_pairs=(("left_ear", "right_ear"),),
    skeleton=(("nose", "left_ear"), ("nose", "right_ear")),
)
NAMES = ("a, b.jpg", "folder/ü.jpg", "clip.mp4, frame 7", "clip.mp4, frame 9")


@st.composite
def some_poses(draw, tracked: bool | None = None, at_least: int = 1) -> Poses:
    """Poses of up to 6 instances in 4 images, some keypoints missing."""
    n = draw(st.integers(at_least, 6))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    points = rng.uniform(-20, 500, (n, len(SCHEMA), 2))
    scores = rng.uniform(0.05, 1, (n, len(SCHEMA))).astype(np.float32)
    missing = rng.random(scores.shape) < 0.2
    missing[:, 0] = False
    points[missing], scores[missing] = np.nan, 0
    is_tracked = draw(st.booleans()) if tracked is None else tracked
    # One instance of a track in one image: tracks are the columns of DeepLabCut.
    places = rng.choice(len(NAMES) * 3, n, replace=False)
    return Poses(
        "head", SCHEMA, points, scores, rng.uniform(1, 300, (n, 4)), rng.uniform(0.1, 1, n),
        places // 3, NAMES, ((480, 640), (480, 640), (90, 90), (90, 90)),
        places % 3 + 1 if is_tracked else None,
    )  # fmt: skip


def ordered(poses: Poses) -> Poses:
    """Return the poses in the order of their images' names and first keypoint."""
    names = np.array(poses.image_names)[poses.image_index]
    return poses.take(np.lexsort((np.round(poses.keypoints[:, 0, 0], 2), names)))


def check_same(again: Poses, poses: Poses, *, near: float = 1e-3, boxes: bool = True) -> None:
    again, poses = ordered(again), ordered(poses)
    assert again.schema.keypoints == poses.schema.keypoints
    assert again.schema.flip_pairs == poses.schema.flip_pairs
    assert np.asarray(again.keypoints) == pytest.approx(poses.keypoints, abs=near, nan_ok=True)
    assert again.scores == pytest.approx(poses.scores, abs=near)
    names, others = (np.array(p.image_names)[p.image_index].tolist() for p in (poses, again))
    assert names == others
    if boxes:
        assert again.box_xywh == pytest.approx(poses.box_xywh, abs=0.01)
        assert again.box_scores == pytest.approx(poses.box_scores, abs=near)
        sizes = [[p.image_sizes[i] for i in p.image_index] for p in (poses, again)]
        assert sizes[0] == sizes[1]
    if poses.track_id is None:
        assert again.track_id is None
    else:
        assert again.track_id is not None
        assert again.track_id.tolist() == poses.track_id.tolist()


def extent(poses: Poses) -> np.ndarray:
    low, high = np.nanmin(poses.keypoints, axis=1), np.nanmax(poses.keypoints, axis=1)
    return np.concatenate([low, high - low], axis=1)


quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(poses=some_poses(at_least=0))
def test_coco_gives_back_every_image_box_track_and_missing_keypoint(poses: Poses, tmp_path: Path):
    file = poses.save(tmp_path / "p.json")
    assert "NaN" not in file.read_text()
    again = Poses.from_file(file)
    assert again.image_names == NAMES
    assert again.schema.skeleton == SCHEMA.skeleton
    check_same(again, poses if len(poses) else replace(poses, track_id=None))
    direct = Poses.from_coco(poses.to_coco())
    assert direct.image_sizes == poses.image_sizes


@quick
@given(poses=some_poses())
def test_csv_gives_back_what_it_was_made_of(poses: Poses, tmp_path: Path):
    again = Poses.from_file(poses.save(tmp_path / "p.csv"))
    check_same(again, poses)
    assert again.head == "head"


@quick
@given(poses=some_poses())
def test_pandas_gives_back_what_it_was_made_of(poses: Poses):
    pytest.importorskip("pandas", reason="pandas is not installed")
    table = poses.to_pandas()
    again = Poses.from_pandas(table.sample(frac=1, random_state=1))
    assert again.schema == SCHEMA
    check_same(again, poses, near=1e-6)
    check_same(Poses.from_pandas(table[table.score > 0]), poses, near=1e-6)


@quick
@given(poses=some_poses(), detections=st.booleans())
def test_supervision_gives_back_what_it_was_made_of(poses: Poses, detections: bool):
    pytest.importorskip("supervision", reason="supervision is not installed")
    given = poses.to_supervision(detections=detections)
    check_same(Poses.from_supervision(given), poses)
    first = given[np.arange(len(poses)) < 1]
    check_same(Poses.from_supervision(first), poses[:1])


def test_supervision_without_our_data_needs_a_schema_and_gets_boxes_around_the_points():
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    found = supervision.KeyPoints(xy=np.array([[[1, 2], [0, 0], [3, 8], [2, 2]]], np.float32))
    with pytest.raises(PredictionError, match="the schema that names them"):
        Poses.from_supervision(found)
    poses = Poses.from_supervision(found, SCHEMA)
    assert poses.box_xywh.tolist() == [[0, 0, 3, 8]]
    assert poses.image_names == ("image 0",)
    boxes = supervision.Detections(xyxy=np.array([[0.0, 0, 1, 1]]))
    with pytest.raises(PredictionError, match="Detections cannot become poses"):
        Poses.from_supervision(boxes, SCHEMA)


@quick
@given(poses=some_poses(), ending=st.sampled_from([".csv", ".h5"]))
def test_deeplabcut_gives_back_points_scores_images_and_individuals(
    poses: Poses, ending: str, tmp_path: Path
):
    if ending == ".h5":
        pytest.importorskip("tables", reason="PyTables is not installed")
    file = poses.to_deeplabcut(tmp_path / f"p{ending}")
    again = Poses.from_deeplabcut(file)
    assert again.image_names == NAMES
    individuals = len({*(poses.track_id if poses.track_id is not None else [])})
    if individuals < 2:  # untracked instances of an image become individuals, one track nobody
        again, poses = replace(again, track_id=None), replace(poses, track_id=None)
    check_same(again, poses, boxes=False)
    assert ordered(again).box_xywh == pytest.approx(extent(ordered(poses)), abs=1e-3)
    assert len(Poses.from_file(file)) == len(poses)


def test_individuals_with_names_are_numbered_and_unique_body_parts_left_out(tmp_path: Path):
    animals = ["mouse1", "rat1", "single"]
    rows = [["scorer", *"s" * 6], ["individuals", *(animal for animal in animals for _ in "xy")]]
    rows += [["bodyparts", *"nnnn", "lamp", "lamp"], ["coords", *"xy" * 3], ["a.png", *range(6)]]
    with (tmp_path / "p.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    poses = Poses.from_deeplabcut(tmp_path / "p.csv")
    assert poses.schema.keypoints == ("n",)
    assert poses.track_id is not None
    assert poses.track_id.tolist() == [1, 2]
    assert poses["n"].tolist() == [[0, 1, 1], [2, 3, 1]]


def test_the_hdf_file_takes_many_keypoints_of_many_animals(tmp_path: Path):
    pytest.importorskip("tables", reason="PyTables is not installed")
    schema = KeypointSchema("many", tuple(f"a_keypoint_with_a_long_name_{i}" for i in range(133)))
    poses = Poses(
        "head", schema, np.ones((8, 133, 2)), np.ones((8, 133), np.float32), np.ones((8, 4)),
        np.ones(8), np.zeros(8, dtype=np.int64), ("a.jpg",), ((9, 9),),
    )  # fmt: skip
    assert len(Poses.from_file(poses.save(tmp_path / "p.h5"))) == 8


def test_pandas_reads_the_hdf_file_as_deeplabcut_does(tmp_path: Path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("tables", reason="PyTables is not installed")
    poses = multi_animal()
    frame = pandas.read_hdf(poses.save(tmp_path / "p.h5"))
    assert list(frame.columns.names) == ["scorer", "individuals", "bodyparts", "coords"]
    cell = frame.loc["b.jpg", ("posekit", "individual4", "left_ear", "x")]
    assert cell == poses.keypoints[2, 2, 0]
    assert np.isnan(frame.loc["b.jpg", ("posekit", "individual3", "left_ear", "x")])
    single = pandas.read_hdf(poses[:1].to_deeplabcut(tmp_path / "one.h5", "me"))
    assert list(single.columns.names) == ["scorer", "bodyparts", "coords"]
    columns, rows, _ = read_frame(tmp_path / "one.h5")  # without pandas, without a pickle
    assert columns[0] == ("me", "nose", "x")
    assert rows == [("a.jpg",), ("b.jpg",)]


def test_what_analyze_videos_writes_is_read_with_its_table_layout_and_frame_numbers(tmp_path: Path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("tables", reason="PyTables is not installed")
    header = pandas.MultiIndex.from_product(
        [["DLC_resnet50"], ["Snout", "leftear"], ["x", "y", "likelihood"]],
        names=["scorer", "bodyparts", "coords"],
    )
    frame = pandas.DataFrame([[1.0, 2, 0.5, 3, 4, 0.25]] * 3, columns=header)
    frame.to_hdf(tmp_path / "v.h5", key="df_with_missing", format="table", mode="w")
    poses = Poses.from_deeplabcut(tmp_path / "v.h5")
    assert poses.schema.keypoints == ("snout", "leftear")
    assert poses.image_names == ("0", "1", "2")
    assert poses.scores[0].tolist() == [0.5, 0.25]
    wanted = KeypointSchema("mouse", ("left_ear", "snout"))
    assert Poses.from_deeplabcut(tmp_path / "v.h5", wanted).keypoints[0].tolist() == [
        [3, 4],
        [1, 2],
    ]


@quick
@given(poses=some_poses())
def test_sleap_gives_back_points_scores_tracks_and_images(poses: Poses, tmp_path: Path):
    pytest.importorskip("sleap_io", reason="sleap-io is not installed")
    again = Poses.from_file(poses.save(tmp_path / "p.slp"))
    assert again.image_names == NAMES
    assert again.image_sizes == poses.image_sizes
    assert again.schema.skeleton == SCHEMA.skeleton
    check_same(again, poses, boxes=False)
    assert ordered(again).instance_scores == pytest.approx(ordered(poses).instance_scores)


def test_labels_of_sleap_score_one_and_a_hidden_node_is_missing(tmp_path: Path):
    sleap = pytest.importorskip("sleap_io", reason="sleap-io is not installed")
    skeleton = sleap.Skeleton(["Nose", "Tail"])
    animal = sleap.Instance.from_numpy(np.array([[1.0, 2], [np.nan, np.nan]]), skeleton)
    video = sleap.Video("v.mp4", backend_metadata={"filename": "v.mp4"}, open_backend=False)
    frame = sleap.LabeledFrame(video=video, frame_idx=5, instances=[animal])
    sleap.save_slp(sleap.Labels([frame]), str(tmp_path / "l.slp"))
    poses = Poses.from_sleap(tmp_path / "l.slp")
    assert poses.schema.keypoints == ("nose", "tail")
    assert poses.scores.tolist() == [[1, 0]]
    assert np.isnan(poses.keypoints[0, 1]).all()
    assert poses.image_names == ("v.mp4, frame 5",)
    assert poses.box_scores.tolist() == [1.0]


def multi_animal() -> Poses:
    rng = np.random.default_rng(0)
    return Poses(
        "head", SCHEMA, rng.uniform(0, 90, (3, 4, 2)), rng.random((3, 4)).astype(np.float32),
        np.tile([0.0, 0, 9, 9], (3, 1)), np.ones(3), np.array([0, 0, 1]), ("a.jpg", "b.jpg"),
        ((9, 9), (9, 9)), np.array([3, 4, 4]),
    )  # fmt: skip


def test_coco_annotations_of_people_score_one_where_they_are_labelled():
    data = {
        "images": [{"id": 5, "file_name": "x.jpg"}],
        "categories": [{"name": "p", "keypoints": ["a", "b"], "skeleton": [[1, 2]]}],
        "annotations": [{"image_id": 5, "keypoints": [3, 4, 2, 0, 0, 0]}],
    }
    poses = Poses.from_coco(data)
    assert poses.scores.tolist() == [[1, 0]]
    assert poses.box_xywh.tolist() == [[3, 4, 0, 0]]
    assert poses.image_sizes == ((0, 0),)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("p.xyz", "", r"p\.xyz: unknown ending; poses are read from \.json"),
        (
            "p.json",
            "[]",
            r"p\.json: not a COCO file of keypoints \(found a list, expected an object\)",
        ),
        ("p.json", '{"images": []}', r"p\.json: not a COCO file .*'categories' is missing"),
        ("p.csv", "a,b\n1,2\n", r"p\.csv: its first line starts with \['a', 'b'\]"),
        ("p.csv", "image,score,n_x,n_y,n_score\na,1,2\n", "line 2: found 3 cells, expected 5"),
        ("p.csv", "image,score,n_x,n_y,n_score\na,1,2,q,1\n", "line 2: a keypoint: found 'q'"),
        ("p.csv", "scorer,a\nwhat,x\n", "its first column starts with"),
        ("p.h5", "no", r"p\.h5: not a readable pandas HDF5 file"),
    ],
)
def test_a_file_of_another_form_is_one_sentence(tmp_path: Path, name, content, sentence):
    (tmp_path / name).write_text(content)
    with pytest.raises(PosekitError, match=sentence) as caught:
        Poses.from_file(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path):
    with pytest.raises(PredictionError, match=r"p\.h5: there is no such file$"):
        Poses.from_file(tmp_path / "p.h5")


def test_the_text_of_tracked_poses_names_their_tracks():
    assert "a.jpg: #3, score" in str(multi_animal())


def test_a_damaged_annotation_is_named():
    data = multi_animal().to_coco()
    data["annotations"][1]["keypoints"].pop()
    with pytest.raises(DatasetError, match=r"annotation 1: not a keypoint annotation"):
        Poses.from_coco(json.loads(json.dumps(data)))
    data = multi_animal().to_coco()
    data["annotations"][2]["bbox"][1] = "wide"
    with pytest.raises(DatasetError, match=r"annotation 2: not a keypoint annotation.*'wide'"):
        Poses.from_coco(data)


def test_coco_takes_the_fused_poses_of_all_heads_and_leaves_out_categories_without_keypoints():
    poses = multi_animal()
    data = poses.to_coco()
    data["categories"].insert(0, {"id": 9, "name": "box only"})
    check_same(Poses.from_coco({"fused": data, "heads": {}}), poses)
    data["categories"].append({"id": 3, "name": "cat", "keypoints": ["tail"]})
    with pytest.raises(DatasetError, match="categories with different keypoints"):
        Poses.from_coco(data)
    data["categories"] = []
    with pytest.raises(DatasetError, match="not a COCO file of keypoints"):
        Poses.from_coco(data)


def test_a_damaged_sleap_file_is_one_sentence(tmp_path: Path):
    pytest.importorskip("sleap_io", reason="sleap-io is not installed")
    (tmp_path / "p.slp").write_text("no")
    with pytest.raises(DatasetError, match="sleap-io cannot load it"):
        Poses.from_file(tmp_path / "p.slp")


def test_tables_that_are_no_poses_say_what_is_wrong():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    with pytest.raises(PredictionError, match=r"found no image, instance, keypoint, score, y$"):
        Poses.from_pandas(pandas.DataFrame({"x": [1.0]}))
    table = multi_animal().to_pandas()
    with pytest.raises(PredictionError, match=r"found two lines of one keypoint$"):
        Poses.from_pandas(pandas.concat([table, table]))
    with pytest.raises(ConfigError, match="the table names the unknown keypoint 'nse'"):
        Poses.from_pandas(table.replace({"keypoint": {"nose": "nse"}}), SCHEMA)


@pytest.mark.parametrize(
    ("write", "package", "install"),
    [
        (lambda poses, folder: poses.save(folder / "p.h5"), "tables", r"posekit\[tables\]"),
        (lambda poses, folder: poses.save(folder / "p.slp"), "sleap_io", r"posekit\[lab\]"),
    ],
)
def test_a_missing_package_is_one_sentence(tmp_path: Path, monkeypatch, write, package, install):
    if package == "tables":
        pytest.importorskip("pandas", reason="pandas is not installed")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PredictionError, match=f"'{package}'.*pip install {install}"):
        write(multi_animal(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_other_endings_are_refused_before_anything_is_written(tmp_path: Path):
    for write in (Poses.to_deeplabcut, Poses.to_sleap, Poses.save):
        with pytest.raises(PredictionError, match="unknown ending"):
            write(multi_animal(), tmp_path / "p.xyz")
    assert not list(tmp_path.iterdir())


def test_body_parts_that_make_no_schema_are_named_with_their_file(tmp_path: Path):
    rows = [["scorer", *"ss" * 2], ["bodyparts", "Ear", "Ear", "ear", "ear"]]
    rows += [["coords", "x", "y", "x", "y"], ["a.png", 1, 2, 3, 4]]
    with (tmp_path / "p.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    with pytest.raises(DatasetError, match=r"p\.csv: its keypoints make no schema .*repeat: ear"):
        Poses.from_deeplabcut(tmp_path / "p.csv")


def test_reading_sleap_without_its_package_is_one_sentence(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sleap_io", None)
    with pytest.raises(ConfigError, match=r"pip install 'posekit\[lab\]'"):
        Poses.from_sleap(tmp_path / "p.slp")
