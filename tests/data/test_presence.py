"""What is on this machine of the datasets that have cards."""

import json

import pytest

from posekit.config.cards import dataset_card_from_dict, load_dataset_card
from posekit.data.presence import presence, presence_words

KEYPOINTS = [4.0, 5, 2, 6, 7, 2]


@pytest.fixture
def card(tmp_path, monkeypatch):
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path / "cache"))
    data = {
        "name": "toy",
        "source": "the test",
        "licence": "none",
        "subject": "thing",
        "adapter": "coco_json",
        "splits": {name: {"annotations": f"{name}.json"} for name in ("train", "val", "test")},
        "evaluator": "pck",
        "schema": {"keypoints": ["a", "b"]},
    }
    return dataset_card_from_dict(data, "toy")


def write(file, count):
    file.parent.mkdir(exist_ok=True)
    annotations = [{"id": i, "image_id": 1, "keypoints": KEYPOINTS} for i in range(count)]
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2)]
    file.write_text(json.dumps({"images": images, "annotations": annotations}))


def test_a_folder_that_is_not_there_has_no_splits(card, tmp_path):
    assert presence(card, tmp_path / "nowhere") == []
    assert presence_words([]) == "-"


def test_each_split_is_counted_or_says_what_is_the_matter(card, tmp_path):
    write(tmp_path / "toy" / "train.json", 3)
    (tmp_path / "toy" / "val.json").write_text("{")
    found = presence(card, tmp_path)
    assert [(one.split, one.instances, one.images) for one in found] == [
        ("train", 3, 2),
        ("val", None, None),
        ("test", None, None),
    ]
    assert "not valid JSON" in found[1].problem
    assert found[2].problem == "no test.json"
    assert presence_words(found) == "train 3 (not readable: val, test)"


# The counts of the tables beside the data: what each folder's annotated files hold.
COUNTS = {
    "lspet": {"train": 1600, "test": 400},
    "livestock_horse": {"train": 220, "val": 40, "test": 67},
    "youtube_faces68": {"train": 1200, "test": 400},
    "openfield_mouse": {"train": 93, "test": 23},
}


@pytest.mark.shared
@pytest.mark.parametrize("name", COUNTS)
def test_the_shared_data_have_the_counts_of_their_tables(name, shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path / "cache"))
    found = presence(load_dataset_card(name), shared_data)
    assert {one.split: one.instances for one in found} == COUNTS[name]


# Folder -> (card whose schema and options read it, file, labelled instances by the table).
SAMPLES = {
    "coco": ("coco", "test_coco.json", 12),
    "coco wholebody": ("coco_wholebody", "coco/test_coco_wholebody.json", 12),
    "halpe": ("halpe", "test_halpe.json", 12),
    "aic": ("aic", "test_aic.json", 9),
    "mpii": ("mpii", "test_mpii.json", 5),
    "mpii_trb": ("mpii_trb", "mpii/test_mpii_trb.json", 5),
    "crowdpose": ("crowdpose", "test_crowdpose.json", 4),
    "jhmdb": ("jhmdb", "test_jhmdb_sub1.json", 3),
    "mhp": ("mhp", "test_mhp.json", 4),
    "ap10k": ("ap10k", "test_ap10k.json", 2),
    "animalpose": ("animalpose", "test_animalpose.json", 2),
    "atrw": ("atrw", "test_atrw.json", 2),
    "fly": ("fly", "test_fly.json", 2),
    "wflw": ("wflw", "test_wflw.json", 4),
    "300w": ("300w", "test_300w.json", 2),
    "cofw": ("cofw", "test_cofw.json", 2),
    "aflw": ("aflw", "test_aflw.json", 2),
    "onehand10k": ("onehand10k", "test_onehand10k.json", 4),
    "freihand": ("freihand2d", "test_freihand.json", 8),
    "rhd": ("rhd2d", "test_rhd.json", 3),
}
COCO_COPIES = {"aic", "wflw", "300w", "cofw"}


@pytest.mark.shared
@pytest.mark.parametrize("folder", SAMPLES)
def test_every_sample_folder_reads_with_its_labelled_instances(folder, shared_data):
    from posekit.adapters import EmptyImage, get_adapter  # noqa: PLC0415
    from posekit.config.cards import SplitCard  # noqa: PLC0415

    name, file, count = SAMPLES[folder]
    card = load_dataset_card(name)
    options = dict(next(iter(card.splits.values())).options)
    if folder in COCO_COPIES:
        card, options = card.model_copy(update={"adapter": "coco_json"}), {}
    options.pop("headboxes", None)
    split = SplitCard(
        name="all", annotations=file if "/" in file else f"{folder}/{file}", options=options
    )
    items = get_adapter(card)(shared_data, split, card.keypoint_schema)
    labelled = [i for i in items if not isinstance(i, EmptyImage) and (i.visibility > 0).any()]
    assert len([i for i in labelled if not i.is_crowd]) == count
