"""Every card that ships: valid, documented, and with the facts of the reference."""

import json

import pytest
import yaml

from posekit.adapters import ADAPTERS
from posekit.config.cards import available, card_folders, load_dataset_card
from posekit.evaluation.protocol import Protocol
from posekit.evaluation.registry import EVALUATORS, protocol_of
from posekit.schema import KeypointSchema

CARDS = sorted(
    name
    for name, file in available("datasets").items()
    if file.parent == card_folders("datasets")[-1]
)


@pytest.fixture(params=CARDS)
def card(request):
    return load_dataset_card(request.param)


def test_a_card_says_where_it_comes_from_and_on_what_terms(card):
    assert card.title
    assert "http" in card.source
    assert card.licence
    assert card.subject in {"person", "animal", "face", "hand", "clothes"}


def test_a_card_names_an_adapter_and_an_evaluator_that_exist(card):
    assert card.adapter in ADAPTERS.built_in
    assert card.evaluator in EVALUATORS.built_in


def test_a_card_s_protocol_is_one_of_its_evaluator(card):
    assert isinstance(protocol_of(card), Protocol)


def test_keypoints_that_a_protocol_names_are_in_the_schema(card):
    known = set(card.keypoint_schema.keypoints)
    protocol = protocol_of(card)
    named = [k for pair in getattr(protocol, "parts", {}).values() for k in pair]
    named += [k for column in getattr(protocol, "columns", {}).values() for k in column]
    named += list(getattr(protocol, "left_out", ()))
    for normaliser in [
        getattr(protocol, "normaliser", None),
        *getattr(protocol, "normalisers", {}).values(),
    ]:
        named += normaliser if isinstance(normaliser, tuple) else []
    assert set(named) <= known


def test_ap_has_sigmas_and_sigmas_have_a_source(card):
    if card.evaluator in {"oks", "crowdpose", "wholebody"}:
        assert card.keypoint_schema.sigmas is not None
    assert (card.keypoint_schema.sigmas is None) == (card.keypoint_schema.sigmas_source is None)


def test_the_file_of_a_card_is_pleasant_to_read(card):
    text = card.file.read_text()
    for line in text.splitlines():
        assert line == line.rstrip()
        assert len(line) <= 100 or len(line.split()) <= 2, line
    assert yaml.safe_load(text)


def test_left_and_right_names_are_flip_pairs(card):
    """Whatever the pairs come from, a left_x with its right_x must be one of them."""
    pairs = {frozenset(pair) for pair in card.keypoint_schema.flip_pairs}
    names = card.keypoint_schema.keypoints
    for name in names:
        other = name.replace("left", "*").replace("right", "left").replace("*", "right")
        if other != name and other in names:
            assert frozenset((name, other)) in pairs


def test_a_skeleton_is_its_own_mirror_image_or_says_nothing(card):
    schema = card.keypoint_schema
    links = {frozenset(link) for link in schema.skeleton}
    mirror = dict(schema.flip_pairs) | {b: a for a, b in schema.flip_pairs}
    mirrored = {frozenset(mirror.get(name, name) for name in link) for link in links}
    if card.name not in ASYMMETRIC:
        assert mirrored == links


# The source draws the right ring finger and leaves out the left one.
ASYMMETRIC = {"ubody3d"}


# Where the reference's mirror is no mirror, the card settles it and says so.
SLIPS_OF_FLIPS = {"300wlp": "all", "deepfashion2": ("vest_kpt9", "vest_kpt13")}


def reference_name(card):
    return {"apt36k": "ap10k", "youtube_faces68": "300w"}.get(card.name, card.name)


@pytest.mark.shared
def test_the_schema_is_the_reference_s(card, reference):
    facts = json.loads((reference / "schemas.json").read_text()).get(reference_name(card))
    if facts is None:
        pytest.skip("not among the reference schemas")
    schema = card.keypoint_schema
    assert len(schema) == facts["num_keypoints"]
    slips = SLIPS_OF_FLIPS.get(card.name, ())
    for i, (ours, theirs) in enumerate(
        zip(schema.flip_indices, facts["flip_indices"], strict=True)
    ):
        assert ours == theirs or schema.keypoints[i] in slips or slips == "all"
    assert schema.skeleton_indices.tolist() == facts["skeleton"]
    if schema.sigmas is not None:
        assert list(schema.sigmas) == facts["sigmas"]
    if schema.upper_body:
        assert [schema.index(name) for name in schema.upper_body] == facts["upper_body"]


@pytest.mark.shared
def test_every_reference_schema_has_a_card(reference):
    facts = json.loads((reference / "schemas.json").read_text())
    assert {name for name in facts if name != "_meta"} <= set(CARDS)


def test_equal_numbered_names_mean_equal_points():
    """face_i is the iBUG point i wherever it stands; its mirror must agree between schemas."""
    faces = {}
    for name in CARDS:
        schema: KeypointSchema = load_dataset_card(name).keypoint_schema
        for a, b in schema.flip_pairs:
            if a.startswith("face_"):
                faces.setdefault(a, b)
                assert faces[a] == b
