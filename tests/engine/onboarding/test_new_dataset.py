"""`datasets new`: a card that reads and trains, and what it says it is unsure of."""

import json
import sys

import cv2
import numpy as np
import pytest

from posekit.adapters.base import Instance
from posekit.adapters.registry import get_adapter
from posekit.config.cards import load_dataset_card
from posekit.config.plug_ins import code_allowed
from posekit.config.recipe import load_recipe
from posekit.engine.onboarding import discover, new_dataset, write_template
from posekit.errors import ConfigError, DatasetError

NAMES = ["nose", "L_Eye", "R_Eye", "TailBase"]
OURS = ("nose", "left_eye", "right_eye", "tail_base")
SHAPE = np.array([[40, 12], [30, 22], [50, 22], [40, 60]], float)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def poses():
    rng = np.random.default_rng(0)
    return SHAPE + rng.normal(size=(30, 4, 2)) + rng.uniform(0, 15, (30, 1, 2))


def write_images(folder, count=30, pattern="m{0}x_{1}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    names = [pattern.format(i // 5, i % 5) for i in range(count)]
    for name in names:
        cv2.imwrite(str(folder / name), np.full((80, 90, 3), 90, np.uint8))
    return names


def write_coco(root, poses, file="annotations/instances.json", images="pictures"):
    names = write_images(root / images)
    data = {
        "images": [
            {"id": i, "file_name": n, "height": 80, "width": 90} for i, n in enumerate(names)
        ],
        "annotations": [
            {
                "id": i,
                "image_id": i,
                "category_id": 1,
                "bbox": [*pose.min(axis=0).tolist(), *np.ptp(pose, axis=0).tolist()],
                "keypoints": np.column_stack([pose, np.full(4, 1 + i % 2)]).ravel().tolist(),
            }
            for i, pose in enumerate(poses)
        ],
        "categories": [{"id": 1, "name": "mouse", "keypoints": NAMES, "skeleton": [[1, 2]]}],
    }
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(data))
    return data


def write_deeplabcut(root, poses):
    rows = [
        ["scorer", *["me"] * 8],
        ["bodyparts", *[n for n in NAMES for _ in "xy"]],
        ["coords", *"xy" * 4],
    ]
    for video in range(6):
        folder = root / "labeled-data" / f"v{video}"
        names = write_images(folder, 5, "img{1:03d}.png")
        own = poses[5 * video : 5 * video + 5]
        lines = [
            [f"labeled-data/v{video}/{name}", *map(str, pose.ravel())]
            for name, pose in zip(names, own, strict=True)
        ]
        text = "\n".join(",".join(line) for line in rows + lines)
        (folder / "CollectedData_me.csv").write_text(text)
    (root / "config.yaml").write_text("bodyparts: [a]\nskeleton:\n- [nose, L_Eye]\n")


def write_csv(root, poses):
    for split, part in (("train", poses[:20]), ("test", poses[20:])):
        names = write_images(root / split, len(part))
        header = "image,source," + ",".join(f"{n}_{a}" for n in NAMES for a in "xy")
        lines = [
            ",".join([name, "me", *map(str, pose.ravel())])
            for name, pose in zip(names, part, strict=True)
        ]
        (root / f"{split}_points.csv").write_text("\n".join([header, *lines]) + "\n")


def write_yolo(root, poses):
    names = write_images(root / "images" / "all")
    (root / "labels" / "all").mkdir(parents=True)
    for name, pose in zip(names, poses, strict=True):
        table = np.column_stack([pose / [90, 80], np.full(4, 2)])
        numbers = [0, 0.5, 0.5, 0.4, 0.6, *table.ravel()]
        text = " ".join(map(str, numbers)) + "\n"
        (root / "labels" / "all" / name).with_suffix(".txt").write_text(text)
    (root / "data.yaml").write_text(
        "path: /somewhere/else\ntrain: images/all\nval: images/all\nnames: {0: mouse}\n"
        f"kpt_shape: [4, 3]\nflip_idx: [0, 2, 1, 3]\nkpt_names: {{0: {json.dumps(NAMES)}}}\n"
    )


