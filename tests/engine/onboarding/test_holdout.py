"""What is held out where a dataset has one split: whole groups, about a fifth, always the same."""

import pytest

from posekit.adapters.base import Instance
from posekit.adapters.subset import Subset, select
from posekit.config.cards import SplitCard
from posekit.engine.onboarding.holdout import hold_out


def shares(images, tmp_path):
    parts = hold_out(images)
    split = SplitCard(name="x")
    kept = []
    for rule in (parts.train, parts.held_out):
        items = (Instance(i, i, n, None, None) for n, i in enumerate(images))
        kept.append([item.image for item in select(items, Subset(**rule), tmp_path, split)])
    assert sorted(kept[0] + kept[1]) == sorted(images)
    assert 0.05 < len(kept[1]) / len(images) < 0.4
    return *kept, parts.words


def test_videos_in_folders_stay_whole(tmp_path):
    images = [f"labeled-data/v{v}/img{i:03d}.png" for v in range(7) for i in range(10 + v)]
    train, held_out, words = shares(images, tmp_path)
    assert not {i.split("/")[1] for i in train} & {i.split("/")[1] for i in held_out}
    assert "folders" in words


def test_pictures_of_one_person_stay_together(tmp_path):
    images = [f"faces/person_{chr(97 + p)}_{i:02d}.jpg" for p in range(20) for i in range(5)]
    train, held_out, _ = shares(images, tmp_path)
    assert not {i[:-7] for i in train} & {i[:-7] for i in held_out}


def test_many_groups_are_drawn_by_hash(tmp_path):
    images = [f"p{p}x_{i}.jpg" for p in range(300) for i in range(3)]
    train, held_out, words = shares(images, tmp_path)
    assert not {i.split("_")[0] for i in train} & {i.split("_")[0] for i in held_out}
    assert "by hash" in words


def test_one_video_is_cut_in_two_by_frame_number(tmp_path):
    images = [f"v/img{i}.png" for i in range(8, 120)]
    train, held_out, words = shares(images, tmp_path)
    number = lambda name: int(name[5:-4])  # noqa: E731
    assert max(map(number, train)) < min(map(number, held_out))
    assert "one video" in words


def test_independent_photographs_are_drawn_by_hash(tmp_path):
    images = [f"img/{i * 7919 % 1000003:012d}.jpg" for i in range(1, 200)]
    _, held_out, words = shares(images, tmp_path)
    assert "by hash" in words
    assert shares(images, tmp_path)[1] == held_out


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"by": "folder"},
        {"keep_every": 2, "by": "folder"},
        {"before": "a", "starting": "b"},
        {"fraction": [0.5, 0.2]},
    ],
)
def test_rules_that_make_no_sense_are_refused(rule):
    with pytest.raises(ValueError, match=r"expected|says"):
        Subset(**rule)


def test_present_leaves_out_images_that_are_not_there(tmp_path):
    (tmp_path / "a.jpg").touch()
    items = (Instance(i, i, n, None, None) for n, i in enumerate(["a.jpg", "b.jpg"]))
    kept = select(items, Subset(present=True), tmp_path, SplitCard(name="x"))
    assert [item.image for item in kept] == ["a.jpg"]
