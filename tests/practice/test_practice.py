"""Practice datasets: official formats as the adapters read them, determinism, errors."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from posekit.adapters import EmptyImage, get_adapter
from posekit.config.cards import load_dataset_card
from posekit.errors import ConfigError, DatasetError, OutputError
from posekit.practice import (
    PRACTICE_DATASETS,
    PracticeSizes,
    write_practice_data,
)
from posekit.practice.formats import LAYOUTS, Shot
from posekit.practice.practice import encode_jpeg

SIZES = PracticeSizes(train=5, evaluation=3)
SPLITS = [(name, split) for name in PRACTICE_DATASETS for split in LAYOUTS[name].splits]


@pytest.fixture(scope="module")
def practice(tmp_path_factory):
    return write_practice_data(tmp_path_factory.mktemp("practice"), seed=3, sizes=SIZES)


def read(practice, name, split):
    card = load_dataset_card(name)
    assert practice[name].name == card.folder
    adapter = get_adapter(card)
    found = adapter(practice[name], card.split(split), card.keypoint_schema)
    return card, [instance for instance in found if not isinstance(instance, EmptyImage)]


def truths(name, split):
    """Render the split's pictures again and give (scene, label, image file) of every figure."""
    layout = LAYOUTS[name]
    wanted = SIZES.train if layout.splits[split] == "train" else SIZES.evaluation
    for shot in layout.shots(3, split, wanted):
        scene = layout.render(shot)
        for label in scene.labels:
            yield scene, label, layout.image_file(shot)


def contents(folder):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_the_card_and_its_adapter_read_back_what_was_drawn(practice, name, split):
    card, instances = read(practice, name, split)
    expected = list(truths(name, split))
    people = [instance for instance in instances if not instance.is_crowd]
    assert len(people) == len(expected) >= (5 if split == "train" else 3)
    for instance, (scene, label, file) in zip(people, expected, strict=True):
        assert instance.image == file
        image = cv2.imread(str(practice[name] / file))
        assert image.shape == scene.image.shape
        points, visibility = label.select(card.keypoint_schema.keypoints)
        if name == "wflw":  # coordinates with fractions, and no visibility in the file
            assert (instance.visibility > 0).all()
            np.testing.assert_allclose(instance.keypoints, points, atol=1e-4)
            continue
        codes = np.where(visibility > 0, 2, 0) if name == "mpii" else visibility
        np.testing.assert_array_equal(instance.visibility, codes)
        kept = visibility > 0
        np.testing.assert_array_equal(instance.keypoints[kept], np.rint(points[kept]))


@pytest.mark.parametrize("name", ["coco", "aic", "ap10k"])
def test_boxes_are_tight_around_what_can_be_seen(practice, name):
    _, instances = read(practice, name, "train")
    people = [instance for instance in instances if not instance.is_crowd]
    for instance, (_, label, _) in zip(people, truths(name, "train"), strict=True):
        x0, y0, x1, y1 = label.box_xyxy
        assert instance.box_xywh.tolist() == [x0, y0, x1 - x0 + 1, y1 - y0 + 1]


def test_coco_area_and_polygons_are_the_rendered_mask(practice):
    _, instances = read(practice, "coco", "train")
    file = practice["coco"] / "annotations/person_keypoints_train2017.json"
    annotations = {a["id"]: a for a in json.loads(file.read_text())["annotations"]}
    for instance, (scene, label, _) in zip(instances, truths("coco", "train"), strict=True):
        assert instance.area == label.area
        polygons = annotations[instance.instance_id]["segmentation"]
        runs = coco_mask.merge(coco_mask.frPyObjects(polygons, *scene.image.shape[:2]))
        drawn = coco_mask.decode(runs).astype(bool)
        overlap = (drawn & label.mask).sum() / (drawn | label.mask).sum()
        assert overlap > 0.75