FORMS = {
    "COCO-style JSON": write_coco,
    "DeepLabCut project": write_deeplabcut,
    "landmark CSV": write_csv,
    "YOLO-pose dataset": write_yolo,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_becomes_a_card_that_reads_the_points_written(form, tmp_path, poses):
    root = tmp_path / "mice"
    FORMS[form](root, poses)
    done = new_dataset(root, recipe="mine.yaml")
    assert done.form == form
    assert done.keypoints == OURS
    assert done.pairs == [("left_eye", "right_eye", done.pairs[0][2])]
    assert sum(done.instances.values()) == 30
    assert 3 <= min(done.instances.values()) <= 10
    card = load_dataset_card("mice.yaml")
    items = [
        item
        for split in card.splits.values()
        for item in get_adapter(card)(root, split, card.keypoint_schema)
        if isinstance(item, Instance)
    ]
    ours = sorted(item.keypoints.round(2).ravel().tolist() for item in items)
    np.testing.assert_allclose(ours, sorted(p.round(2).ravel().tolist() for p in poses), atol=0.02)
    assert all((root / item.image).is_file() for item in items)
    assert done.sheet is not None
    assert cv2.imread(str(done.sheet)).shape[1] > 500
    recipe = load_recipe("mine.yaml")
    assert recipe.heads["own"].evaluate in card.splits


@pytest.mark.parametrize("form", ["COCO-style JSON", "landmark CSV", "YOLO-pose dataset"])
def test_the_annotation_file_alone_is_enough(form, tmp_path, poses):
    root = tmp_path / "mice"
    FORMS[form](root, poses)
    file = {
        "COCO-style JSON": "annotations/instances.json",
        "landmark CSV": "train_points.csv",
        "YOLO-pose dataset": "data.yaml",
    }[form]
    done = new_dataset(root / file, "cards/own.yaml", name="own")
    assert sum(done.instances.values()) == 30
    assert (done.name, str(done.card)) == ("own", "cards/own.yaml")


def test_siblings_named_by_split_become_splits(tmp_path, poses):
    root = tmp_path / "mice"
    write_coco(root, poses, "ann/mice_train2020.json", "train2020")
    write_coco(root, poses, "ann/mice_val2020.json", "val2020")
    (root / "ann" / "captions.json").write_text('{"images": [], "annotations": []}')
    done = new_dataset(root / "ann" / "mice_val2020.json")
    assert done.instances == {"train": 30, "val": 30}
    splits = load_dataset_card(done.card).splits
    assert (splits["train"].images, splits["val"].images) == ("train2020", "val2020")


def test_images_that_are_missing_are_left_out_and_told(tmp_path, poses):
    root = tmp_path / "mice"
    write_coco(root, poses)
    for file in sorted((root / "pictures").iterdir())[:10]:
        file.unlink()
    done = new_dataset(root)
    assert sum(done.instances.values()) == 20
    assert any("only 67% of the images" in sentence for sentence in done.unsure)


def test_points_without_names_get_their_pairs_from_the_poses(tmp_path, poses):
    root = tmp_path / "mice"
    data = write_coco(root, poses)
    data["categories"][0]["keypoints"] = []
    (root / "annotations" / "instances.json").write_text(json.dumps(data))
    done = new_dataset(root)
    assert done.pairs == [("point_1", "point_2", "geometry")]
    assert any("no name tells left from right" in sentence for sentence in done.unsure)


def test_names_that_the_poses_speak_against_are_told(tmp_path, poses):
    root = tmp_path / "mice"
    data = write_coco(root, poses)
    data["categories"][0]["keypoints"] = ["left_a", "nose", "x", "right_a"]
    (root / "annotations" / "instances.json").write_text(json.dumps(data))
    done = new_dataset(root)
    assert done.pairs == [("left_a", "right_a", "names, against geometry")]
    assert any("are labels swapped" in sentence for sentence in done.unsure)


def test_corners_in_place_of_sizes_are_suspected(tmp_path, poses):
    root = tmp_path / "mice"
    data = write_coco(root, poses)
    for one in data["annotations"]:
        x, y, w, h = one["bbox"]
        one["bbox"] = [x, y, x + w, y + h]
    (root / "annotations" / "instances.json").write_text(json.dumps(data))
    assert any("two corners" in sentence for sentence in new_dataset(root).unsure)


def test_what_cannot_be_read_is_said(tmp_path, poses):
    with pytest.raises(ConfigError, match="no such file or folder"):
        new_dataset(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"found nothing.*COCO-style JSON.*adapter-template"):
        new_dataset(tmp_path / "empty")
    root = tmp_path / "mice"
    data = write_coco(root, poses)
    for one in data["annotations"]:
        del one["keypoints"]
    (root / "annotations" / "instances.json").write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="none of its annotations has keypoints"):
        discover(root)


