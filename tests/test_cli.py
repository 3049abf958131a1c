import json

import pytest

from posekit import cli


def _run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["posekit", *arguments])
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_datasets_list_names_every_card_as_json(monkeypatch, capsys):
    code, out, _ = _run(monkeypatch, capsys, "datasets", "list", "--json")
    names = [row["name"] for row in json.loads(out)]
    assert code == 0
    assert {"coco", "aic", "mpii", "wflw", "lspet"} <= set(names)


def test_a_mistyped_recipe_is_one_sentence_and_exit_code_2(monkeypatch, capsys):
    code, out, err = _run(monkeypatch, capsys, "train", "quikstart")
    assert (code, out) == (2, "")
    assert "did you mean 'quickstart'" in err
    assert "Traceback" not in err


def test_missing_data_is_one_sentence_and_exit_code_1(monkeypatch, capsys, tmp_path):
    code, _, err = _run(
        monkeypatch, capsys, "train", "small_real", "data_root=/nowhere", f"out={tmp_path}"
    )
    assert code == 1
    assert "there is no such folder, expected dataset" in err
    assert "Traceback" not in err


def test_no_command_shows_help(monkeypatch, capsys):
    code, out, err = _run(monkeypatch, capsys)
    assert code in {0, 2}
    assert "quickstart" in out + err


def test_training_prints_the_table_of_heads(monkeypatch, capsys, tiny, tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(tiny().to_yaml(), encoding="utf-8")
    code, out, _ = _run(monkeypatch, capsys, "train", str(recipe), "--json")
    heads = json.loads(out)["heads"]
    assert code == 0
    assert set(heads) == {"blobs", "rings"}
    assert heads["blobs"]["metric"] == "PCK@0.1"


@pytest.mark.parametrize("flag", ["--plan"])
def test_the_plan_leaves_nothing_behind(monkeypatch, capsys, tiny, tmp_path, flag):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(tiny().to_yaml(), encoding="utf-8")
    code, out, _ = _run(monkeypatch, capsys, "train", str(recipe), flag, "--json")
    assert code == 0
    assert json.loads(out)["steps"] == 4
    assert not (tmp_path / "run").exists()
