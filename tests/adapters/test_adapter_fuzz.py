"""Mutated and truncated files of every format: a DatasetError or a correct parse, nothing else.

POSEKIT_FUZZ_EXAMPLES sets how many files of each format are tried (CI: 60; nightly: 3200,
of which more than 2000 of each are distinct):

    POSEKIT_FUZZ_EXAMPLES=3200 pytest tests/adapters/test_adapter_fuzz.py

Memory is bounded too: beyond 1 GiB more than at the start the process gets no more, and MemoryError
is no DatasetError. A hang ends by an alarm after 20 seconds of CPU time a file.
"""

import contextlib
import json
import os
import random
import resource
import signal
import warnings
from pathlib import Path

import pytest
from format_writers import FORMATS, IMAGES, SCHEMA, TRUTH, aic_data, coco_data, mpii_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_adapter_contract import card_of

from posekit.adapters import check_instance, get_adapter
from posekit.adapters.blocks import NotInBlocks
from posekit.adapters.registry import get_block_adapter
from posekit.config.cards import SplitCard
from posekit.errors import DatasetError

EXAMPLES = int(os.environ.get("POSEKIT_FUZZ_EXAMPLES", "60"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
JUNK = [
    None, True, "", "x", "0", -1, 0, 2, 3, 0.5, 1e39, 1e400, float("nan"), 10**30, [], {}, [[]],
    [1, 2], {"id": 1}, "../a.jpg", "/a.jpg", "a\0.jpg", "\ud800", [0] * 12, [None] * 12,
]  # fmt: skip


TARGETS = {name: (name, "") for name in FORMATS}
TARGETS |= {
    "pts_folder": ("pts_folder", "img/a.pts"),
    "freihand_json cameras": ("freihand_json", "K.json"),
    "mpii_json mat": ("mpii_json", "truth.mat"),
    "yolo_pose label": ("yolo_pose", "img/a.txt"),
    "yolo_pose image": ("yolo_pose", "img/a.jpg"),
}


def mutate_bytes(data, rng):
    """Cut, overwrite, repeat or remove pieces of a file."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        length = rng.choice([1, 1, 2, 8, 64])
        kind = rng.choice(["truncate", "overwrite", "remove", "insert", "repeat", "digit"])
        if kind == "truncate":
            del data[at:]
        elif kind == "overwrite":
            data[at : at + length] = rng.randbytes(length)
        elif kind == "remove":
            del data[at : at + length]
        elif kind == "insert":
            data[at:at] = rng.choice([b"\0", b"nan", b"-", b"1e999", b",", b'"', b"\n", b"\xff"])
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        else:
            places = [i for i, byte in enumerate(data) if 48 <= byte < 58]
            if places:
                data[rng.choice(places)] = rng.choice(b"0123456789.-e")
    return bytes(data)


def mutate_tree(tree, rng):
    """Replace, remove or double one value somewhere in a JSON tree."""
    places = []

    def walk(node):
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    walk(tree)
    for _ in range(rng.randint(1, 2)):
        node, key = rng.choice(places)
        kind = rng.choice(["replace", "replace", "replace", "remove", "rename"])
        try:
            if kind == "replace":
                node[key] = rng.choice(JUNK)
            elif kind == "remove":
                del node[key]
            elif isinstance(node, dict):
                node[key + "s"] = node.pop(key)
        except (KeyError, IndexError):
            pass  # an earlier mutation took the place away
    return tree


@pytest.fixture(autouse=True, scope="module")
def bounded_memory():
    """Let the process have 1 GiB more than now, so that unbounded memory is an error."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def an_alarm(seconds=20):
    """Fail if what runs inside takes longer, in CPU time: a busy machine is no hang."""
    problem = f"a file took more than {seconds} s of CPU time to read"
    rung = []

    def ring(number, frame):
        rung.append(number)
        raise TimeoutError(problem)

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    # Inside a callback of the garbage collector the error above would be swallowed.
    assert not rung, problem


def reads_or_says(adapter, split, root):
    """Read a split to its end; True if it parsed, False if it gave a DatasetError."""
    card = card_of(adapter, split)
    message = None
    try:
        with warnings.catch_warnings(), an_alarm():
            warnings.simplefilter("ignore")
            for instance in get_adapter(card)(root, card.split("all"), SCHEMA):
                check_instance(instance, SCHEMA, adapter)
    except DatasetError as error:
        message = str(error)
    read_blocks = get_block_adapter(card)
    if read_blocks is not None:
        try:
            for _ in read_blocks(root, card.split("all"), SCHEMA):
                pass
            assert message is None, f"read in blocks in spite of: {message}"
        except NotInBlocks:
            pass
        except DatasetError:
            assert message is not None, "refused in blocks alone"
    if message is None:
        return True
    assert str(root) in message
    assert "\n" not in message
    return False


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """name -> (adapter, split, root, file to mutate, its bytes)"""
    made = {}
    for name, (form, inner) in TARGETS.items():
        adapter, write, _ = FORMATS[form]
        root = tmp_path_factory.mktemp("fuzz")
        split = write(root)
        file = root / (inner or split.annotations)
        made[name] = adapter, split, root, file, file.read_bytes()
    return made


@pytest.mark.parametrize("name", TARGETS)
@FUZZ
@given(seed=st.integers(0, 2**32))
def test_mutated_bytes_give_an_error_or_a_parse(name, folders, seed):
    adapter, split, root, file, data = folders[name]
    file.write_bytes(mutate_bytes(data, random.Random(seed)))  # noqa: S311
    reads_or_says(adapter, split, root)


@pytest.mark.parametrize("name", TARGETS)
def test_a_file_cut_at_any_length_gives_an_error_or_a_parse(name, folders):
    adapter, split, root, file, data = folders[name]
    step = max(1, len(data) // 50)
    for length in range(0, len(data), step):
        file.write_bytes(data[:length])
        reads_or_says(adapter, split, root)
    file.write_bytes(b"")
    if name != "yolo_pose label":  # Ultralytics writes empty files for images without instances
        assert not reads_or_says(adapter, split, root)


@pytest.mark.parametrize("name", ["coco_json", "aic_json", "mpii_json"])
@FUZZ
@given(seed=st.integers(0, 2**32))
def test_mutated_json_values_give_an_error_or_a_parse(name, folders, seed):
    adapter, split, root, file, _ = folders[name]
    tree = {"coco_json": coco_data, "aic_json": aic_data, "mpii_json": mpii_data}[name]()
    file.write_text(json.dumps(mutate_tree(tree, random.Random(seed))))  # noqa: S311
    reads_or_says(adapter, split, root)


@pytest.fixture(scope="module")
def sleap_file(tmp_path_factory):
    sleap_io = pytest.importorskip("sleap_io", reason="needs the extra lab")
    folder = tmp_path_factory.mktemp("slp")
    skeleton = sleap_io.Skeleton(list(SCHEMA.keypoints))
    video = sleap_io.Video.from_filename([str(folder / name) for name in IMAGES])
    frames = [
        sleap_io.LabeledFrame(
            video=video,
            frame_idx=i,
            instances=[sleap_io.Instance.from_numpy(person, skeleton=skeleton)],
        )
        for i, person in enumerate(TRUTH)
    ]
    sleap_io.Labels(frames).save(str(folder / "labels.slp"), embed=False)
    return folder, (folder / "labels.slp").read_bytes()


@FUZZ
@given(seed=st.integers(0, 2**32))
def test_mutated_sleap_files_give_an_error_or_a_parse(sleap_file, seed):
    folder, data = sleap_file
    (folder / "bad.slp").write_bytes(mutate_bytes(data, random.Random(seed)))  # noqa: S311
    reads_or_says("sleap", SplitCard(annotations="bad.slp"), folder)


def test_the_unharmed_files_parse(tmp_path):
    for number, (adapter, write, _) in enumerate(FORMATS.values()):
        root = tmp_path / str(number)
        root.mkdir()
        assert reads_or_says(adapter, write(root), root)
