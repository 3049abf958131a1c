"""Finding, extending and validating cards."""

import pytest

from posekit.config.cards import (
    available,
    dataset_card_from_dict,
    find,
    load_dataset_card,
    load_head_card,
    read_with_extends,
)
from posekit.errors import ConfigError

CARD = """\
source: here
licence: none
subject: animal
adapter: coco_json
splits:
  all: {annotations: a.json, images: img}
evaluator: pck
schema:
  keypoints: [nose, left_eye, right_eye]
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of the user's own cards."""
    monkeypatch.setenv("POSEKIT_CARDS", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "heads").mkdir()
    return tmp_path / "datasets"


def card(**changes):
    data = {
        "name": "toy",
        "source": "here",
        "licence": "none",
        "subject": "animal",
        "adapter": "coco_json",
        "splits": {"all": {"annotations": "a.json"}},
        "evaluator": "pck",
        "schema": {"keypoints": ["nose", "left_eye", "right_eye"]},
    }
    data |= changes
    return dataset_card_from_dict({k: v for k, v in data.items() if v is not ...}, "toy.yaml")


def test_a_card_of_the_user_s_own_is_found_by_name_and_by_path(own):
    (own / "mice.yaml").write_text(CARD)
    by_name, by_path = load_dataset_card("mice"), load_dataset_card(own / "mice.yaml")
    assert by_name == by_path
    assert (by_name.name, by_name.folder, by_name.split("all").name) == ("mice", "mice", "all")
    assert by_name.keypoint_schema.flip_pairs == (("left_eye", "right_eye"),)


def test_one_s_own_card_wins_over_one_that_ships_and_may_extend_it(own):
    (own / "coco.yaml").write_text("extends: coco\nfolder: elsewhere\n")
    mine = load_dataset_card("coco")
    assert mine.folder == "elsewhere"
    assert mine.file == own / "coco.yaml"
    assert mine.evaluator == "oks"


def test_extends_replaces_key_by_key(own):
    (own / "mice.yaml").write_text(CARD)
    (own / "rats.yaml").write_text("extends: mice\nsplits: {all: {images: rats}}\n")
    rats = load_dataset_card("rats")
    assert (rats.name, rats.folder) == ("rats", "rats")
    assert (rats.split("all").annotations, rats.split("all").images) == ("a.json", "rats")


def test_a_circle_of_extends_is_refused(own):
    (own / "a.yaml").write_text("extends: b.yaml\n")
    (own / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(ConfigError, match=r"'extends' leads back to this file"):
        read_with_extends("datasets", own / "a.yaml")
    (own / "lonely.yaml").write_text("extends: lonely\n")
    with pytest.raises(ConfigError, match=r"lonely\.yaml: key 'extends': no dataset named"):
        load_dataset_card("lonely")


def test_an_unknown_name_or_file_tells_the_nearest_and_where_it_looked(own):
    with pytest.raises(
        ConfigError, match=r"no dataset named 'cocoo'; did you mean 'coco'\? \(look"
    ):
        find("datasets", "cocoo")
    with pytest.raises(
        ConfigError, match=r"cocoo\.yaml: there is no such file; did you mean 'coco'"
    ):
        find("datasets", "cocoo.yaml")
    (own / "x.yaml").write_text("extends: gone\n")
    with pytest.raises(ConfigError, match=r"x\.yaml: key 'extends': no dataset named 'gone'"):
        load_dataset_card("x")


def test_a_path_into_the_repository_names_the_card_that_ships():
    assert find("datasets", "datasets/coco.yaml").stem == "coco"
    assert "coco" in available("datasets")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": ...}, r"toy\.yaml: key 'schema' is missing"),
        ({"schema": 3}, r"key 'schema': Input should be a valid mapping, found 3"),
        (
            {"schema": {"keypoint": ["a"]}},
            r"unknown key 'schema\.keypoint'; did you mean 'keypoints",
        ),
        (
            {"schema": {"keypoints": ["a"], "sigmas": 3}},
            r"key 'schema\.sigmas': Input should be a valid",
        ),
        ({"schema": {"keypoints": ["a"], "flip_pairs": [["a"]]}}, r"'schema\.flip_pairs\.0\.1' is"),
        (
            {"schema": {"keypoints": ["a", "b"], "flip_pairs": [["a", "c"]]}},
            r"toy\.yaml: schema 'toy': flip_pairs names the unknown keypoint 'c'",
        ),
        ({"splits": {}}, r"key 'splits': a dataset needs at least one split"),
        (
            {"splits": {"a": {"image": "x"}}},
            r"unknown key 'splits\.a\.image'; did you mean 'images'",
        ),
        ({"licence": ...}, r"key 'licence' is missing"),
        ({"license": "MIT"}, r"unknown key 'license'; did you mean 'licence'"),
        ({"box": {"padding": 0}}, r"key 'box\.padding': Input should be greater than 0"),
        ({"file": "x"}, r"unknown key 'file'"),
        ({"keypoint_schema": {}}, r"unknown key 'keypoint_schema'; did you mean 'schema'"),
    ],
)
def test_a_wrong_card_is_refused_with_file_and_key(changes, message):
    with pytest.raises(ConfigError, match=message):
        card(**changes)


def test_an_unknown_split_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"no split 'al'; did you mean 'all'\? \(splits: all\)"):
        card().split("al")


def test_a_head_card_needs_kinds(own):
    (own.parent / "heads" / "mine.yaml").write_text("decoder: {kind: simple}\ncodec: {sigma: 2}\n")
    with pytest.raises(
        ConfigError, match=r"mine\.yaml: key 'codec': expected a mapping with the key"
    ):
        load_head_card("mine")


def test_a_schema_written_out_is_a_valid_card_s_schema():
    schema = {"keypoints": ["nose", "left_eye", "right_eye"], "meanings": {"nose": "snout"}}
    first = card(schema=schema).keypoint_schema
    assert first.meanings == (("nose", "snout"),)
    assert card(schema=first.to_dict()).keypoint_schema == first
