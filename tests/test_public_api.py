"""The front door: what `posekit` offers, what it costs to import, and who imports whom."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import posekit

PACKAGE = Path(posekit.__file__).parent
COMMANDS = [
    *("train", "evaluate", "score", "compare", "view", "check", "convert", "predict", "export"),
    *("pretrain", "quickstart", "reproduce", "load", "plan", "profile", "prepare"),
]
FUNCTIONS = [*COMMANDS, "load_recipe", "prepare_run", "evaluate_run", "predict_files"]


def _python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_dir_lists_every_command_and_every_name_can_be_used():
    listed = dir(posekit)
    assert {*FUNCTIONS, "Predictor", "Poses", "push_to_hub", "model_card", "__version__"} <= {
        *listed
    }
    for name in listed:
        assert getattr(posekit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        posekit.trian  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_signature_of_a_public_function_is_explicit_and_typed(name):
    function = getattr(posekit, name)
    parameters = inspect.signature(function).parameters.values()
    assert not [p.name for p in parameters if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    hints = get_type_hints(function)
    assert [p.name for p in parameters if p.name not in hints or hints[p.name] is Any] == []
    assert "return" in hints
    assert function.__doc__


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_importing_posekit_and_listing_its_names_imports_no_part_of_it():
    code = (
        "import sys, posekit; dir(posekit)\n"
        "assert sorted(m for m in sys.modules if m.startswith('posekit')) == "
        "['posekit', 'posekit.version'], sys.modules\n"
    )
    code_of, _, err = _python(code)
    assert code_of == 0, err


LIGHT = """
import sys
sys.argv = ["posekit", *sys.argv[1:]]
from posekit.cli import main
code = 0
try:
    main()
except SystemExit as stop:
    code = int(stop.code or 0)
heavy = [name for name in ("torch", "timm", "matplotlib") if name in sys.modules]
assert not heavy, f"imported {heavy}"
print(f"ended with {code}", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--help", 0),
        ("datasets list", 0),
        ("datasets show coco", 0),
        ("schema diff coco aic", 0),
        ("train quikstart", 2),
        ("pretrain quikstart", 2),
        ("prepare quikstart", 2),
        ("profile quikstart", 2),
        ("reproduce quikstart", 2),
        ("trian quickstart", 2),
        ("compare nowhere nowhere", 1),
        ("score nothing.json --dataset coko --split val", 2),
    ],
)
def test_a_command_that_only_reads_text_imports_no_torch(words, code):
    _, _, err = _python(LIGHT, *words.split())
    assert f"ended with {code}" in err, err


def test_onboarding_checking_scoring_and_comparing_import_no_torch(tiny, tmp_path):
    recipe = tiny()
    blobs = tmp_path / "data" / "blobs"
    for words in (
        ["datasets", "new", str(blobs / "train.json"), "--out", str(tmp_path / "mine.yaml")],
        ["datasets", "check", "blobs", "--root", str(blobs), "--no-images"],
    ):
        _, _, err = _python(LIGHT, *words)
        assert "ended with" in err, err
        assert "ended with 2" not in err, err
    run = posekit.train(recipe).folder
    file = run / "eval" / "blobs" / "predictions.json"
    words = ["score", str(file), "--dataset", "blobs", "--split", "val", "--root", str(blobs)]
    for light in (words, ["compare", str(run), "--html", str(tmp_path / "c.html")]):
        _, _, err = _python(LIGHT, *light)
        assert "ended with 0" in err, err
    scored = posekit.score(file, "blobs", "val", blobs)
    evaluated = json.loads((run / "eval" / "blobs" / "metrics.json").read_text(encoding="utf-8"))
    assert scored.metrics == pytest.approx(evaluated["metrics"])
    assert posekit.evaluate(run, heads=["blobs"]).results["blobs"].metrics == scored.metrics


def _imports_the_front_door(text: str) -> list[str]:
    """Return the statements that import posekit/__init__ for more than its submodules."""
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name == "posekit"]
        elif isinstance(node, ast.ImportFrom) and node.module == "posekit":
            found += [alias.name for alias in node.names if alias.name not in parts]
    return found


def test_no_module_of_the_package_imports_the_front_door():
    assert _imports_the_front_door("def f():\n    from posekit import train") == ["train"]
    assert _imports_the_front_door("import posekit") == ["posekit"]
    assert _imports_the_front_door("from posekit import engine") == []
    bad = {
        str(file.relative_to(PACKAGE)): found
        for file in PACKAGE.rglob("*.py")
        if (found := _imports_the_front_door(file.read_text(encoding="utf-8")))
    }
    assert bad == {}
