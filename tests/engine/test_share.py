"""A model goes to the Hub and comes back the same, with a card that tells what it is."""

from __future__ import annotations

import base64
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

import posekit
from posekit import cli
from posekit.engine.heads import keep_heads, merge_files, remove_heads, rename_heads, split_heads
from posekit.engine.model_card import model_card
from posekit.engine.share import push_to_hub, write_shared
from posekit.errors import CheckpointError, ConfigError
from posekit.inference.hub import parse_address
from posekit.inference.predictor import load
from posekit.models import HeadSpec, build_model, read_description, save_checkpoint
from posekit.schema import KeypointSchema

BACKBONE = {"name": "vit", "embed_dim": 24, "depth": 1, "num_heads": 2}
PICTURE = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
METRICS = {
    "metrics": {"PCK@0.1": 0.75}, "headline": "PCK@0.1", "baseline": {"PCK@0.1": 0.25},
    "protocol": {"dataset": "blobs", "boxes": "annotation", "flip_test": True, "subset": ""},
    "counts": {"images": 6}, "findings": [{"name": "swapped", "text": "left is right"}],
}  # fmt: skip


def make_model(heads: dict[str, list[str]], seed: int = 0, **backbone: object):
    specs = {
        name: HeadSpec(
            KeypointSchema(name, tuple(points)), {"kind": "simple"}, {"kind": "udp"}, (32, 32)
        )
        for name, points in heads.items()
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_model({**BACKBONE, **backbone}, specs).eval()


@pytest.fixture
def run(tmp_path: Path, tiny) -> Path:
    """A run folder of the tiny recipe with an untrained model and one evaluated head."""
    recipe = tiny().model_dump(mode="json")
    model = make_model({"blobs": ["middle", "left_end", "right_end"], "rings": ["a", "b"]})
    folder = tmp_path / "run"
    boxes = {"blobs": {"padding": 1.1}, "rings": {"padding": 1.3}}
    about = {"recipe": recipe, "step": 4, "boxes": boxes}
    save_checkpoint(folder / "checkpoints" / "last.safetensors", model, about)
    (folder / "eval" / "blobs").mkdir(parents=True)
    (folder / "eval" / "blobs" / "metrics.json").write_text(json.dumps(METRICS))
    (folder / "eval" / "blobs" / "predictions.json").write_text("[]")
    return folder


class Hub(BaseHTTPRequestHandler):
    """A stand-in for the Hub: makes repositories, takes commits, gives files."""

    files: dict[str, bytes]
    refuse = 0

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.refuse:
            self._answer({"error": "no"}, self.refuse)
        elif self.path == "/api/repos/create":
            name = json.loads(body)
            where = f"http://{self.headers['Host']}/{name['organization']}/{name['name']}"
            self._answer({"url": where})
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            self._answer({"files": [{"path": f["path"], **mode} for f in asked]})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/one/model/commit/{'1' * 40}"
            self._answer({"commitUrl": url, "commitOid": "1" * 40})
        else:
            self._answer({"errors": [], "warnings": []})

    def do_HEAD(self) -> None:
        self._file(with_body=False)

    def do_GET(self) -> None:
        self._file(with_body=True)

    def _file(self, with_body: bool) -> None:
        data = self.files.get(self.path.partition("/resolve/main/")[2])
        if data is None:
            code = "EntryNotFound" if "/one/" in self.path else "RepoNotFound"
            self._answer({}, 404, {"X-Error-Code": code, "X-Repo-Commit": "1" * 40})
            return
        self.send_response(200)
        for key, value in (("ETag", '"1"'), ("X-Repo-Commit", "1" * 40)):
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def _answer(self, data: object, status: int = 200, headers: dict | None = None) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants", reason="no huggingface_hub")
    monkeypatch.setattr(Hub, "files", {}, raising=False)
    monkeypatch.setattr(Hub, "refuse", 0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield Hub
    server.shutdown()
    server.server_close()


def test_what_is_pushed_comes_back_the_same(hub, run):
    done = push_to_hub(run, "one/model")
    expected = ["README.md", "eval/blobs/metrics.json", "model.safetensors", "recipe.yaml"]
    assert done.files == sorted(hub.files) == expected
    assert any("not evaluated, and the card says so: rings" in note for note in done.notes)
    back, before = posekit.load("hf:one/model", device="cpu"), load(run, device="cpu")
    for name in ("blobs", "rings"):
        got = back.predict(PICTURE, head=name)
        assert got.keypoints == pytest.approx(before.predict(PICTURE, head=name).keypoints)


def test_no_path_of_this_machine_is_shared(hub, run, tmp_path):
    done = push_to_hub(run, "hf:one/model")
    assert str(tmp_path).encode() not in b"".join(hub.files.values())
    assert any("paths of this machine" in note and "data_root" in note for note in done.notes)


def test_the_card_tells_heads_numbers_protocol_and_what_is_missing(run):
    card = model_card(run, address="one/model", licence="apache-2.0")
    assert card.startswith("---\nlibrary_name: posekit\n")
    for text in (
        "license: apache-2.0", 'posekit.load("hf:one/model")', "| PCK@0.1 | 0.7500 | 0.2500 |",
        "boxes annotation", "flip_test True", "**rings**: not evaluated.", "left is right",
        "| blobs | blobs | blob | 3 | 32 x 32 (h x w) | none |", "middle, left_end, right_end",
        "steps 4", "Saved at step 4",
    ):  # fmt: skip
        assert text in card, text


def test_a_model_that_knows_nothing_has_a_card_that_says_so(tmp_path):
    file = tmp_path / "plain.safetensors"
    save_checkpoint(file, make_model({"a": ["x", "y"]}))
    card = model_card(file)
    assert "does not tell how it was trained" in card
    assert "its card is not at hand" in card
    assert "**a**: not evaluated." in card
    notes = write_shared(file, tmp_path / "out")
    assert any("knows no recipe" in note for note in notes)
    assert load(tmp_path / "out", device="cpu").heads == ("a",)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf:one/empty", r"hf:one/empty: there is no model\.safetensors in it"),
        ("hf:two/gone", "hf:two/gone: there is no such repository"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_does_not_have_is_one_sentence(address, message):
    with pytest.raises(CheckpointError, match=message):
        posekit.load(address)


def test_an_unreachable_hub_and_a_wrong_address_are_one_sentence(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="the Hub cannot be reached"):
        posekit.load("hf:one/model")
    for address in ("hf:one", "hf:one/two/three", "hf:one/two@"):
        with pytest.raises(ConfigError, match="expected hf:owner/name"):
            parse_address(address)
    assert parse_address("hf:one/two@v1") == ("one/two", "v1")


@pytest.mark.parametrize(
    ("status", "message"), [(403, "does not let you write there"), (400, "cannot be shared")]
)
def test_a_refusal_is_one_sentence(hub, run, monkeypatch, status, message):
    monkeypatch.setattr(hub, "refuse", status)
    with pytest.raises(CheckpointError, match=f"hf:one/model: .*{message}"):
        push_to_hub(run, "one/model")


def test_a_missing_extra_is_named(monkeypatch, run):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: posekit.load("hf:one/model"), lambda: push_to_hub(run, "one/model")):
        with pytest.raises(CheckpointError, match=r"pip install 'posekit\[hub\]'"):
            call()


@pytest.mark.parametrize("experts", [None, {"width": 8}])
def test_split_and_merged_heads_answer_as_before(tmp_path, experts):
    model = make_model({"a": ["x", "y"], "b": ["y", "z"]}, experts=experts)
    file = tmp_path / "both.safetensors"
    save_checkpoint(file, model, {"boxes": {"a": {"padding": 1.1}, "b": {"padding": 1.4}}})
    before = load(file, device="cpu")
    parts = split_heads(file, tmp_path / "parts")
    assert [part.name for part in parts] == ["a.safetensors", "b.safetensors"]
    for name, part in zip("ab", parts, strict=True):
        got = load(part, device="cpu").predict(PICTURE).keypoints
        expected = before.predict(PICTURE, head=name).keypoints
        assert got == pytest.approx(expected, abs=0.01)
    if experts is None:
        merged = load(merge_files(parts, tmp_path / "again.safetensors"), device="cpu")
        got = merged.predict(PICTURE, head="b").keypoints
        assert got == pytest.approx(before.predict(PICTURE, head="b").keypoints)


def test_kept_dropped_and_renamed_heads_keep_crop_rules_and_recipe(run, tmp_path):
    kept = keep_heads(run, ["rings"], tmp_path / "kept.safetensors")
    dropped = remove_heads(run, ["blobs"], tmp_path / "dropped.safetensors")
    for file in (kept, dropped):
        about = read_description(file)
        assert list(about["model"]["heads"]) == list(about["recipe"]["heads"]) == ["rings"]
        assert about["boxes"]["rings"]["padding"] == 1.3
    renamed = rename_heads(run, {"rings": "circles"}, tmp_path / "renamed.safetensors")
    assert list(read_description(renamed)["recipe"]["heads"]) == ["blobs", "circles"]
    got = load(renamed, device="cpu").predict(PICTURE, head="circles").keypoints
    assert got == pytest.approx(load(run, device="cpu").predict(PICTURE, head="rings").keypoints)


def test_what_cannot_be_done_to_heads_is_one_sentence(run, tmp_path):
    out = tmp_path / "out.safetensors"
    with pytest.raises(ConfigError, match="no head named 'ring'"):
        keep_heads(run, ["ring"], out)
    with pytest.raises(ConfigError, match="at least one head"):
        remove_heads(run, ["rings", "blobs"], out)
    with pytest.raises(ConfigError, match="at least two models"):
        merge_files([run], out)
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, make_model({"c": ["x"]}, seed=1))
    with pytest.raises(ConfigError, match=r"other\.safetensors: the models' backbones differ"):
        merge_files([run, other], out)
    assert not out.exists()


def test_the_commands_reach_all_of_it(monkeypatch, capsys, run, tmp_path):
    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["posekit", *arguments])
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0), "".join(capsys.readouterr())
        return 0, "".join(capsys.readouterr())

    code, text = call("card", str(run))
    assert (code, "## Heads" in text) == (0, True)
    code, text = call("push", str(run), "one/model", "--dry-run", str(tmp_path / "dry"))
    assert (code, "nothing was shared" in text) == (0, True)
    assert "note: not evaluated" in text
    model = tmp_path / "m.safetensors"
    assert call("heads", "keep", str(run), "rings", "--out", str(model))[0] == 0
    assert call("heads", "rename", str(model), "rings=r", "--out", str(model))[0] == 0
    assert load(model).heads == ("r",)
    assert call("heads", "rename", str(model), "r", "--out", str(model))[0] == 2
    assert call("heads", "split", str(run), "--out", str(tmp_path / "s"))[0] == 0
    assert call("heads", "drop", str(run), "blobs", "--out", str(model))[0] == 0
    parts = [str(tmp_path / "s" / f"{name}.safetensors") for name in ("blobs", "rings")]
    assert call("heads", "merge", *parts, "--out", str(model))[0] == 0
