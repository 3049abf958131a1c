"""The page shows what it is given, needs nothing else, and can be used with the keyboard."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from inference_helpers import SCHEMA_A

from posekit.adapters.base import Instance
from posekit.config.cards import dataset_card_from_dict
from posekit.data.index import PoseIndex, build_index
from posekit.errors import PosekitError
from posekit.pages.view import write_poses_view, write_view
from posekit.poses.split import split_poses
from posekit.poses.table import Poses

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


def predicted(index: PoseIndex, shifts: list[float]) -> Poses:
    columns = index.columns
    return split_poses(
        columns, index.schema, columns.image_index, columns.box_xywh,
        keypoints=columns.keypoints + np.array(shifts)[:, None, None] * np.array([1.0, 0]),
        scores=np.linspace(0.2, 0.8, 4)[:, None] * np.ones((4, 3)),
        instance_id=columns.instance_id,
    )  # fmt: skip


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
    page = write_view(index.root / "v.html", index, predicted(index, [1, 30, 2, 20]), limit=2)
    items = {item["n"]: item for item in data_of(page)["items"]}
    assert set(items) == {"<1>.png", "<3>.png"}
    assert items["<1>.png"]["err"] == pytest.approx(0.3)
    assert items["<3>.png"]["e"][2] is None


def test_an_annotated_instance_without_a_prediction_is_shown_and_marked(index: PoseIndex):
    some = predicted(index, [1, 30, 2, 20])[1:]
    items = data_of(write_view(index.root / "v.html", index, some))["items"]
    assert items[0]["k"] == ["no prediction"] * 3
    assert "p" not in items[0]
    assert items[3]["k"] == ["miss", "miss", None]


def test_predictions_without_truth_are_a_page_too(index: PoseIndex):
    name = str(index.root / "<1>.png")
    boxes = np.array([[10.0, 10, 80, 80]])
    poses = Poses(
        "a", SCHEMA_A, POINTS[None].astype(float), np.full((1, 3), 0.25, np.float32), boxes,
        np.ones(1), np.zeros(1, np.int64), (name,), ((100, 120),),
    )  # fmt: skip
    page = write_poses_view(index.root / "p.html", poses, "my folder")
    data = data_of(page)
    assert (data["truth"], data["items"][0]["s"], data["items"][0]["err"]) == (False, 0.25, None)
    text = page.read_text(encoding="utf-8")
    assert 'id="truth"' not in text
    assert 'id="prediction"' in text
    with pytest.raises(PosekitError, match="gone: no instance can be shown"):
        write_poses_view(index.root / "p.html", poses[[]], "gone")


def test_an_unreadable_image_is_passed_over_and_none_left_is_an_error(index: PoseIndex):
    (index.root / "<0>.png").unlink()
    assert len(data_of(write_view(index.root / "v.html", index))["items"]) == 3
    for i in (1, 2, 3):
        (index.root / f"<{i}>.png").unlink()
    with pytest.raises(PosekitError, match="four/val: no instance of it can be shown"):
        write_view(index.root / "v.html", index)


class Browser:
    """A headless Chromium that is driven as a person drives it, by WebDriver."""

    def __init__(self, port: int, profile: Path):
        self._url = f"http://127.0.0.1:{port}/session"
        arguments = [
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--window-size=1000,700",
            f"--user-data-dir={profile}",
        ]  # fmt: skip
        options = {"goog:chromeOptions": {"args": arguments}}
        made = self._send("POST", "", {"capabilities": {"alwaysMatch": options}})
        self._url += f"/{made['sessionId']}"

    def _send(self, method: str, path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.loads(answer.read())["value"]

    def open(self, page: Path) -> None:
        self._send("POST", "/url", {"url": page.as_uri()})

    def press(self, *keys: str) -> None:
        presses = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._send(
            "POST", "/actions", {"actions": [{"type": "key", "id": "k", "actions": presses}]}
        )

    def ask(self, script: str):
        return self._send("POST", "/execute/sync", {"script": f"return {script}", "args": []})

    def comes_true(self, script: str, seconds: float = 10) -> bool:
        """Ask until it is so: events such as a dialog's close come after the key's answer."""
        end = time.monotonic() + seconds
        while not (so := bool(self.ask(script))) and time.monotonic() < end:
            time.sleep(0.02)
        return so

    def focused(self, name: str) -> bool:
        return self.comes_true(f"({FOCUSED} || '').startsWith('{name}')")

    def names(self) -> str:
        return self.ask(
            "[...document.querySelectorAll('.caption span:first-child')]"
            ".map((s) => s.textContent).join()"
        )

    def close(self) -> None:
        self._send("DELETE", "")


@pytest.fixture
def browser(tmp_path: Path):
    program = shutil.which("chromedriver")
    if program is None:
        pytest.skip("no chromedriver on this machine (apt-get install chromium chromium-driver)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(
        [program, f"--port={port}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        for line in driver.stdout:
            if b"started successfully" in line:
                break
        found = Browser(port, tmp_path / "profile")
        yield found
        found.close()
    finally:
        driver.terminate()
        driver.wait()


ENTER, ESCAPE, TAB, LEFT, RIGHT, DOWN, END = (
    "\ue007", "\ue00c", "\ue004", "\ue012", "\ue014", "\ue015", "\ue010",
)  # fmt: skip
TITLE = "document.querySelector('.side h2').textContent"
FOCUSED = "document.activeElement.ariaLabel"


@pytest.mark.slow
def test_a_browser_is_used_with_the_keyboard_alone(browser, index: PoseIndex, tmp_path: Path):
    browser.open(write_view(tmp_path / "v.html", index, predicted(index, [1, 30, 2, 20])))
    assert browser.names() == "<1>.png,<3>.png,<2>.png,<0>.png"
    browser.press(RIGHT, RIGHT)
    assert browser.focused("<3>.png")
    browser.press(ENTER)
    assert browser.ask(TITLE) == "<3>.png"
    browser.press(RIGHT)
    assert browser.ask(TITLE) == "<2>.png"
    browser.press(LEFT, LEFT, LEFT)
    assert browser.ask(TITLE) == "<1>.png"
    assert "miss" in browser.ask("document.querySelector('tbody').textContent")
    lines = "document.querySelectorAll('#stage svg .link').length"
    assert browser.ask(lines) == 2
    browser.press("p")
    assert browser.ask("byId('prediction').checked") is False
    assert browser.ask("document.querySelectorAll('#stage svg .error').length") == 0
    browser.press("p", ESCAPE)
    assert browser.ask("byId('dialog').open") is False
    assert browser.focused("<1>.png")
    browser.press(END)
    assert browser.focused("<0>.png")
    browser.press("/", *"<2>")
    assert browser.names() == "<2>.png"
    browser.press(*"nothing")
    assert browser.ask("byId('none').hidden") is False


@pytest.mark.slow
def test_a_browser_sorts_and_filters_by_keypoint_error_and_type(browser, index, tmp_path):
    browser.open(write_view(tmp_path / "v.html", index, predicted(index, [1, 30, 2, 20])))

    def choose(**fields: str) -> str:
        for name, value in fields.items():
            browser.ask(
                f"(byId('{name}').value = '{value}', "
                f"byId('{name}').dispatchEvent(new Event('input', {{bubbles: true}})))"
            )
        return browser.names()

    assert choose(sort="best") == "<0>.png,<2>.png,<3>.png,<1>.png"
    assert choose(sort="unsure") == "<0>.png,<1>.png,<2>.png,<3>.png"
    assert choose(type="miss") == "<1>.png,<3>.png"
    assert choose(keypoint="2") == "<1>.png"
    assert choose(keypoint="", type="", least="0.25") == "<1>.png"
    assert choose(least="0", keypoint="2") == "<0>.png,<1>.png,<2>.png"
    assert browser.ask("byId('count').textContent") == "3 of 4 instances"
