"""AIC, MPII, WFLW, 300W, LSP and CSV files: what is particular to each, and their faults."""

import json
import struct
import zlib

import numpy as np
import pytest
from format_writers import (
    IMAGES,
    NAMES,
    SCHEMA,
    TRUTH,
    aic_data,
    csv_rows,
    mpii_data,
    pts_text,
    write_lsp,
    write_mpii,
    write_mpii_truth,
    write_pts,
    write_rows,
    write_wflw,
)
from scipy.io import savemat

from posekit.adapters import (
    EmptyImage,
    aic_json,
    landmark_csv,
    lsp_mat,
    mpii_json,
    pts_folder,
    wflw_txt,
)
from posekit.adapters.files import load_mat
from posekit.config.cards import SplitCard
from posekit.errors import ConfigError, DatasetError


def load(module, root, name, **options):
    split = SplitCard(name="all", annotations=name, images="img", options=options)
    return list(module.read(root, split, SCHEMA))


def write_json(root, data):
    (root / "a.json").write_text(json.dumps(data))


# AI Challenger


def test_aic_codes_one_two_three_become_two_one_zero(tmp_path):
    data = aic_data()[:1]
    data[0]["keypoint_annotations"]["human1"] = [1, 1, 1, 2, 2, 2, 0, 0, 3, 4, 4, 1]
    write_json(tmp_path, data)
    instance = load(aic_json, tmp_path, "a.json")[0]
    np.testing.assert_array_equal(instance.visibility, [2, 1, 0, 2])
    np.testing.assert_array_equal(instance.box_xywh, [1, 2, 70, 66])
    assert (instance.image, instance.image_id, instance.area) == ("img/a.jpg", "a", None)


def test_aic_refuses_a_copy_in_coco_codes(tmp_path):
    data = aic_data()
    data[0]["keypoint_annotations"]["human1"] = [0, 0, 0] * 4
    write_json(tmp_path, data)
    with pytest.raises(
        DatasetError, match=r"image a, human1: .*'nose': found visibility 0, exp.*1"
    ):
        load(aic_json, tmp_path, "a.json")
    write_json(tmp_path, {"images": []})
    with pytest.raises(DatasetError, match=r"expected the original list.*adapter to coco_json"):
        load(aic_json, tmp_path, "a.json")


def test_aic_people_without_pose_or_box_and_images_without_people(tmp_path):
    data = aic_data()
    del data[0]["human_annotations"]["human1"]
    data[1]["keypoint_annotations"] = {}
    data[2] |= {"keypoint_annotations": {}, "human_annotations": {}}
    write_json(tmp_path, data)
    no_box, no_pose, empty = load(aic_json, tmp_path, "a.json")
    assert no_box.box_xywh is None
    assert not no_pose.visibility.any()
    assert isinstance(empty, EmptyImage)


def test_aic_names_a_repeated_image(tmp_path):
    write_json(tmp_path, aic_data()[:1] * 2)
    with pytest.raises(DatasetError, match=r"image a: its id appears twice"):
        load(aic_json, tmp_path, "a.json")


# MPII


def test_mpii_moves_the_centre_down_and_everything_to_zero_based(tmp_path):
    write_json(tmp_path, mpii_data())
    instance = load(mpii_json, tmp_path, "a.json")[0]
    np.testing.assert_allclose(instance.crop_center, [49.0, 40.0 + 15 * 0.5 - 1])
    np.testing.assert_allclose(instance.crop_size, [100.0, 100.0])
    np.testing.assert_allclose(instance.keypoints, TRUTH[0])


def test_mpii_does_not_move_a_missing_centre_down(tmp_path):
    data = mpii_data()
    data[0]["center"] = [-1, -1]
    write_json(tmp_path, data)
    np.testing.assert_allclose(load(mpii_json, tmp_path, "a.json")[0].crop_center, [-2, -2])


def test_mpii_head_size_is_six_tenths_of_the_head_box_diagonal(tmp_path):
    split = write_mpii(tmp_path)
    sizes = [i.extras["head_size"] for i in mpii_json.read(tmp_path, split, SCHEMA)]
    np.testing.assert_allclose(sizes, [3.0, 6.0, 3.0])
    truth = mpii_json.read_ground_truth(tmp_path / "truth.mat", SCHEMA)
    np.testing.assert_array_equal(truth.is_missing, np.isnan(TRUTH[:, :, 0]))


