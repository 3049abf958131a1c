"""Writes a small dataset in every format that an adapter reads, from one set of known instances.

Each writer takes an empty folder and gives the split that reads what it wrote; `TRUTH` is what
every adapter must then yield: points in 0-based pixels, NaN where a keypoint is not labelled.
"""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import example_plug_ins
import h5py
import numpy as np
from scipy.io import savemat

from posekit.config.cards import SplitCard
from posekit.schema import KeypointSchema, flip_pairs_from_names

NAMES = ("nose", "left_eye", "right_eye", "tail_base")
SCHEMA = KeypointSchema("toy", NAMES, flip_pairs_from_names(NAMES))

_NAN = float("nan")
TRUTH = np.array(
    [
        [[10.5, 20.25], [30.0, 15.5], [5.0, 6.0], [40.0, 41.0]],
        [[1.0, 2.0], [_NAN, _NAN], [7.25, 8.5], [3.0, 9.0]],
        [[60.0, 61.0], [62.0, 63.5], [64.0, 65.0], [66.0, 67.0]],
    ]
)
COMPLETE = TRUTH.copy()
"""The same for formats that cannot say 'not labelled'."""
COMPLETE[1, 1] = (11.0, 12.0)
IMAGES = ("a.jpg", "b.jpg", "c.jpg")

Writer = Callable[[Path], SplitCard]


def triples(person: np.ndarray, visible: int = 2) -> list[float]:
    """Give x, y, v flat, zeros where not labelled."""
    flat: list[float] = []
    for x, y in person:
        flat += [0, 0, 0] if np.isnan(x) else [float(x), float(y), visible]
    return flat


def coco_data() -> dict:
    return {
        "images": [
            {"id": 7 + i, "file_name": name, "height": 80, "width": 90}
            for i, name in enumerate(IMAGES)
        ],
        "categories": [{"id": 1, "name": "mouse", "keypoints": list(NAMES), "skeleton": []}],
        "annotations": [
            {
                "id": i,
                "image_id": 7 + i,
                "category_id": 1,
                "keypoints": triples(person),
                "num_keypoints": int(np.isfinite(person[:, 0]).sum()),
                "bbox": [1, 2, 70, 66],
                "area": 4000.5,
                "iscrowd": 0,
            }
            for i, person in enumerate(TRUTH)
        ],
    }


def write_coco(folder: Path) -> SplitCard:
    (folder / "coco.json").write_text(json.dumps(coco_data()))
    return SplitCard(annotations="coco.json", images="img")


def aic_data() -> list:
    return [
        {
            "image_id": name.removesuffix(".jpg"),
            "human_annotations": {"human1": [1, 2, 71, 68]},
            "keypoint_annotations": {
                "human1": [
                    value
                    for x, y in person
                    for value in ([0, 0, 3] if np.isnan(x) else [float(x), float(y), 1])
                ]
            },
        }
        for name, person in zip(IMAGES, TRUTH, strict=True)
    ]


def write_aic(folder: Path) -> SplitCard:
    (folder / "aic.json").write_text(json.dumps(aic_data()))
    return SplitCard(annotations="aic.json", images="img")


def mpii_data() -> list:
    return [
        {
            "image": name,
            "center": [50.0, 40.0],
            "scale": 0.5,
            "joints": [[-1, -1] if np.isnan(x) else [x + 1, y + 1] for x, y in person],
            "joints_vis": [int(np.isfinite(x)) for x, _ in person],
        }
        for name, person in zip(IMAGES, TRUTH, strict=True)
    ]


def write_mpii_truth(file: Path, heads: list[list[list[float]]]) -> None:
    """Write `mpii_gt_val.mat`: heads is (N, 2, 2), corners by (x, y)."""
    shifted = np.where(np.isnan(TRUTH[: len(heads)]), -1, TRUTH[: len(heads)] + 1)
    names = np.empty((1, len(NAMES)), dtype=object)
    names[0, :] = [np.array([name]) for name in NAMES]
    savemat(
        file,
        {
            "dataset_joints": names,
            "jnt_missing": np.isnan(TRUTH[: len(heads), :, 0]).T.astype(float),
            "pos_gt_src": np.moveaxis(shifted, 0, -1),
            "headboxes_src": np.moveaxis(np.array(heads, dtype=float), 0, -1),
        },
    )


def write_mpii(folder: Path) -> SplitCard:
    (folder / "mpii.json").write_text(json.dumps(mpii_data()))
    write_mpii_truth(folder / "truth.mat", [[[1, 1], [4, 5]], [[0, 0], [6, 8]], [[2, 2], [2, 7]]])
    return SplitCard(annotations="mpii.json", images="img", options={"headboxes": "truth.mat"})


