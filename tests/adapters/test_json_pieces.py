"""Reading JSON in pieces gives what reading it whole gives, or says that it cannot."""

import io
import json
import random

import pytest

from posekit.adapters.blocks import NotInBlocks
from posekit.adapters.json_pieces import JsonMembers


def in_pieces(data, piece):
    members = JsonMembers(io.BytesIO(data), piece)
    found, count = {}, 0
    for key in members:
        if key == "list":
            found[key] = []
            for records, text in members.pieces():
                assert json.loads(text) == records
                found[key] += records
                count += 1
        else:
            found[key] = members.value()
    return found, count


def record(rng, depth=0):
    made = {
        "id": rng.randrange(10**6),
        "numbers": [rng.random(), -1, 1e-7],
        "text": rng.choice(["a", 'é}, {"', "]}", '\\"', "x" * 40, "}\n,\t{"]),
    }
    if depth < 2 and rng.random() < 0.5:
        made["more"] = [record(rng, depth + 1) for _ in range(rng.randrange(4))]
    return made


def document(seed):
    rng = random.Random(seed)  # noqa: S311
    tree = {
        "info": {"a": [1, {"b": 2}]},
        "number": 12.5,
        "list": [record(rng) for _ in range(rng.randrange(12))],
        "after": [{"x": 1}, {"y": [{"z": 1}, {"w": 2}]}],
    }
    if seed % 2:
        tree = dict(reversed(tree.items()))
    text = json.dumps(tree, ensure_ascii=seed % 3 == 0, indent=1 if seed % 5 == 0 else None)
    return tree, text.encode()


@pytest.mark.parametrize("piece", [1, 30, 300, 10**6])
def test_pieces_joined_are_the_whole(piece):
    for seed in range(100):
        tree, data = document(seed)
        assert in_pieces(data, piece)[0] == tree


def test_a_long_list_comes_in_many_pieces():
    data = json.dumps({"list": [{"id": i} for i in range(1000)]}).encode()
    found, count = in_pieces(data, 100)
    assert count > 50
    assert len(found["list"]) == 1000


def test_damaged_text_is_never_read_as_something_else():
    said = 0
    for seed in range(400):
        rng = random.Random(seed)  # noqa: S311
        data = bytearray(document(seed)[1])
        at = rng.randrange(len(data))
        data[at : at + rng.choice([0, 1, 5])] = rng.choice([b"", b'"', b"}", b",", b"x", b"]"])
        try:
            whole = json.loads(bytes(data))
        except ValueError:
            with pytest.raises(NotInBlocks):
                in_pieces(bytes(data), 100)
            said += 1
            continue
        assert in_pieces(bytes(data), 100)[0] == whole
    assert said > 100


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{", '{"a": 1} x', '{"a": 1, "a": 2}', '{"list": [1, 2]}', '{"list": {}}'],
)
def test_what_is_no_plain_object_of_lists_is_refused(text):
    with pytest.raises(NotInBlocks):
        in_pieces(text.encode(), 100)
