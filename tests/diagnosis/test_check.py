"""The whole check, from Python and from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from tiny import write_card, write_dataset
from typer.testing import CliRunner

from posekit.cli import app
from posekit.config.cards import load_dataset_card
from posekit.diagnosis import OtherSplit, check_dataset
from posekit.errors import DatasetError
from posekit.pages.check_page import write_check_page

Result = tuple[int, dict[str, Any]]


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["datasets", "check", *arguments, "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout)


def named(report: dict[str, Any]) -> list[str]:
    return [finding["name"] for finding in report["findings"]]


@pytest.fixture
def blobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small clean dataset with its card."""
    monkeypatch.setenv("POSEKIT_CARDS", str(tmp_path / "cards"))
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path / "cache"))
    write_card(tmp_path / "cards", "blobs")
    return write_dataset(tmp_path / "data", "blobs")


@pytest.mark.parametrize("name", ["coco", "ap10k", "wflw"])
def test_clean_practice_data_is_silent(practice: Path, tmp_path: Path, name: str):
    report = check_dataset(
        load_dataset_card(name), practice / name, threads=1, cache_dir=tmp_path
    ).report
    assert [f"{f.name}: {f.text}" for f in report.findings if f.severity != "note"] == []
    assert not report.has_errors
    assert {facts.name for facts in report.splits} >= {"train"}


def test_a_clean_dataset_ends_with_0_and_a_page(blobs: Path, tmp_path: Path):
    page = tmp_path / "check.html"
    code, report = run("blobs", "--root", str(blobs), "--out", str(page))
    assert (code, report["ok"]) == (0, True)
    assert report["splits"][0]["visibility_says"].startswith("always 2")
    assert "http" not in page.read_text().replace("http-equiv", "")


def test_images_that_are_missing_broken_or_of_another_size_are_named(blobs: Path, tmp_path: Path):
    images = blobs / "images"
    (images / "train_1.png").unlink()
    (images / "train_2.png").write_bytes(b"no image")
    picture = cv2.imread(str(images / "train_3.png"))
    cv2.imwrite(str(images / "train_3.png"), cv2.resize(picture, (50, 40)))
    page = tmp_path / "check.html"
    code, report = run("blobs", "--root", str(blobs), "--out", str(page))
    found = {f["name"]: f["examples"][0] for f in report["findings"]}
    assert code == 1
    assert found["images_missing"]["image"] == "images/train_1.png"
    assert found["images_unreadable"]["image"] == "images/train_2.png"
    assert "found 50 x 40 pixels, declared 96 x 72" in found["images_of_other_size"]["note"]
    text = page.read_text()
    assert all(f'id="finding-{n}"' in text for n in range(3))


def test_without_images_only_missing_ones_are_named(blobs: Path):
    (blobs / "images" / "train_1.png").unlink()
    (blobs / "images" / "train_2.png").write_bytes(b"no image")
    code, report = run("blobs", "--root", str(blobs), "--no-images")
    assert (code, named(report)) == (1, ["images_missing"])


def test_annotations_that_cannot_be_read_are_a_finding_and_the_rest_is_checked(blobs: Path):
    (blobs / "val.json").write_text("{")
    code, report = run("blobs", "--root", str(blobs))
    assert (code, named(report)) == (1, ["annotations_unreadable"])
    assert [facts["name"] for facts in report["splits"]] == ["train"]


def test_a_split_that_is_not_there_is_told_and_no_error(blobs: Path):
    (blobs / "val.json").unlink()
    code, report = run("blobs", "--root", str(blobs))
    assert (code, report["absent"]) == (0, {"val": "no val.json"})


def test_leaks_within_and_across_datasets_are_listed_for_a_recipe(
    blobs: Path, tmp_path: Path, practice: Path
):
    shutil.copy(blobs / "images" / "train_4.png", blobs / "images" / "val_2.png")
    other = write_dataset(tmp_path / "other", "blobs", seed=5)
    shutil.copy(blobs / "images" / "train_6.png", other / "images" / "val_1.png")
    listed = tmp_path / "exclude.txt"
    code, report = run(
        "blobs", "--root", str(blobs), "--against", f"blobs:val:{other}",
        "--exclude-out", str(listed),
    )  # fmt: skip
    assert (code, named(report)) == (1, ["leakage", "leakage"])
    lines = [line for line in listed.read_text().splitlines() if not line.startswith("#")]
    assert lines == ["images/train_4.png", "images/train_6.png"]