def write_wflw(folder: Path) -> SplitCard:
    lines = [
        " ".join(map(str, [*person.ravel().tolist(), 1, 2, 71, 68, 0, 1, 0, 0, 0, 1, name]))
        for name, person in zip(IMAGES, COMPLETE, strict=True)
    ]
    (folder / "wflw.txt").write_text("\n".join(lines) + "\n")
    return SplitCard(annotations="wflw.txt", images="img")


def pts_text(person: np.ndarray) -> str:
    lines = [f"{x} {y}" for x, y in person + 1]
    return "\n".join(["version: 1", f"n_points: {len(person)}", "{", *lines, "}"]) + "\n"


def write_pts(folder: Path) -> SplitCard:
    (folder / "img").mkdir()
    for name, person in zip(IMAGES, TRUTH, strict=True):
        (folder / "img" / name).touch()
        (folder / "img" / name).with_suffix(".pts").write_text(pts_text(person))
    return SplitCard(options={"folders": ["img"]})


def write_lsp(folder: Path) -> SplitCard:
    joints = np.zeros((len(NAMES), 3, len(TRUTH)))
    joints[:, :2] = np.where(np.isnan(TRUTH), -13, TRUTH).transpose(1, 2, 0)
    joints[:, 2] = np.isfinite(TRUTH[:, :, 0]).T
    savemat(folder / "joints.mat", {"joints": joints})
    options = {"image_name": "im{number:02d}.jpg"}
    return SplitCard(annotations="joints.mat", images="img", options=options)


def csv_rows(truth: np.ndarray = TRUTH) -> list[list]:
    header = ["image", *(f"{name}_{axis}" for name in NAMES for axis in "xy")]
    return [
        header,
        *(
            [name, *("" if np.isnan(value) else value for value in person.ravel())]
            for name, person in zip(IMAGES, truth, strict=True)
        ),
    ]


def write_rows(file: Path, rows: list[list]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def write_landmark_csv(folder: Path) -> SplitCard:
    write_rows(folder / "points.csv", csv_rows())
    return SplitCard(annotations="points.csv", images="img")


def dlc_rows() -> list[list]:
    columns = [(name, axis) for name in NAMES for axis in "xy"]
    return [
        ["scorer", *(["me"] * len(columns))],
        ["bodyparts", *(name.replace("_", "") for name, _ in columns)],
        ["coords", *(axis for _, axis in columns)],
        *(
            [f"img/{name}", *("" if np.isnan(value) else value for value in person.ravel())]
            for name, person in zip(IMAGES, TRUTH, strict=True)
        ),
    ]


def write_dlc_csv(folder: Path) -> SplitCard:
    write_rows(folder / "CollectedData_me.csv", dlc_rows())
    return SplitCard(annotations="CollectedData_me.csv")


def write_dlc_table(folder: Path) -> SplitCard:
    """The layout that pandas gives to_hdf(format='table')."""
    columns = [("me", name, axis) for name in NAMES for axis in "xy"]
    rows = np.zeros(len(TRUTH), dtype=[("index", "S9"), ("values_block_0", "f8", len(columns))])
    rows["index"] = [f"img/{name}".encode() for name in IMAGES]
    rows["values_block_0"] = TRUTH.reshape(len(TRUTH), -1)
    with h5py.File(folder / "CollectedData_me.h5", "w") as store:
        group = store.create_group("df_with_missing")
        group.attrs["pandas_type"] = np.bytes_(b"frame_table")
        table = group.create_dataset("table", data=rows)
        table.attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(columns, protocol=0))
    return SplitCard(annotations="CollectedData_me.h5")


def write_dlc_fixed(folder: Path) -> SplitCard:
    """The layout that pandas gives to_hdf(format='fixed'), rows named by three levels."""
    columns = [("me", name, axis) for name in NAMES for axis in "xy"]
    with h5py.File(folder / "CollectedData_me.h5", "w") as store:
        group = store.create_group("df_with_missing")
        group.attrs["pandas_type"] = np.bytes_(b"frame")
        group.attrs["nblocks"] = 1
        _write_axis(group, "axis0", columns)
        _write_axis(group, "axis1", [("img", "", name) for name in IMAGES])
        _write_axis(group, "block0_items", columns)
        group["block0_values"] = TRUTH.reshape(len(TRUTH), -1)
    return SplitCard(annotations="CollectedData_me.h5")


def _write_axis(group: h5py.Group, name: str, entries: list[tuple[str, ...]]) -> None:
    for level, words in enumerate(zip(*entries, strict=True)):
        distinct = sorted(set(words))
        group[f"{name}_level{level}"] = np.array([word.encode() for word in distinct], dtype="S20")
        group[f"{name}_label{level}"] = np.array([distinct.index(w) for w in words], dtype="i1")


