"""predict -> score -> view -> compare, by the command line, on the files as they are written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from posekit import cli
from posekit.errors import PosekitError, PredictionError
from posekit.models import HeadSpec, build_model, save_checkpoint
from posekit.poses.read import read_poses
from posekit.schema import KeypointSchema

NAMES = ["middle", "left_end", "right_end"]
FRAMES = 5


def posekit(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr("sys.argv", ["posekit", *map(str, words)])
    cli.app(standalone_mode=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    heads = {
        name: HeadSpec(KeypointSchema(name, names), {"kind": "simple"}, {"kind": "udp"}, (32, 32))
        for name, names in {"spots": tuple(NAMES), "other": ("tail", "middle")}.items()
    }
    backbone = {"name": "vit", "embed_dim": 16, "depth": 1, "num_heads": 2}
    file = tmp_path / "model.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(file, build_model(backbone, heads))
    return file


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Frames of one clip, annotated, scored by OKS; the clip itself lies in another folder."""
    monkeypatch.setenv("POSEKIT_CARDS", str(tmp_path / "cards"))
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    root = tmp_path / "data"
    (root / "images" / "walk").mkdir(parents=True)
    (tmp_path / "films").mkdir()
    film = cv2.VideoWriter(
        str(tmp_path / "films" / "walk.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48)
    )
    content: dict = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "spots"}]}
    for i in range(1, FRAMES + 1):
        picture = np.full((48, 64, 3), 20 * i, np.uint8)
        film.write(picture)
        file = f"walk/{i}.png"
        cv2.imwrite(str(root / "images" / file), picture)
        points = [[float(x), float(y), 2] for x, y in rng.integers(5, 45, (3, 2))]
        content["images"].append({"id": i, "file_name": file, "height": 48, "width": 64})
        content["annotations"].append(
            {
                "id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 64, 48], "area": 3072,
                "iscrowd": 0, "num_keypoints": 3, "keypoints": [v for p in points for v in p],
            }
        )  # fmt: skip
    film.release()
    (root / "val.json").write_text(json.dumps(content))
    card = {
        "source": "made in a test", "licence": "none", "subject": "blob",
        "schema": {
            "keypoints": NAMES, "sigmas": [0.5] * 3, "sigmas_source": "made in the test",
        },
        "adapter": "coco_json", "evaluator": "oks",
        "splits": {"val": {"annotations": "val.json", "images": "images"}},
    }  # fmt: skip
    folder = tmp_path / "cards" / "datasets"
    folder.mkdir(parents=True)
    (folder / "spots.yaml").write_text(yaml.safe_dump(card))
    return root


def data_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def of_split(dataset: Path) -> list[object]:
    return ["--dataset", "spots", "--split", "val", "--root", dataset]


@pytest.mark.parametrize("head", ["spots", "all"])
@pytest.mark.parametrize("kind", ["images", "video"])
def test_what_is_predicted_is_scored_viewed_and_compared_as_it_is(
    monkeypatch, capsys, tmp_path, model, dataset, kind, head
):
    source = dataset / "images" if kind == "images" else tmp_path / "films" / "walk.avi"
    out = tmp_path / "out"
    posekit(monkeypatch, "predict", model, source, "--head", head, "--out", out)
    monkeypatch.chdir(tmp_path / "cards")  # nothing is found by chance in the working directory
    posekit(monkeypatch, "score", out, *of_split(dataset), "--out", tmp_path / "first")
    written = tmp_path / "first" / "eval" / "spots" / "metrics.json"
    metrics = json.loads(written.read_text())["metrics"]
    assert metrics["AR .5"] > 0  # the whole image is every instance's box, so some match by chance

    page = tmp_path / "seen.html"
    posekit(monkeypatch, "view", out, "--out", page)
    assert len(data_of(page)["items"]) == FRAMES
    posekit(monkeypatch, "view", out, *of_split(dataset), "--out", page)
    items = data_of(page)["items"]
    assert len(items) == FRAMES
    assert all(item["err"] > 0 for item in items)

    posekit(monkeypatch, "score", out, *of_split(dataset), "--out", tmp_path / "second")
    capsys.readouterr()
    html = tmp_path / "compared.html"
    posekit(monkeypatch, "compare", tmp_path / "first", tmp_path / "second", "--html", html)
    assert capsys.readouterr().out.count(f"{metrics['AR .5']:.4f}") >= 2
    assert "AR .5" in html.read_text(encoding="utf-8")


def test_a_video_is_shown_from_beside_its_lines_where_it_was_predicted_or_not_at_all(
    monkeypatch, tmp_path, model, dataset
):
    film, out, page = tmp_path / "films" / "walk.avi", tmp_path / "out", tmp_path / "seen.html"
    posekit(monkeypatch, "predict", model, film, "--head", "spots", "--out", out)
    lines = out / "walk.poses.jsonl"
    posekit(monkeypatch, "view", lines, "--out", page)
    assert len(data_of(page)["items"]) == FRAMES
    shutil.move(film, out / "walk.avi")
    page.unlink()
    posekit(monkeypatch, "view", lines, "--out", page)
    assert len(data_of(page)["items"]) == FRAMES
    (out / "walk.avi").unlink()
    page.unlink()
    with pytest.raises(PosekitError, match="are the images where they were"):
        posekit(monkeypatch, "view", lines, "--out", page)
    assert not page.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: ["{", *lines[1:]], r"line 1: not valid JSON"),
        (lambda lines: [*lines[:2], lines[2][:-5]], r"line 3: not valid JSON"),
        (lambda lines: [], r"no line in it"),
        (lambda lines: lines[1:], r"key 'schema' is missing"),
        (lambda lines: [lines[0], '{"frame": 0}'], r"frame 0: key 'poses' is missing"),
        (
            lambda lines: [lines[0], lines[1].replace('"bbox": [', '"bbox": [[1], ')],
            r"frame 0: bbox: found",
        ),
    ],
)
def test_a_fault_in_a_videos_lines_is_named_by_frame_and_field(tmp_path, change, message):
    schema = KeypointSchema("spots", tuple(NAMES))
    about = {"video": "v.avi", "fps": 5, "height": 4, "width": 4, "head": "h"}
    entry = {"score": 1, "bbox": [0, 0, 4, 4], "bbox_score": 1, "keypoints": [[1, 2, 0.5]] * 3}
    frames = [{"frame": i, "time_s": i / 5, "poses": [entry]} for i in range(2)]
    lines = [json.dumps(line) for line in ({**about, "schema": schema.to_dict()}, *frames)]
    file = tmp_path / "v.poses.jsonl"
    file.write_text("\n".join(change(lines)))
    with pytest.raises(PredictionError, match=rf"v\.poses\.jsonl.*{message}"):
        read_poses(file)
