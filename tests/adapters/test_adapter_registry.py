"""Adapters by name, by module, beside the card, and from installed packages."""

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest
from format_writers import FORMATS, SCHEMA
from test_adapter_contract import card_of

from posekit.adapters import ADAPTERS, get_adapter
from posekit.config import plug_ins
from posekit.config.cards import SplitCard
from posekit.config.plug_ins import code_allowed
from posekit.errors import ConfigError, DatasetError

OWN = """
import numpy as np
from posekit.adapters import Instance, adapter

@adapter
def read(root, split, schema):
    for number in range(3):
        yield Instance(
            image=f"{number}.jpg",
            image_id=number,
            instance_id=number,
            keypoints=np.zeros((len(schema), 2), np.float32),
            visibility=np.full(len(schema), 2, np.uint8),
        )
"""


@pytest.fixture(autouse=True)
def _code_may_run():
    with code_allowed():
        yield


@pytest.fixture
def beside(tmp_path):
    """A card with an adapter of one's own in a file beside it."""

    def make(source, name="own.py:read", split=None):
        (tmp_path / "own.py").write_text(source)
        card = card_of(name, split or SplitCard())
        return card.model_copy(update={"file": tmp_path / "card.yaml"})

    return make


def run(card, root):
    return list(get_adapter(card)(root, card.split("all"), SCHEMA))


def test_a_file_beside_the_card_reads_and_obeys_subsets(beside, tmp_path):
    assert len(run(beside(OWN), tmp_path)) == 3
    part = SplitCard(options={"subset": {"keep_every": 3}})
    assert [i.image for i in run(beside(OWN, split=part), tmp_path)] == ["2.jpg"]


def test_a_module_and_an_entry_point_read(monkeypatch, tmp_path):
    module = ModuleType("my_poses")
    exec(OWN, module.__dict__)  # noqa: S102
    monkeypatch.setitem(sys.modules, "my_poses", module)
    assert len(run(card_of("my_poses:read", SplitCard()), tmp_path)) == 3
    point = EntryPoint("mine", "my_poses:read", "posekit.adapters")
    monkeypatch.setattr(
        plug_ins, "entry_points", lambda group, name="mine": [point] if name == "mine" else []
    )
    assert "mine" in ADAPTERS.names()
    assert len(run(card_of("mine", SplitCard()), tmp_path)) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "coco_jsno",
            r"there is no adapter 'coco_jsno'; did you mean 'coco_json'\?.*file\.py:Name",
        ),
        ("gone.py:read", r"adapter 'gone\.py:read': there is no file .*gone\.py"),
        ("own.py:raed", r"the module has no 'raed'; did you mean 'read'"),
        ("no_such_module:read", r"cannot be imported \(ModuleNotFoundError"),
        (":read", r"there is no adapter ':read'"),
    ],
)
def test_an_adapter_that_is_not_there_is_named(beside, name, message):
    with pytest.raises(ConfigError, match=message):
        get_adapter(beside(OWN, name))


def test_a_file_that_fails_to_import_is_told(beside):
    with pytest.raises(ConfigError, match=r"cannot be imported \(ZeroDivisionError"):
        get_adapter(beside("1 / 0"))


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        (
            "np.float32",
            "np.float64",
            r"instance 1: keypoints: found float64 \(4, 2\), expected floa",
        ),
        (
            "len(schema), 2)",
            "3, 2)",
            r"keypoints: found float32 \(3, 2\), expected float32 \(4, 2\)",
        ),
        ("np.full(len(schema), 2", "np.full(len(schema), 5", r"visibility: found 5, expected 0, 1"),
        (
            'f"{number}.jpg"',
            'f"/{number}.jpg"',
            r"image: found '/0\.jpg', expected a relative path",
        ),
        ("image_id=number", "image_id=0.5", r"image_id: found 0\.5, expected a whole number"),
        ("np.zeros", "np.nan + np.zeros", r"a labelled one is not finite; mark it 0"),
        ("yield Instance(", "yield dict(", r"found dict, expected posekit\.adapters\.Instance"),
    ],
)
def test_what_an_adapter_of_one_s_own_breaks_is_told(beside, tmp_path, find, put, message):
    with pytest.raises(DatasetError, match=message):
        run(beside(OWN.replace(find, put)), tmp_path)


def test_an_adapter_of_one_s_own_that_fails_says_how_far_it_came(beside, tmp_path):
    broken = OWN.replace("yield", "assert number < 2, 'planted'; yield")
    with pytest.raises(ConfigError, match=r"failed after 2 instances \(AssertionError: planted\)"):
        run(beside(broken), tmp_path)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"keep_evry": 2}, r"options\.subset: unknown key 'keep_evry'; did you mean 'keep_every'"),
        (
            {"keep_every": 2, "list": "x"},
            r"expected exactly one of before, .*keep_every.*, or present",
        ),
        ({"fraction": [0.5, 0.2]}, r"expected two numbers 0 <= low < high <= 1"),
        (
            {"keep_every": 1},
            r"subset: key 'keep_every': Input should be greater than or equal to 2",
        ),
    ],
)
def test_a_wrong_subset_is_told(tmp_path, rule, message):
    adapter, write, _ = FORMATS["coco_json"]
    split = write(tmp_path).model_copy(update={"options": {"subset": rule}})
    with pytest.raises(ConfigError, match=message):
        run(card_of(adapter, split), tmp_path)


def test_a_list_that_names_unknown_images_is_told(tmp_path):
    adapter, write, _ = FORMATS["coco_json"]
    (tmp_path / "list.txt").write_text("a.jpg\nzzz.jpg\n")
    split = write(tmp_path).model_copy(update={"options": {"subset": "list.txt"}})
    with pytest.raises(DatasetError, match=r"it names 1 images that .* do not have \(zzz\.jpg\)"):
        run(card_of(adapter, split), tmp_path)