def write_cofw(folder: Path, occluded: int = 0) -> SplitCard:
    """As the test file of the release has it: tables (numbers, faces), images swapped and RGB."""
    faces = len(COMPLETE)
    table = np.concatenate(
        [COMPLETE[:, :, 0] + 1, COMPLETE[:, :, 1] + 1, np.full((faces, len(NAMES)), occluded)],
        axis=1,
    )
    with h5py.File(folder / "cofw.mat", "w") as store:
        store["phisT"] = table.T
        store["bboxesT"] = np.tile([1.0, 2, 70, 66], (faces, 1)).T
        references = np.zeros((1, faces), dtype=h5py.ref_dtype)
        for i in range(faces):
            rgb = np.zeros((5, 7, 3), np.uint8)  # 5 high, 7 wide
            rgb[1, 2] = (200, 100, i)
            store[f"image{i}"] = rgb.transpose(2, 1, 0)
            references[0, i] = store[f"image{i}"].ref
        store["IsT"] = references
    return SplitCard(annotations="cofw.mat", images="img")


CAMERA = [[400.0, 0.0, 45.0], [0.0, 390.0, 40.0], [0.0, 0.0, 1.0]]


def write_freihand(folder: Path) -> SplitCard:
    """Points at depths from 0.5 m on, so that the camera sees them where TRUTH has them."""
    hands = []
    for person in COMPLETE:
        depth = 0.5 + 0.01 * np.arange(len(NAMES))
        rays = np.linalg.solve(CAMERA, np.column_stack([person, np.ones(len(NAMES))]).T).T
        hands.append((rays * depth[:, None]).tolist())
    (folder / "xyz.json").write_text(json.dumps(hands))
    (folder / "K.json").write_text(json.dumps([CAMERA] * len(hands)))
    return SplitCard(annotations="xyz.json", images="img", options={"cameras": "K.json"})


YOLO_YAML = """\
path: ../somewhere/else
train: img
val: [val.txt]
kpt_shape: [4, 3]
flip_idx: [0, 2, 1, 3]
names: {0: mouse}
"""


def write_yolo(folder: Path) -> SplitCard:
    (folder / "data.yaml").write_text(YOLO_YAML)
    (folder / "img").mkdir()
    for name, person in zip(IMAGES, TRUTH, strict=True):
        cv2.imwrite(str(folder / "img" / name), np.zeros((80, 90, 3), np.uint8))
        scaled = np.array(triples(person)).reshape(-1, 3) / [90, 80, 1]
        numbers = [0, 36 / 90, 35 / 80, 70 / 90, 66 / 80, *scaled.ravel()]
        text = " ".join(repr(float(n)) for n in numbers)
        (folder / "img" / name).with_suffix(".txt").write_text(text + "\n")
    return SplitCard(annotations="data.yaml", options={"part": "train"})


def write_plug_in(folder: Path) -> SplitCard:
    lines = [
        json.dumps(
            {"image": name, "points": [[None if np.isnan(x) else x for x in p] for p in person]}
        )
        for name, person in zip(IMAGES, TRUTH.tolist(), strict=True)
    ]
    (folder / "points.jsonl").write_text("\n".join(lines))
    return SplitCard(annotations="points.jsonl", images="img")


FORMATS: dict[str, tuple[str, Writer, np.ndarray]] = {
    "coco_json": ("coco_json", write_coco, TRUTH),
    "aic_json": ("aic_json", write_aic, TRUTH),
    "mpii_json": ("mpii_json", write_mpii, TRUTH),
    "wflw_txt": ("wflw_txt", write_wflw, COMPLETE),
    "pts_folder": ("pts_folder", write_pts, TRUTH),
    "lsp_mat": ("lsp_mat", write_lsp, TRUTH),
    "landmark_csv": ("landmark_csv", write_landmark_csv, TRUTH),
    "freihand_json": ("freihand_json", write_freihand, COMPLETE),
    "cofw_mat": ("cofw_mat", write_cofw, COMPLETE),
    "yolo_pose": ("yolo_pose", write_yolo, TRUTH),
    "deeplabcut csv": ("deeplabcut", write_dlc_csv, TRUTH),
    "deeplabcut h5 table": ("deeplabcut", write_dlc_table, TRUTH),
    "deeplabcut h5 fixed": ("deeplabcut", write_dlc_fixed, TRUTH),
}
"""Name of the form -> (adapter, writer, what it holds)."""

PLUG_INS: dict[str, tuple[str, Writer, np.ndarray]] = {
    "plug-in": (example_plug_ins.named("read"), write_plug_in, TRUTH)
}
"""The same of adapters that are not built in."""
