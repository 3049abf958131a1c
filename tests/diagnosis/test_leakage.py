"""Training images that are also in a split that scores are made on are found, and only those."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest

from posekit.diagnosis.leakage import (
    ImageSet,
    duplicate_findings,
    exclusions,
    find_leaks,
    leakage_findings,
    write_exclusions,
)
from posekit.diagnosis.pictures import OK, ImageFacts, perceptual_hash
from posekit.engine.setup import read_heads
from posekit.errors import PosekitError

FILES = count(1)  # every picture is a file of its own


def facts_of(pictures: list[np.ndarray], digests: list[bytes] | None = None) -> ImageFacts:
    hashed = [perceptual_hash(picture) for picture in pictures]
    number = len(pictures)
    return ImageFacts(
        state=np.full(number, OK, np.uint8),
        size=np.array([picture.shape for picture in pictures], np.int32),
        digest=np.array(digests or [b"file %d" % next(FILES) for _ in pictures], "S32"),
        hash=np.array([value for value, _, _ in hashed], np.uint64),
        thumbnail=np.stack([thumbnail for _, thumbnail, _ in hashed]),
        has_hash=np.array([holds for _, _, holds in hashed]),
        problems={},
    )


def photographs(practice: Path, name: str, number: int) -> list[np.ndarray]:
    files = sorted((practice / name).rglob("*.jpg"))[:number]
    pictures = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in files]
    assert len(pictures) == number
    return pictures


def copied(picture: np.ndarray, scale: float, quality: int) -> np.ndarray:
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


def test_copies_are_found_after_jpeg_and_resizing_and_nothing_else(practice: Path):
    pictures = photographs(practice, "coco", 60) + photographs(practice, "ap10k", 60)
    rng = np.random.default_rng(4)
    chosen = rng.choice(120, 40, replace=False)
    copies = [copied(pictures[i], s, int(q)) for i, s, q in zip(
        chosen, rng.uniform(0.4, 1.4, 40), rng.integers(35, 95, 40), strict=True)]  # fmt: skip
    others = photographs(practice, "wflw", 60)
    leaks = find_leaks(facts_of(pictures), facts_of(others + copies))
    found = dict(zip(leaks.train.tolist(), leaks.other.tolist(), strict=True))
    right = {int(i): 60 + place for place, i in enumerate(chosen)}
    assert len(found) >= 38  # recall of 95 %
    assert found == {i: place for i, place in right.items() if i in found}
    assert set(leaks.kind) == {"picture"}


def test_equal_files_are_found_though_their_pictures_are_flat():
    flat = [np.full((20, 20), value, np.uint8) for value in (10, 200)]
    leaks = find_leaks(facts_of(flat, [b"a", b"b"]), facts_of(flat[::-1], [b"c", b"a"]))
    assert (leaks.train.tolist(), leaks.other.tolist(), leaks.kind) == ([0], [1], ("bytes",))


def test_a_moved_subject_before_the_same_background_only_looks_alike():
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 255, (6, 8), dtype=np.uint8), (320, 240))
    first, second = scene.copy(), scene.copy()
    cv2.circle(first, (100, 120), 10, 0, -1)
    cv2.circle(second, (220, 120), 10, 0, -1)
    leaks = find_leaks(facts_of([first]), facts_of([second]))
    assert (len(leaks.train), leaks.alike.tolist()) == (0, [0])


def two_sets(practice: Path):
    pictures = photographs(practice, "coco", 6)
    train = ImageSet("a/train", practice, [f"t{i}.jpg" for i in range(4)], facts_of(pictures[:4]))
    other = ImageSet("b/val", practice, [f"v{i}.jpg" for i in range(3)], facts_of(pictures[3:]))
    return train, other, find_leaks(train.facts, other.facts)


def test_a_leak_is_an_error_that_names_both_images(practice: Path):
    train, other, leaks = two_sets(practice)
    (found,) = leakage_findings(train, other, leaks)
    assert (found.name, found.severity, found.count) == ("leakage", "error", 1)
    assert found.examples[0].image == "t3.jpg"
    assert "v0.jpg of b/val" in found.examples[0].note


def test_equal_files_within_a_split_are_named(practice: Path):
    facts = facts_of(photographs(practice, "coco", 3), [b"x", b"y", b"x"])
    (found,) = duplicate_findings(ImageSet("a/train", practice, ["p", "q", "r"], facts))
    assert (found.name, found.count) == ("images_repeated", 1)
    assert (found.examples[0].image, found.examples[0].note) == ("r", "equals p")


def test_the_list_has_a_reason_and_a_path_for_each_image(practice: Path, tmp_path: Path):
    train, other, leaks = two_sets(practice)
    excluded = exclusions(train, [(other, leaks)])
    file = write_exclusions(tmp_path / "lists" / "out.txt", excluded, "about it")
    assert file.read_text().splitlines() == [
        "# about it", "# the same picture as v0.jpg of b/val", "t3.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["#1.jpg", " a.jpg", "a\n.jpg"])
def test_a_path_that_the_list_cannot_hold_is_refused(tmp_path: Path, path: str):
    with pytest.raises(PosekitError, match="cannot stand in a list"):
        write_exclusions(tmp_path / "out.txt", {path: "why"}, "about")


@pytest.mark.parametrize("entry", ["images/train_2.png", "2"])
def test_a_recipe_leaves_out_what_the_list_names_by_path_or_by_id(tiny, tmp_path, entry: str):
    recipe = tiny()
    file = write_exclusions(tmp_path / "out.txt", {entry: "the same file as a of b"}, "about")
    head = recipe.heads["blobs"].model_copy(update={"exclude": str(file)})
    recipe = recipe.model_copy(update={"heads": {**recipe.heads, "blobs": head}})
    index = read_heads(recipe)["blobs"].train_index()
    images = index.columns.image_path[index.columns.image_index[index.trainable]]
    assert len(index.trainable) == len(index) - 1
    assert b"images/train_2.png" not in images.tolist()
    assert index.skipped["excluded image"] == 1