def test_coco_marks_a_crowd_as_a_region_without_keypoints():
    scene = LAYOUTS["coco"].render(Shot(3, "train", 4))
    shot = LAYOUTS["coco"].shots(3, "train", 12)[4]
    crowd = LAYOUTS["coco"].record(shot, scene)["annotations"][-1]
    assert crowd["iscrowd"] == 1
    assert crowd["num_keypoints"] == 0
    runs = coco_mask.frPyObjects(crowd["segmentation"], *scene.image.shape[:2])
    np.testing.assert_array_equal(coco_mask.decode(runs).astype(bool), scene.crowd_mask)


def test_mpii_crops_hold_the_person_and_head_sizes_follow_the_records(practice):
    _, instances = read(practice, "mpii", "val")
    for instance, (_, label, _) in zip(instances, truths("mpii", "val"), strict=True):
        x0, y0, x1, y1 = label.box_xyxy
        offset = instance.crop_center - np.array([0.5 * (x0 + x1), 0.5 * (y0 + y1)])
        side = max(x1 - x0, y1 - y0) + 1
        assert np.abs(offset).max() < 0.25 * side
        assert 0.79 < instance.crop_size[0] / side < 1.16
        left, top, right, bottom = np.rint(label.figure.extras["head_box_xyxy"])
        diagonal = float(np.hypot(right - left, bottom - top))
        assert instance.extras["head_size"] == pytest.approx(0.6 * diagonal)


def test_animals_carry_official_category_ids(practice):
    official = {"antelope": 1, "cow": 5, "dog": 8, "deer": 17, "horse": 21, "cat": 24, "pig": 48}
    file = practice["ap10k"] / "annotations/ap10k-val-split1.json"
    categories = {c["name"]: c["id"] for c in json.loads(file.read_text())["categories"]}
    assert len(categories) == 54
    assert official.items() <= categories.items()
    _, instances = read(practice, "ap10k", "train")
    drawn = [label.figure.category for _, label, _ in truths("ap10k", "train")]
    assert [instance.category_id for instance in instances] == [categories[n] for n in drawn]


@pytest.mark.shared
def test_categories_are_those_of_the_official_animal_file(practice, shared_data):
    official = json.loads((shared_data / "ap10k/test_ap10k.json").read_text())["categories"]
    file = practice["ap10k"] / "annotations/ap10k-test-split1.json"
    assert json.loads(file.read_text())["categories"] == official


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "written", "sample"),
    [
        ("coco", "annotations/person_keypoints_val2017.json", "coco/test_coco.json"),
        ("ap10k", "annotations/ap10k-val-split1.json", "ap10k/test_ap10k.json"),
    ],
)
def test_records_have_the_keys_of_the_official_files(practice, shared_data, name, written, sample):
    ours = json.loads((practice[name] / written).read_text())
    theirs = json.loads((shared_data / sample).read_text())
    for part in ("images", "annotations", "categories"):
        assert ours[part][0].keys() == theirs[part][0].keys()


@pytest.mark.shared
def test_people_files_have_the_keys_of_the_official_list(practice, shared_data):
    ours = json.loads((practice["mpii"] / "annotations/mpii_val.json").read_text())
    theirs = json.loads((shared_data / "mpii/test_mpii.json").read_text())
    assert ours[0].keys() == theirs[0].keys()


def test_the_same_seed_gives_the_same_bytes(practice, tmp_path):
    again = write_practice_data(tmp_path, seed=3, sizes=SIZES)
    for name in PRACTICE_DATASETS:
        assert contents(again[name]) == contents(practice[name])


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(practice, tmp_path):
    datasets = ("aic", "wflw")
    again = write_practice_data(tmp_path, seed=3, sizes=SIZES, datasets=datasets, workers=2)
    for name in datasets:
        assert contents(again[name]) == contents(practice[name])


def test_another_seed_gives_other_people(practice, tmp_path):
    other = write_practice_data(tmp_path, seed=4, sizes=SIZES, datasets=["aic"])
    ours, theirs = contents(practice["aic"]), contents(other["aic"])
    assert not {n for n in ours if n.endswith(".jpg")} & set(theirs)
    images = [LAYOUTS["aic"].render(Shot(seed, "train", 0)).image for seed in (3, 4)]
    assert (images[0] != images[1]).mean() > 0.5


