"""Every file that posekit writes is there whole or not at all, and a failure is one sentence."""

from __future__ import annotations

import ast
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import eval_helpers
import numpy as np
import pytest
from inference_helpers import BACKBONE, SCHEMA_A, head

import posekit
from posekit import output
from posekit.adapters.write_coco import write_coco
from posekit.data.cache_folder import publish
from posekit.diagnosis.leakage import write_exclusions
from posekit.drawing import write_schema_picture
from posekit.engine.onboarding.template import write_template
from posekit.errors import ConfigError, OutputError, PosekitError
from posekit.evaluation.submission import write_mpii_mat
from posekit.evaluation.tables import write_csv
from posekit.models import build_model, save_checkpoint, save_training_state
from posekit.models.foreign_export import export_official
from posekit.output import atomic_file, atomic_folder, write_bytes, write_json, write_text
from posekit.poses.table import Poses

PACKAGE = Path(posekit.__file__).parent


def mpii(file):
    points = np.ones((2, 3, 2))
    truth = eval_helpers.make_truth(points, np.ones((2, 3), bool))
    write_mpii_mat(file, eval_helpers.make_predictions(points, truth), truth)


def poses():
    box = np.array([[0.0, 0, 9, 9]])
    return Poses(
        "a", SCHEMA_A, np.ones((1, 3, 2)), np.ones((1, 3), np.float32), box, np.ones(1),
        np.zeros(1, np.int64), ("a.jpg",), ((9, 9),),
    )  # fmt: skip


def model():
    return build_model({**BACKBONE, "patch_padding": 2}, {"a": head(SCHEMA_A)})


WRITERS = {
    "bytes.bin": lambda file: write_bytes(file, b"new"),
    "text.txt": lambda file: write_text(file, iter(["ne", "w"])),
    "data.json": lambda file: write_json(file, {"new": 1}),
    "table.csv": lambda file: write_csv(file, "row", {"a": {"x": 1.0}}),
    "pred.mat": mpii,
    "poses.csv": lambda file: poses().to_csv(file),
    "dlc.csv": lambda file: poses().to_deeplabcut(file),
    "model.safetensors": lambda file: save_checkpoint(file, model()),
    "last.state": lambda file: save_training_state(file, {"step": 1}),
    "official.pth": lambda file: export_official(model(), file),
    "exclude.txt": lambda file: write_exclusions(file, {"a.jpg": "twin"}, "about"),
    "schema.png": lambda file: write_schema_picture(file, SCHEMA_A),
    "adapter.py": lambda file: write_template(file, overwrite=True),
    "coco.json": lambda file: write_coco(file, [], SCHEMA_A),
}