def test_flip_pairs_that_are_no_involution_are_named_before_anything_is_read(tmp_path: Path):
    file = write_card(tmp_path, "blobs")
    card = yaml.safe_load(file.read_text())
    card["schema"]["flip_pairs"] = [["left_end", "right_end"], ["left_end", "middle"]]
    file.write_text(yaml.safe_dump(card))
    code, report = run(str(file), "--root", str(tmp_path))
    assert (code, named(report)) == (1, ["flip_pairs_no_involution"])
    assert (
        "'left_end' is paired with 'right_end' and with 'middle'" in report["findings"][0]["text"]
    )


def test_missing_flip_pairs_and_a_shifted_origin_in_files_are_named(
    practice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "coco"
    shutil.copytree(practice / "coco" / "annotations", root / "annotations")
    file = root / "annotations" / "person_keypoints_train2017.json"
    content = json.loads(file.read_text())
    for number, record in enumerate(content["annotations"]):
        points = record["keypoints"]
        if number < 4 and any(points[2::3]):  # people cut off at the right border
            image = next(i for i in content["images"] if i["id"] == record["image_id"])
            first = next(k for k in range(17) if points[3 * k + 2])
            points[3 * first] = image["width"] - 1
        for k in range(17):
            if points[3 * k + 2]:
                points[3 * k], points[3 * k + 1] = points[3 * k] + 1, points[3 * k + 1] + 1
    file.write_text(json.dumps(content))
    card = tmp_path / "mine.yaml"
    pairs = [["left_ear", "right_ear"]]
    card.write_text(yaml.safe_dump({"extends": "coco", "schema": {"flip_pairs": pairs}}))
    code, report = run(str(card), "--root", str(root), "--no-images", "--split", "train")
    assert code == 1
    assert {"counts_from_one", "flip_pairs_missing"} <= set(named(report))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["blobs"], "--root: name the folder"),
        (["blobs", "--root", ".", "--against", "blobs"], "expected CARD:SPLIT:ROOT"),
        (["blobs", "--root", ".", "--adapter", "--out", "x"], "--adapter writes no page"),
        (["blobs", "--root", ".", "--no-images", "--exclude-out", "x"], "needs the images"),
    ],
)
def test_wrong_usage_is_one_sentence(blobs: Path, arguments: list[str], words: str):
    result = CliRunner().invoke(app, ["datasets", "check", *arguments])
    assert words in str(result.exception)


def test_a_folder_that_is_not_there_is_an_error_with_its_name(blobs: Path, tmp_path: Path):
    with pytest.raises(DatasetError, match="there is no such folder"):
        check_dataset(load_dataset_card("blobs"), tmp_path / "nowhere")


def test_another_dataset_is_compared_from_python_too(blobs: Path, tmp_path: Path):
    other = write_dataset(tmp_path / "other", "blobs", seed=5)
    shutil.copy(blobs / "images" / "train_6.png", other / "images" / "val_1.png")
    card = load_dataset_card("blobs")
    checked = check_dataset(card, blobs, against=[OtherSplit(card, "val", other)])
    assert list(checked.excluded) == ["images/train_6.png"]
    assert write_check_page(tmp_path / "deep" / "page.html", checked).is_file()


REAL = {
    "livestock_horse": ({"leakage"}, {"leakage", "images_alike"}),
    "openfield_mouse": ({"leakage"}, {"leakage", "images_alike", "sides_swapped"}),
    "lspet": (set(), {"sides_swapped"}),
    "youtube_faces68": (set(), {"points_outside_image", "pose_outliers"}),
}


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_data_is_silent_but_for_its_true_faults(shared_data: Path, tmp_path: Path, name: str):
    card = load_dataset_card(name)
    errors, expected = REAL[name]
    with_images = name in {"livestock_horse", "openfield_mouse"}
    report = check_dataset(
        card, shared_data / card.folder, cache_dir=tmp_path, decode=with_images, threads=1
    ).report
    assert set(report.names) == expected
    assert {found.name for found in report.findings if found.severity == "error"} == errors
