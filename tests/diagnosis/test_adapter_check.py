"""A user's adapter is run against its contract, and every breach is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import write_card, write_dataset
from typer.testing import CliRunner

from posekit.cli import app
from posekit.config.cards import dataset_card_from_dict, load_dataset_card
from posekit.config.plug_ins import code_allowed
from posekit.diagnosis import CheckReport, check_adapter

GOOD = """
import numpy as np
from posekit.adapters import Instance, adapter
from posekit.errors import DatasetError


@adapter
def read(root, split, schema):
    file = root / split.annotations
    if not file.is_file():
        raise DatasetError(file, "there is no such file")
    for number, line in enumerate(file.read_text().splitlines()):
        values = np.array(line.split(), np.float32).reshape(len(schema), 2)
        yield Instance(
            image="images/a.png",
            image_id=1,
            instance_id=number,
            keypoints=values,
            visibility=np.full(len(schema), 2, np.uint8),
        )
"""
FAULTS = {
    "contract_broken": ("np.float32", "np.float64"),
    "ids_repeated": ("instance_id=number", "instance_id=7"),
    "image_ids_mixed": ("image_id=1,", "image_id=number,"),
    "images_missing": ("images/a.png", "a.png"),
    "extras_differ": ("image_id=1,", "image_id=1, extras={} if number else {'head': 1.0},"),
    "adapter_gives_nothing": ("    for number", "    yield from ()\n    for number"),
    "adapter_fails": ("image_id=1,", "image_id=[][0],"),
    "adapter_stops": ("image_id=1,", "image_id=1 if number < 1 else _stop(file),"),
    "adapter_error_unclear": ("if not file.is_file():", "if False:"),
    "adapter_error_missing": ('raise DatasetError(file, "there is no such file")', "return"),
    "adapter_not_repeatable": ("values = ", "values = np.random.rand() * "),
    "adapter_does_not_stream": (
        "@adapter\ndef read(",
        "@adapter\ndef read(*a):\n    return list(stream(*a))\n\n\ndef stream(",
    ),
}  # fmt: skip
STOP = "\n\ndef _stop(file):\n    raise DatasetError(file, 'it ends')\n"


def check(folder: Path, code: str, lines: str = "1 2 3 4\n5 6 7 8\n") -> CheckReport:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "a.png").write_bytes(b"")
    (folder / "labels.txt").write_text(lines)
    (folder / "mine.py").write_text(code)
    card = dataset_card_from_dict(
        {
            "name": "mine",
            "source": "made here",
            "licence": "none",
            "subject": "thing",
            "adapter": "mine.py:read",
            "evaluator": "pck",
            "splits": {"train": {"annotations": "labels.txt", "images": "images"}},
            "schema": {"keypoints": ["head", "tail"]},
        },
        "test",
        folder / "mine.yaml",
    )
    with code_allowed():
        return check_adapter(card, folder)


def test_a_right_adapter_is_silent(tmp_path: Path):
    assert check(tmp_path, GOOD).findings == ()


@pytest.mark.parametrize("name", FAULTS)
def test_each_breach_is_named(tmp_path: Path, name: str):
    old, new = FAULTS[name]
    assert old in GOOD
    lines = "" if name == "adapter_gives_nothing" else "1 2 3 4\n5 6 7 8\n"
    report = check(tmp_path, GOOD.replace(old, new) + STOP, lines)
    assert name in report.names
    assert report.of(name)[0].split == "train"


def test_an_adapter_that_can_only_read_once_is_named(tmp_path: Path):
    once = "    read.calls = getattr(read, 'calls', 0) + 1\n    if read.calls > 1:\n        [][0]\n"
    report = check(tmp_path, GOOD.replace("    for number", f"{once}    for number"))
    assert report.names == ("adapter_not_repeatable",)


def test_one_fault_in_many_records_is_one_finding_with_its_count(tmp_path: Path):
    (found,) = check(tmp_path, GOOD.replace("np.float32", "np.float64")).findings
    assert found.count == 2
    assert "keypoints: found float64 (2, 2), expected float32 (2, 2)" in found.text


def test_built_in_adapters_keep_the_contract_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POSEKIT_CARDS", str(tmp_path / "cards"))
    write_card(tmp_path / "cards", "blobs")
    root = write_dataset(tmp_path / "data", "blobs")
    assert check_adapter(load_dataset_card("blobs"), root).names == ()
    result = CliRunner().invoke(
        app, ["datasets", "check", "--adapter", "blobs", "--root", str(root)]
    )
    assert result.exit_code == 0
    assert "Nothing looks wrong" in result.stdout
