"""The page shows what it is given, needs nothing else, and can be used with the keyboard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from inference_helpers import SCHEMA_A

from posekit.adapters.base import Instance
from posekit.catalog import dataset_card_from_dict
from posekit.data.index import PoseIndex, build_index
from posekit.errors import PosekitError
from posekit.inference.view import Answers, error_types, write_view

POINTS = np.array([[30, 20], [70, 40], [20, 60]], dtype=np.float32)


@pytest.fixture
def index(tmp_path: Path) -> PoseIndex:
    (tmp_path / "list.txt").write_text("four")
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"<{i}>.png"), np.full((100, 120, 3), 50 * i, np.uint8))

    def read(root, split, schema):
        for i in range(4):
            flags = np.array([2, 1, 0 if i == 3 else 2], dtype=np.uint8)
            box = np.array([10.0, 10, 80, 100])
            yield Instance(f"<{i}>.png", i, f"</script>{i}", POINTS, flags, box)

    card = dataset_card_from_dict(
        {
            "name": "four", "source": "made here", "licence": "none", "subject": "figure",
            "schema": {
                "keypoints": list(SCHEMA_A.keypoints),
                "skeleton": [list(link) for link in SCHEMA_A.skeleton],
            },
            "adapter": "coco_json", "evaluator": "pck",
            "splits": {"val": {"annotations": "list.txt"}},
        },
        "card",
    )  # fmt: skip
    return build_index(card, tmp_path, "val", tmp_path / "cache", adapter=read)


def answers(index: PoseIndex, shifts: list[float]) -> Answers:
    keypoints = index.columns.keypoints + np.array(shifts)[:, None, None] * np.array([1.0, 0])
    return Answers(np.arange(4), keypoints, np.full((4, 3), 0.5))


def data_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def test_the_page_holds_every_instance_and_loads_nothing(index: PoseIndex):
    page = write_view(index.root / "view.html", index)
    data = data_of(page)
    assert [item["n"] for item in data["items"]] == [f"<{i}>.png" for i in range(4)]
    assert data["items"][0]["id"] == "</script>0"
    assert data["links"][0] == [0, 1, "#56b4e9"]
    assert all(item["src"].startswith("data:image/jpeg;base64,") for item in data["items"])
    assert not re.search(r"https?://|@import|<link|<script src", page.read_text(encoding="utf-8"))


def test_points_lie_where_the_crop_shows_them(index: PoseIndex):
    item = data_of(write_view(index.root / "view.html", index))["items"][0]
    t = np.array(item["t"])
    scale = (t[1, 0] - t[0, 0]) / 40
    assert t[2, 1] - t[0, 1] == pytest.approx(40 * scale, abs=0.2)
    assert t[:, 2].tolist() == [2, 1, 2]
    assert ((t[:, :2] > 0) & (t[:, :2] < 320)).all()


def test_the_worst_are_shown_first_with_their_errors(index: PoseIndex):
    page = write_view(index.root / "v.html", index, answers(index, [1, 30, 2, 20]), limit=2)
    items = {item["n"]: item for item in data_of(page)["items"]}
    assert set(items) == {"<1>.png", "<3>.png"}
    assert items["<1>.png"]["err"] == pytest.approx(0.3)
    assert items["<3>.png"]["e"][2] is None


def test_errors_are_sorted_into_types():
    points = POINTS + np.array([[2, 0], [0, 0], [0, 8]])
    points[1] = POINTS[2]
    flags = np.array([2, 2, 2])
    errors, types = error_types(points, POINTS, flags, 100.0, SCHEMA_A)
    assert errors == pytest.approx([0.02, np.hypot(50, 20) / 100, 0.08], abs=1e-3)
    assert types == ["good", "inversion", "jitter"]
    assert error_types(POINTS + 50, POINTS, np.array([2, 0, 2]), 100.0, SCHEMA_A)[1] == [
        "miss", None, "miss",
    ]  # fmt: skip


def test_an_unreadable_image_is_passed_over_and_none_left_is_an_error(index: PoseIndex):
    (index.root / "<0>.png").unlink()
    assert len(data_of(write_view(index.root / "v.html", index))["items"]) == 3
    for i in (1, 2, 3):
        (index.root / f"<{i}>.png").unlink()
    with pytest.raises(PosekitError, match="four/val: no instance of it can be shown"):
        write_view(index.root / "v.html", index)


@pytest.mark.slow
def test_a_browser_sorts_filters_and_steps_with_the_keyboard(index: PoseIndex, tmp_path: Path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    page = write_view(tmp_path / "v.html", index, answers(index, [1, 30, 2, 20]))
    script = """<script>
    const tiles = () => [...document.querySelectorAll(".caption span:first-child")];
    const names = () => tiles().map((s) => s.textContent);
    const send = (to, event) => to.dispatchEvent(event);
    const key = (k) => send(document, new KeyboardEvent("keydown", {key: k, bubbles: true}));
    const set = (id, value) => {
      byId(id).value = value;
      send(byId(id), new Event("input", {bubbles: true}));
    };
    const log = [names().join()];
    document.querySelector(".tile").click();
    key("ArrowRight"); log.push(document.querySelector(".side h2").textContent);
    key("ArrowLeft"); log.push(document.querySelector(".side h2").textContent);
    byId("dialog").close();
    set("least", "0.25"); log.push(names().join());
    set("least", "0"); set("find", "<2>"); log.push(names().join());
    set("find", "nothing"); log.push(byId("none").hidden);
    document.title = JSON.stringify(log);
    </script>"""
    text = page.read_text(encoding="utf-8").replace("</body>", script + "</body>")
    page.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout)[1]
    log = json.loads(title.replace("&lt;", "<").replace("&gt;", ">"))
    assert log == [
        "<1>.png,<3>.png,<2>.png,<0>.png", "<3>.png", "<1>.png", "<1>.png", "<2>.png", False,
    ]  # fmt: skip