def test_mpii_ground_truth_of_one_person_keeps_its_axis(tmp_path):
    write_mpii_truth(tmp_path / "one.mat", [[[1, 1], [4, 5]]])
    assert mpii_json.read_ground_truth(tmp_path / "one.mat", SCHEMA).points.shape == (1, 4, 2)


def test_mpii_ground_truth_of_other_people_is_refused(tmp_path):
    write_mpii(tmp_path)
    write_mpii_truth(tmp_path / "truth.mat", [[[1, 1], [4, 5]]] * 2)
    with pytest.raises(DatasetError, match=r"it holds 2 people, expected the 3 of mpii\.json"):
        load(mpii_json, tmp_path, "mpii.json", headboxes="truth.mat")


def test_mpii_test_records_have_no_joints(tmp_path):
    data = mpii_data()
    for record in data:
        del record["joints"], record["joints_vis"]
    write_json(tmp_path, data)
    assert not load(mpii_json, tmp_path, "a.json")[0].visibility.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": -1}, r"record 0: found center .* and scale -1"),
        ({"center": [1]}, r"found center \[1\]"),
        ({"joints_vis": [1, 2, 1, 1]}, r"joints_vis: .*expected 0 and 1 only"),
        ({"joints": [[1, 2]]}, r"found joints of shape \(1, 2\).*expected \(4, 2\)"),
    ],
)
def test_mpii_faults_are_named(tmp_path, change, message):
    data = mpii_data()
    data[0] |= change
    write_json(tmp_path, data)
    with pytest.raises(DatasetError, match=message):
        load(mpii_json, tmp_path, "a.json")


# WFLW


def test_wflw_rectangle_attributes_and_square_crop(tmp_path):
    instance = next(iter(wflw_txt.read(tmp_path, write_wflw(tmp_path), SCHEMA)))
    np.testing.assert_array_equal(instance.box_xywh, [1, 2, 70, 66])
    assert instance.extras == {
        **dict.fromkeys(wflw_txt.ATTRIBUTES, 0.0),
        "expression": 1.0,
        "blur": 1.0,
    }
    # x from 5 to 40, y from 6 to 41
    np.testing.assert_array_equal(instance.crop_center, [22.5, 23.5])
    np.testing.assert_array_equal(instance.crop_size, [35, 35])


def test_wflw_names_the_line_at_fault(tmp_path):
    split = write_wflw(tmp_path)
    lines = (tmp_path / "wflw.txt").read_text().splitlines()
    for text, message in [
        (lines[1].rsplit(" ", 3)[0], r"line 2: found 16 columns, expected 19 \(8 coordinates"),
        (lines[1].replace("1.0 2.0", "1.0 two", 1), r"line 2: column: found 'two'"),
        (lines[1].replace("0 1 0 0 0 1 b", "0 5 0 0 0 1 b"), r"attributes: found .*5"),
    ]:
        (tmp_path / "wflw.txt").write_text("\n".join([lines[0], text]))
        with pytest.raises(DatasetError, match=message):
            list(wflw_txt.read(tmp_path, split, SCHEMA))


# .pts


def test_pts_files_count_from_one_unless_told(tmp_path):
    split = write_pts(tmp_path)
    raw = split.model_copy(update={"options": {"folders": ["img"], "one_based": False}})
    one_based = next(iter(pts_folder.read(tmp_path, split, SCHEMA))).keypoints
    as_is = next(iter(pts_folder.read(tmp_path, raw, SCHEMA))).keypoints
    np.testing.assert_allclose(as_is - one_based, 1, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (pts_text(TRUTH[0]).replace("n_points: 4", "n_points: 5"), r"says n_points: '5', found 4"),
        (pts_text(TRUTH[0])[:-3], r"no line '}'"),
        (pts_text(TRUTH[0]).replace("11.5", "1l.5"), r"point 0: coordinate: found '1l\.5'"),
        (pts_text(TRUTH[0][:3]), r"it holds 3 points, expected the 4 of schema 'toy'.*'exclude'"),
        ("nonsense\n{\n}\n", r"expected 'version: 1' and 'n_points: N'"),
    ],
)
def test_pts_faults_are_named(tmp_path, text, message):
    split = write_pts(tmp_path)
    (tmp_path / "img" / "a.pts").write_text(text)
    with pytest.raises(DatasetError, match=message):
        list(pts_folder.read(tmp_path, split, SCHEMA))