def test_nothing_is_overwritten_unasked(tmp_path, poses):
    root = tmp_path / "mice"
    write_coco(root, poses)
    new_dataset(root)
    with pytest.raises(ConfigError, match=r"mice\.yaml: it is there already"):
        new_dataset(root)
    new_dataset(root, overwrite=True)
    write_template("own.py")
    with pytest.raises(ConfigError, match=r"own\.py: it is there already"):
        write_template("own.py")


def test_the_template_runs_as_it_is(tmp_path):
    write_template(tmp_path / "own.py")
    (tmp_path / "own.yaml").write_text(
        "source: us\nlicence: none\nsubject: cow\nadapter: own.py:read\nevaluator: pck\n"
        "splits: {train: {annotations: lines.json, images: img}}\n"
        "schema: {keypoints: [nose, left_ear, right_ear]}\n"
    )
    lines = tmp_path / "lines.json"
    lines.write_text('{"image": "a.jpg", "points": {"nose": [12.5, 40], "left_ear": [3, 9.5]}}\n')
    card = load_dataset_card(tmp_path / "own.yaml")
    with code_allowed():
        read = get_adapter(card)
    (one,) = read(tmp_path, card.split("train"), card.keypoint_schema)
    assert one.image == "img/a.jpg"
    np.testing.assert_array_equal(one.visibility, [2, 2, 0])
    np.testing.assert_array_equal(one.keypoints, [[12.5, 40], [3, 9.5], [0, 0]])
    lines.write_text('{"image": "a.jpg", "points": {"tail": [1, 2]}}\n')
    with pytest.raises(DatasetError, match="line 1: found keypoint 'tail'"):
        list(read(tmp_path, card.split("train"), card.keypoint_schema))


def test_sleap_files_become_cards(tmp_path, poses):
    sleap_io = pytest.importorskip("sleap_io", reason="needs the extra lab")
    names = write_images(tmp_path / "mice" / "img")
    skeleton = sleap_io.Skeleton(list(NAMES), edges=[("nose", "TailBase")])
    skeleton.add_symmetry("L_Eye", "R_Eye")
    video = sleap_io.Video.from_filename([str(tmp_path / "mice" / "img" / n) for n in names])
    frames = [
        sleap_io.LabeledFrame(
            video=video,
            frame_idx=i,
            instances=[sleap_io.Instance.from_numpy(pose, skeleton=skeleton)],
        )
        for i, pose in enumerate(poses)
    ]
    sleap_io.Labels(frames).save(str(tmp_path / "mice" / "labels.slp"), embed=False)
    done = new_dataset(tmp_path / "mice")
    assert done.form == "SLEAP labels"
    assert done.keypoints == OURS
    assert done.pairs == [("left_eye", "right_eye", "declared")]
    assert sum(done.instances.values()) == 30


def test_the_command_writes_and_says_what_comes_next(tmp_path, poses, monkeypatch, capsys):
    from posekit.cli import main  # noqa: PLC0415

    write_coco(tmp_path / "mice", poses)
    arguments = ["posekit", "datasets", "new", str(tmp_path / "mice"), "--recipe", "r.yaml"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    said = capsys.readouterr().out
    assert "Unsure: the files have one split only" in said
    assert "posekit train r.yaml" in said
