import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_other_packages_import_from_the_repository_root():
    """`datasets/` in the working directory must not pass for the package of that name."""
    code = (
        "import timm, accelerate, importlib.util as u\n"
        "accelerate.Accelerator(cpu=True)\n"
        "if u.find_spec('transformers'): import transformers\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("folder", ["datasets", "heads", "recipes"])
def test_the_wheel_carries_the_cards_inside_posekit(folder):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'{folder} = "posekit/_cards/{folder}"' in text
    assert not (ROOT / folder / "__init__.py").exists()


def test_nothing_in_the_tree_names_a_machine_path():
    listed = subprocess.run(
        ["git", "ls-files"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    bad = []
    for name in listed.stdout.split():
        if name.endswith((".py", ".md", ".yaml", ".toml", "run")) and "test_packaging" not in name:
            text = (ROOT / name).read_text(encoding="utf-8")
            bad += [name for mark in ("/" + "work/", "/" + "root/") if mark in text]
    assert bad == []


def test_the_map_for_contributors_names_every_folder_and_the_files_it_says_to_read():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = [p for p in (ROOT / "posekit").iterdir() if (p / "__init__.py").is_file()]
    files = list((ROOT / "posekit").glob("*.py"))
    missing = [f"{p.name}/" for p in folders if f"posekit/{p.name}/ " not in text]
    missing += [p.name for p in files if p.name not in text]
    assert missing == []
    to_read = re.findall(r"^\d+\. `(\S+)`", text, re.MULTILINE)
    assert len(to_read) == 10
    named = [*to_read, *re.findall(r"posekit/\S+?\.py", text)]
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_file_map_of_the_architecture_names_files_that_are_there():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:cli|engine|training|data|evaluation|inference|models)/\S*?)`", text)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / "posekit" / name).exists()] == []
