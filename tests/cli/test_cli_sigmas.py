"""posekit datasets sigmas: files of several annotators in, sigmas with intervals out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from posekit import cli

SIGMAS = {"middle": 0.02, "left_end": 0.04, "right_end": 0.06}


@pytest.fixture
def annotators(tiny, tmp_path):
    """Two annotators of the blobs, each off by known sigmas; gives the dataset's folder."""
    tiny()
    folder = tmp_path / "data" / "blobs"
    content = json.loads((folder / "val.json").read_text(encoding="utf-8"))
    template = content["annotations"][0]
    rng = np.random.default_rng(0)
    points = rng.uniform(20, 60, (300, 3, 2))
    for name in ("ann", "bob"):
        spread = np.asarray(list(SIGMAS.values()))[:, None] * np.sqrt(template["area"] / 2)
        noisy = points + rng.normal(size=points.shape) * spread
        content["images"] = [
            {"id": i, "file_name": f"{i}.png", "height": 72, "width": 96} for i in range(1, 301)
        ]
        content["annotations"] = [
            {
                **template,
                "id": i + 1,
                "image_id": i + 1,
                "keypoints": [v for x, y in noisy[i].tolist() for v in (x, y, 2)],
            }
            for i in range(300)
        ]
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def sigmas(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["posekit", "datasets", "sigmas", *map(str, arguments)])
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, *capsys.readouterr()


def test_sigmas_of_two_annotators_are_found_with_their_source(monkeypatch, capsys, annotators):
    files = ["--annotations", "ann.json", "--annotations", "bob.json"]
    where = ["blobs", "--split", "val", *files, "--root", annotators]
    code, out, err = sigmas(monkeypatch, capsys, *where, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["keypoints"] == list(SIGMAS)
    assert found["sigmas"] == pytest.approx(list(SIGMAS.values()), rel=0.12)
    for low, true, high in zip(found["low"], SIGMAS.values(), found["high"], strict=True):
        assert low < true < high
    assert found["sigmas_source"].startswith("estimated by posekit from 2 annotations of 300")
    code, out, _ = sigmas(monkeypatch, capsys, *where)
    assert code == 0
    assert "95 % interval" in out
    assert "sigmas_source: " in out


def test_splits_of_a_card_may_be_the_annotators(monkeypatch, capsys, annotators):
    where = ["blobs", "--split", "train", "--split", "val", "--root", annotators]
    code, out, err = sigmas(monkeypatch, capsys, *where, "--json")
    assert code == 0, err
    assert json.loads(out)["counts"] == [6, 6, 6]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--split", "val"], 1, "found 1, expected two or more annotations"),
        (["--split", "val", "--annotations", "ann.json"], 1, "found 1, expected two or more"),
        (["--split", "vall"], 2, "did you mean 'val'"),
        (["--split", "val", "--split", "train", "--annotations", "ann.json"], 2, "found 2 splits"),
    ],
)
def test_faults_are_one_sentence(monkeypatch, capsys, annotators, arguments, code, words):
    found, _, err = sigmas(monkeypatch, capsys, "blobs", *arguments, "--root", annotators)
    assert found == code
    assert words in " ".join(err.split())
    assert "Traceback" not in err
