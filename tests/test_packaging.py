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