def test_a_pts_file_can_be_excluded_and_needs_its_image(tmp_path):
    split = write_pts(tmp_path)
    (tmp_path / "img" / "a.jpg").unlink()
    with pytest.raises(DatasetError, match=r"a\.pts: found none, expected one image of the same"):
        list(pts_folder.read(tmp_path, split, SCHEMA))
    options = {"folders": ["img"], "exclude": ["img/a.pts"]}
    rest = split.model_copy(update={"options": options})
    assert [i.image for i in pts_folder.read(tmp_path, rest, SCHEMA)] == ["img/b.jpg", "img/c.jpg"]


# Leeds Sports Pose


def test_lsp_images_are_numbered_from_one(tmp_path):
    instances = list(lsp_mat.read(tmp_path, write_lsp(tmp_path), SCHEMA))
    assert [i.image for i in instances] == [f"img/im0{n}.jpg" for n in (1, 2, 3)]


def test_lsp_faults_are_named(tmp_path):
    split = write_lsp(tmp_path)
    savemat(tmp_path / "joints.mat", {"joints": np.zeros((3, 4, 2))})
    with pytest.raises(DatasetError, match=r"found float64 of shape \(3, 4, 2\), expected"):
        list(lsp_mat.read(tmp_path, split, SCHEMA))
    savemat(tmp_path / "joints.mat", {"points": np.zeros(3)})
    with pytest.raises(
        DatasetError, match=r"expected an array of numbers 'joints', found 'points'"
    ):
        list(lsp_mat.read(tmp_path, split, SCHEMA))
    savemat(tmp_path / "joints.mat", {"joints": np.array(["text"], dtype=object)})
    with pytest.raises(DatasetError, match=r"array of numbers 'joints', found 'joints' \(cell\)"):
        list(lsp_mat.read(tmp_path, split, SCHEMA))
    (tmp_path / "joints.mat").write_bytes(b"MATLAB 5.0 nothing")
    with pytest.raises(DatasetError, match=r"not a readable MATLAB file"):
        list(lsp_mat.read(tmp_path, split, SCHEMA))


def test_an_image_name_without_the_number_is_refused(tmp_path):
    write_lsp(tmp_path)
    with pytest.raises(ConfigError, match=r"options\.image_name: found 'im\.jpg'.*\{number\}"):
        load(lsp_mat, tmp_path, "joints.mat", image_name="im.jpg")


# Landmark tables


@pytest.mark.parametrize(
    "header",
    [
        ["", *range(8)],
        ["image", *(f"{axis}{i}" for i in range(4) for axis in "xy")],
        ["image", *(f"{axis}_{i}" for i in range(1, 5) for axis in "xy")],
        [
            "image",
            *(f"{name} {axis}" for name in ("Nose", "L_Eye", "R_Eye", "TailBase") for axis in "XY"),
        ],
        ["image", *(f"{axis}.{name}" for name in NAMES for axis in "xy")],
    ],
)
def test_every_dialect_of_headers_means_the_same(tmp_path, header):
    rows = csv_rows()
    write_rows(tmp_path / "t.csv", [header, *rows[1:]])
    instances = load(landmark_csv, tmp_path, "t.csv")
    np.testing.assert_allclose([i.keypoints for i in instances], np.nan_to_num(TRUTH))


def test_named_columns_may_stand_in_any_order_with_the_image_last(tmp_path):
    rows = [list(reversed(row)) for row in csv_rows()]
    write_rows(tmp_path / "t.csv", rows)
    instances = load(landmark_csv, tmp_path, "t.csv", image_column="image")
    np.testing.assert_allclose([i.keypoints for i in instances], np.nan_to_num(TRUTH))
    assert [i.image_id for i in instances] == list(IMAGES)


@pytest.mark.parametrize(
    ("place", "code"), [("full", 3), ("full", "x"), ("empty", 1), ("empty", 2)]
)
def test_a_csv_visibility_that_cannot_be_is_named(tmp_path, place, code):
    header = ["file", *(f"{n}_{a}" for n in NAMES for a in "xyv")]
    first = [1, 2, code] if place == "full" else ["", "", code]
    write_rows(tmp_path / "t.csv", [header, ["a.jpg", *first, 3, 4, 1, 5, 6, 2, 7, 8, 0]])
    message = rf"keypoint '{NAMES[0]}': found visibility '?{code}'?, expected 0, 1 or 2"
    with pytest.raises(DatasetError, match=message):
        load(landmark_csv, tmp_path, "t.csv")


