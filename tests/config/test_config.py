"""YAML into typed models: what is accepted, and what each mistake is told as."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from posekit.config.base import Strict, apply_overrides, merge, parse_mapping, parse_value, validate
from posekit.config.base import read_yaml as read
from posekit.errors import ConfigError


class Inner(Strict):
    lr: float = 1e-3
    steps: list[int] = Field(default_factory=list)


class Outer(Strict):
    inner: Inner = Inner()
    heads: dict[str, Inner] = Field(default_factory=dict)
    maybe: Inner | None = None
    count: int = 0


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1e-3", "1.0e-3", "1.e-3", "0.001"])
def test_numbers_with_an_exponent_are_numbers_with_or_without_a_dot(text):
    assert parse_mapping(f"lr: {text}", "here") == {"lr": 0.001}
    assert parse_value(text) == 0.001


@pytest.mark.parametrize("text", ["e3", "1e", "1e-3x", "'1e-3'"])
def test_texts_that_only_resemble_numbers_stay_text(text):
    assert isinstance(parse_mapping(f"a: {text}", "here")["a"], str)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", r"here, line 2: not valid YAML: key 'a' appears twice"),
        ("a: {b: 1, b: 2}", r"line 1: .*key 'b' appears twice"),
        ("? [1, 2]\n: 3", r"line 1: .*found \[1, 2\] as a key, expected text"),
        ("a: [1", r"here, line 1: not valid YAML: expected ',' or '\]'"),
        ("a: *x", r"found undefined alias"),
        ("a: !!python/object:os.system 1", r"could not determine a constructor"),
        ("- 1", r"here: found list, expected a mapping"),
        ("", r"here: found nothing, expected a mapping"),
        ("a: " + "[" * 5000, r"not valid YAML: it is nested too deeply"),
        ("a: 2001-99-99", r"not valid YAML: month must be"),
    ],
)
def test_faulty_yaml_is_told_with_its_line(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_mapping(text, "here")


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read \(No such file"):
        read(tmp_path / "gone.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match=r"binary\.yaml: cannot be read \(not UTF-8 text\)"):
        read(tmp_path / "binary.yaml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"inner": {"lrr": 1}}, r"f: unknown key 'inner\.lrr'; did you mean 'lr'\?"),
        ({"heads": {"x": {"stepz": 1}}}, r"unknown key 'heads\.x\.stepz'; did you mean 'steps'"),
        ({"maybe": {"lrr": 1}}, r"unknown key 'maybe\.lrr'; did you mean 'lr'"),
        ({"zzz": 1}, r"unknown key 'zzz' \(valid: count, heads, inner, maybe\)"),
        ({"count": 1.5}, r"key 'count': Input should be a valid integer.*found 1\.5"),
        ({"inner": {"lr": "x"}}, r"key 'inner\.lr': Input should be a valid number.*found 'x'"),
        ({"inner": [1]}, r"key 'inner': Input should be a valid mapping, found \[1\]"),
        ({"heads": {"x": {"steps": [1, "q"]}}}, r"key 'heads\.x\.steps\.1': .*found 'q'"),
        ({"inner": {"lr": float("nan")}}, r"key 'inner\.lr': Input should be a finite number"),
    ],
)
def test_a_wrong_key_or_value_is_told_with_its_path(data, message):
    with pytest.raises(ConfigError, match=message):
        validate(Outer, data, "f")


def test_all_mistakes_are_told_together():
    with pytest.raises(ConfigError) as caught:
        validate(Outer, {"count": "x", "zzz": 1}, "f")
    assert len(str(caught.value).splitlines()) == 2


def test_numbers_written_as_text_are_read():
    assert validate(Outer, {"inner": {"lr": "1e-3"}}, "f").inner.lr == 0.001


def test_mappings_merge_and_everything_else_is_replaced():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1, "e": {"f": 1}}
    over = {"a": {"c": [3]}, "d": {"x": 1}, "e": None}
    assert merge(base, over) == {"a": {"b": 1, "c": [3]}, "d": {"x": 1}}


def test_settings_set_nested_keys_in_order():
    result = apply_overrides({"a": {"b": 1}}, ["a.b=2", "a.c=[1, x]", "n=1e-3", "t=a=b"])
    assert result == {"a": {"b": 2, "c": [1, "x"]}, "n": 0.001, "t": "a=b"}


@pytest.mark.parametrize("setting", ["a", "=1", "a..b=1", ".a=1", "a.=1"])
def test_a_setting_without_a_whole_path_is_refused(setting):
    with pytest.raises(ConfigError, match=r"expected key\.path=value"):
        apply_overrides({}, [setting])


TREES = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.integers() | st.none(),
        lambda x: st.dictionaries(st.sampled_from("abc"), x),
        max_leaves=8,
    ),
)


@given(TREES)
def test_merging_a_tree_with_itself_changes_nothing_but_nulled_mappings(tree):
    assert merge(tree, tree) == tree


@given(TREES, TREES)
def test_merging_changes_neither_side(base, over):
    before = repr(base), repr(over)
    merge(base, over)
    assert (repr(base), repr(over)) == before


@given(st.text())
def test_any_text_gives_a_mapping_or_a_config_error(text):
    try:
        assert isinstance(parse_mapping(text, "here"), dict)
    except ConfigError as error:
        assert str(error).startswith("here")  # noqa: PT017