def names(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.fixture
def full_disk():
    """Let no file of this process take a byte."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_replaces_the_file_and_leaves_no_other(tmp_path, name):
    (tmp_path / name).write_bytes(b"old")
    WRITERS[name](tmp_path / name)
    assert (tmp_path / name).read_bytes() != b"old"
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_is_full_while_writing_is_one_sentence_and_the_old_file_is_intact(
    tmp_path, name, full_disk
):
    check_failure(tmp_path, name, "File too large")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_at_the_last_moment_is_one_sentence(tmp_path, name, code, monkeypatch):
    def refuse(*paths):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(output.os, "replace", refuse)
    check_failure(tmp_path, name, os.strerror(code), "choose another folder")


def check_failure(folder, name, *words):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], limit[1]))
    (folder / name).write_bytes(b"old")
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    with pytest.raises(PosekitError) as caught:
        WRITERS[name](folder / name)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in (f"{name}: cannot be written", "what was there before is intact", *words):
        assert word in sentence
    assert (folder / name).read_bytes() == b"old"
    assert names(folder) == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_in_the_place_of_the_file_is_one_sentence_and_nothing_is_left(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(PosekitError, match=r"cannot be written \(Is a directory\)"):
        WRITERS[name](tmp_path / name)
    assert names(tmp_path) == [name]
    assert not names(tmp_path / name)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path, name):
    (tmp_path / "runs").write_text("old")
    with pytest.raises(PosekitError, match=r"runs is not a folder\); nothing was left behind"):
        WRITERS[name](tmp_path / "runs" / name)
    assert names(tmp_path) == ["runs"]


def test_the_callers_class_of_error_is_raised(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(ConfigError):
        write_text(tmp_path / "x", "new", error=ConfigError)


def test_a_fault_in_the_block_leaves_the_old_file_and_is_not_rewritten(tmp_path):
    (tmp_path / "x").write_text("old")

    def write():
        with atomic_file(tmp_path / "x") as temporary:
            temporary.write_text("half")
            raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        write()
    assert (tmp_path / "x").read_text() == "old"
    assert names(tmp_path) == ["x"]


def dead_process():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_the_next_write_clears_what_a_killed_process_left_of_the_same_file(tmp_path):
    dead, alive = dead_process(), os.getppid()
    kept = {f".x.{alive}.tmp", f".y.{dead}.tmp", f".x.more.{dead}.tmp", "x.1.tmp", ".x.one.tmp"}
    for name in {*kept, f".x.{dead}.tmp"}:
        (tmp_path / name).write_text("half")
    (tmp_path / f".x.{dead}.abc.tmp").mkdir()
    (tmp_path / f".x.{dead}.abc.tmp" / "part").write_text("half")
    write_text(tmp_path / "x", "new")
    assert set(names(tmp_path)) == {"x", *kept}


def test_a_folder_of_many_files_is_listed_seldom(tmp_path, monkeypatch):
    listed = []
    real = os.listdir
    monkeypatch.setattr(output.os, "listdir", lambda folder: listed.append(folder) or real(folder))
    monkeypatch.setattr(output, "_QUICK_S", 0.0)
    times = iter([10.0, 10.1, 10.2, 30.0, 30.1])
    monkeypatch.setattr(output.time, "perf_counter", lambda: next(times))
    for number in range(3):
        write_text(tmp_path / f"{number}.txt", "")
    assert len(listed) == 2


def test_a_link_is_followed_and_a_device_is_written_directly(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "new")
    assert os.read(reader, 10) == b"new"
    os.close(reader)
    assert names(tmp_path) == ["link", "pipe", "real"]


def test_a_synced_file_is_on_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(output.os, "fsync", lambda f: done.append("sync") or sync(f))
    monkeypatch.setattr(output.os, "replace", lambda *p: done.append("name") or replace(*p))
    write_text(tmp_path / "x", "new", sync=True)
    assert done == ["sync", "name", "sync"]
    done.clear()
    write_text(tmp_path / "x", "newer")
    assert done == ["name"]


def test_a_folder_appears_whole_or_not_at_all_and_an_earlier_one_stays(tmp_path):
    def full(folder):
        (folder / "part").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match=r"No space left on device\); nothing .*POSEKIT_CACHE"):
        publish(tmp_path / "cache", full)
    assert names(tmp_path) == []
    for text in ("first", "second"):
        with atomic_folder(tmp_path / "cache") as folder:
            (folder / "part").write_text(text)
    assert (tmp_path / "cache" / "part").read_text() == "first"
    assert names(tmp_path) == ["cache"]


def test_the_module_imports_neither_torch_nor_safetensors():
    code = "import sys, posekit.output; print({'torch', 'safetensors', 'numpy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


BY_HAND = {
    "data/crop_store.py": "fills a folder that atomic_folder publishes",
    "data/feature_store.py": "its lock, which holds nothing",
    "data/index_build.py": "fills a folder that atomic_folder publishes",
    "inference/export.py": "graph and weights together, after both were checked",
    "inference/export_graph.py": "a draft in the folder that export.py publishes from",
    "inference/video_log.py": "a stopped video is gone on with",
    "models/training_state.py": "renames the state before, inside atomic_file",
    "practice/formats.py": "fills a folder that atomic_folder publishes",
    "practice/practice.py": "fills a folder that atomic_folder publishes",
    "training/run_folder.py": "adds lines to a log",
}


def writes_by_hand(tree):
    """Yield the calls that open a file to write, write one at a path, or rename one."""
    inside = {
        call
        for block in ast.walk(tree)
        if isinstance(block, ast.With) and "atomic_file(" in ast.unparse(block)
        for call in ast.walk(block)
    }
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        name = call.func.attr
        mode = next((a.value for a in call.args if isinstance(a, ast.Constant)), "")
        plain = (
            len(call.args) == 1 and not call.keywords and not isinstance(call.args[0], ast.Starred)
        )
        written = name in {"write_text", "write_bytes", "mkstemp", "NamedTemporaryFile", "getpid"}
        opened = name == "open" and isinstance(mode, str) and set(mode) & set("wax")
        renamed = name in {"replace", "rename"} and (plain or "os." in ast.unparse(call.func))
        if (written or opened or renamed) and call not in inside:
            yield ast.unparse(call)


def test_no_module_writes_a_file_by_hand_without_a_reason():
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        calls = list(writes_by_hand(ast.parse(file.read_text("utf-8"))))
        if calls and name not in {*BY_HAND, "output.py"}:
            found[name] = calls
    assert not found


@pytest.mark.parametrize(
    "line",
    ["file.write_text('x')", "open_file.open('w')", "draft.replace(file)", "os.replace(a, b)"],
)
def test_the_search_for_writing_by_hand_finds_it(line):
    assert list(writes_by_hand(ast.parse(line))) == [line]
    inside = f"with atomic_file(file) as draft:\n    {line}"
    assert not list(writes_by_hand(ast.parse(inside)))