def test_visibility_box_and_ignored_columns(tmp_path):
    header = ["file", *(f"{n}_{a}" for n in NAMES for a in "xyv"), "bx", "by", "bw", "bh", "who"]
    values = [1, 2, 2, 3, 4, 1, "", "", 0, 7, 8, 0]
    write_rows(tmp_path / "t.csv", [header, ["a.jpg", *values, 1, 2, 30, 40, "me"]])
    instance = load(
        landmark_csv, tmp_path, "t.csv", box_columns=["bx", "by", "bw", "bh"], ignore=["who"]
    )[0]
    np.testing.assert_array_equal(instance.visibility, [2, 1, 0, 0])
    np.testing.assert_array_equal(instance.box_xywh, [1, 2, 30, 40])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"header: the file is empty"),
        ([["image", "nose_x"]], r"point 'nose' has no column for x and y both"),
        ([["image", *range(6)]], r"found 3 numbered points, expected the 4 of schema 'toy'"),
        ([["image", "what"]], r"column 'what' is neither a point's x or y nor known.*ignore"),
        ([["image", "a", "a"]], r"the columns 'a' appear twice"),
        ([*csv_rows()[:1], ["a.jpg", 1]], r"line 2: found 2 cells, expected 9"),
        ([*csv_rows()[:1], ["a.jpg", 1, "", *[1] * 6]], r"'nose': found '1', '', expected both"),
        ([*csv_rows()[:1], ["a.jpg", 1, "b", *[1] * 6]], r"'nose': found 'b', expected a number"),
        ([*csv_rows()[:1], ["../a.jpg", *[1] * 8]], r"does not name a file below"),
        (
            [["image", *(f"{n}_{a}" for n in (*NAMES[:3], "tale_bas") for a in "xy")]],
            r"found keypoints 'tale_bas' .* missed 'tail_base'; did you mean 'tail_base'",
        ),
    ],
)
def test_table_faults_are_named(tmp_path, rows, message):
    write_rows(tmp_path / "t.csv", rows)
    with pytest.raises(DatasetError, match=message):
        load(landmark_csv, tmp_path, "t.csv")


def test_a_missing_column_names_the_nearest(tmp_path):
    write_rows(tmp_path / "t.csv", csv_rows())
    with pytest.raises(DatasetError, match=r"no column 'imag'; did you mean 'image'"):
        load(landmark_csv, tmp_path, "t.csv", image_column="imag")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_wrong_type_number_in_a_mat_file_is_told_before_it_can_crash_scipy(tmp_path, compressed):
    split = write_lsp(tmp_path)
    file = tmp_path / "joints.mat"
    data = bytearray(file.read_bytes())
    tag = data.index((9).to_bytes(4, "little"), 160)  # miDOUBLE of the only array
    data[tag : tag + 4] = (30_000).to_bytes(4, "little")
    if compressed:
        packed = zlib.compress(bytes(data[128:]))
        data = data[:128] + struct.pack("<II", 15, len(packed)) + packed
    file.write_bytes(data)
    with pytest.raises(DatasetError, match=r"found data of type 30000, which numbers do not have"):
        list(lsp_mat.read(tmp_path, split, SCHEMA))


def test_an_array_of_a_mat_file_holds_at_most_a_thousand_numbers_a_byte(tmp_path, monkeypatch):
    file = tmp_path / "a.mat"
    savemat(file, {"points": np.zeros((0, 2)), "more": np.ones((2, 3))})
    assert {name: array.shape for name, array in load_mat(file, ("points", "more")).items()
            if not name.startswith("_")} == {"points": (0, 2), "more": (2, 3)}  # fmt: skip
    most = 1000 * file.stat().st_size
    for count, accepted in ((-1, False), (0, True), (most, True), (most + 1, False)):
        monkeypatch.setattr("scipy.io.whosmat", lambda _, n=count: [("more", (n, 1), "double")])
        if accepted:
            assert load_mat(file, ("more",))["more"].shape == (2, 3)
        else:
            with pytest.raises(DatasetError, match="expected an array of numbers 'more'"):
                load_mat(file, ("more",))


def test_the_cells_of_a_table_are_separated_by_one_character(tmp_path):
    write_rows(tmp_path / "a.csv", csv_rows())
    for delimiter in ("", ";;"):
        with pytest.raises(ConfigError, match="delimiter"):
            load(landmark_csv, tmp_path, "a.csv", delimiter=delimiter)