def test_larger_sizes_keep_the_first_pictures(practice, tmp_path):
    larger = PracticeSizes(train=9, evaluation=3)
    more = write_practice_data(tmp_path, seed=3, sizes=larger, datasets=["mpii"])
    ours, theirs = contents(practice["mpii"]), contents(more["mpii"])
    pictures = [name for name in ours if name.endswith(".jpg")]
    assert len(pictures) < sum(name.endswith(".jpg") for name in theirs)
    assert all(theirs[name] == ours[name] for name in pictures)


def test_any_picture_can_be_drawn_again_alone(practice):
    shot = LAYOUTS["ap10k"].shots(3, "test", 3)[2]
    file = practice["ap10k"] / LAYOUTS["ap10k"].image_file(shot)
    scene = LAYOUTS["ap10k"].render(Shot(3, "test", 2))
    assert file.read_bytes() == encode_jpeg(scene.image)


def test_a_complete_folder_is_reused(tmp_path):
    folder = write_practice_data(tmp_path, sizes=PracticeSizes(1, 1), datasets=["wflw"])["wflw"]
    picture = next(folder.rglob("*.jpg"))
    picture.write_bytes(b"untouched")
    seen = []
    sizes = PracticeSizes(1, 1)
    write_practice_data(tmp_path, 0, sizes, ["wflw"], progress=lambda *a: seen.append(a))
    assert picture.read_bytes() == b"untouched"
    assert seen == []


def test_progress_counts_to_the_number_of_pictures(tmp_path):
    seen = []
    sizes = PracticeSizes(2, 1)
    write_practice_data(tmp_path, 0, sizes, ["wflw", "mpii"], progress=lambda *a: seen.append(a))
    total = len(list(tmp_path.rglob("*.jpg")))
    assert [(done, of) for _, done, of in seen] == [(i + 1, total) for i in range(total)]
    assert [name for name, _, _ in seen[:: total - 1]] == ["wflw", "mpii"]


def test_two_writers_of_the_same_data_agree(tmp_path):
    sizes = PracticeSizes(1, 1)

    def interfere(name, done, total):
        if done == 1:
            write_practice_data(tmp_path / "other", 0, sizes, ["wflw"])
            (tmp_path / "other/wflw").rename(tmp_path / "wflw")

    folder = write_practice_data(tmp_path, 0, sizes, ["wflw"], progress=interfere)["wflw"]
    assert len(list(folder.rglob("*.jpg"))) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "wflw"]


def test_a_foreign_folder_is_left_alone_with_a_clear_error(tmp_path):
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco/mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match=r"coco: .*is not practice data; choose another folder"):
        write_practice_data(tmp_path, sizes=PracticeSizes(1, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]


def test_practice_data_of_another_seed_is_named(tmp_path):
    write_practice_data(tmp_path, sizes=PracticeSizes(1, 1), datasets=["wflw"])
    with pytest.raises(DatasetError, match=r"other practice data is already there: seed 0, wanted"):
        write_practice_data(tmp_path, 7, PracticeSizes(1, 1), ["wflw"])


def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def refuse(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(
        OutputError, match=r"aic: .*No space left on device.*; free some space \(about 40"
    ):
        write_practice_data(tmp_path, sizes=PracticeSizes(1, 1), datasets=["aic"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_script_without_main_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from posekit.practice import PracticeSizes, write_practice_data\n"
        f"write_practice_data({str(tmp_path / 'out')!r}, 0, PracticeSizes(1, 1), workers=2)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "call it under `if __name__ == '__main__':`, or with workers=1" in done.stderr


def test_a_mistyped_dataset_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"no practice dataset 'cocoo'; did you mean 'coco'\?"):
        write_practice_data(tmp_path, datasets=["cocoo"])


def test_sizes_below_one_are_refused():
    with pytest.raises(ConfigError, match="expected at least 1"):
        PracticeSizes(train=0)
