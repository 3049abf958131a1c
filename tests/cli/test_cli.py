import io
import json

import pytest
from rich.console import Console

from posekit import cli
from posekit.cli.console import FilesProgress


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


@pytest.fixture
def run(tiny, tmp_path):
    """A finished run of the tiny recipe; gives its folder."""
    import posekit  # noqa: PLC0415

    return posekit.train(tiny()).folder


def test_eval_scores_each_head_and_settings_change_the_protocol(monkeypatch, capsys, run):
    code, out, _ = _run(monkeypatch, capsys, "eval", str(run), "--head", "blobs", "--json")
    assert code == 0
    assert set(json.loads(out)) == {"blobs"}
    _run(monkeypatch, capsys, "eval", str(run), "protocol.flip_test=false", "--json")
    metrics = json.loads((run / "eval" / "rings" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["protocol"]["flip_test"] is False
    assert "findings" in metrics


def test_eval_of_an_unknown_head_names_the_nearest(monkeypatch, capsys, run):
    code, _, err = _run(monkeypatch, capsys, "eval", str(run), "--head", "blob")
    assert code == 2
    assert "did you mean 'blobs'" in err


def test_a_head_is_scored_on_another_folder_of_its_dataset(monkeypatch, capsys, run, tmp_path):
    where = ["--dataset", "blobs", "--split", "train", "--root", str(tmp_path / "data" / "blobs")]
    code, out, _ = _run(monkeypatch, capsys, "eval", str(run), *where, "--json")
    assert code == 0
    assert "PCK@0.1" in json.loads(out)["blobs"]


def test_score_gives_the_numbers_that_eval_gave(monkeypatch, capsys, run, tmp_path):
    evaluated = json.loads((run / "eval" / "blobs" / "metrics.json").read_text(encoding="utf-8"))
    file = str(run / "eval" / "blobs" / "predictions.json")
    where = ["--dataset", "blobs", "--split", "val", "--root", str(tmp_path / "data" / "blobs")]
    code, out, _ = _run(monkeypatch, capsys, "score", file, *where, "--json")
    assert code == 0
    assert json.loads(out)["metrics"] == pytest.approx(evaluated["metrics"])


def test_compare_sets_a_run_beside_itself_and_refuses_another_protocol(
    monkeypatch, capsys, run, tmp_path
):
    code, out, _ = _run(monkeypatch, capsys, "compare", str(run), str(run), "--json")
    assert code == 0
    assert set(json.loads(out)["heads"]) == {"blobs", "rings"}
    other = tmp_path / "other" / "eval" / "blobs"
    other.mkdir(parents=True)
    file = run / "eval" / "blobs" / "metrics.json"
    changed = json.loads(file.read_text(encoding="utf-8"))
    changed["protocol"]["flip_test"] = False
    (other / "metrics.json").write_text(json.dumps(changed), encoding="utf-8")
    code, _, err = _run(monkeypatch, capsys, "compare", str(run), str(tmp_path / "other"))
    assert code == 2
    assert "flip_test" in err


def test_predict_writes_poses_beside_pictures(monkeypatch, capsys, run, tmp_path):
    image = tmp_path / "data" / "blobs" / "images" / "val_1.png"
    out_folder = str(tmp_path / "out")
    code, out, _ = _run(
        monkeypatch, capsys, "predict", str(run), str(image), "--head", "blobs",
        "--out", out_folder, "--json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["images"] == 1


def test_progress_off_a_terminal_says_now_and_then_how_long_it_takes():
    times = iter([0.0, 1.0, 2.0, 12.0, 13.0])
    out = io.StringIO()
    progress = FilesProgress(Console(file=out), clock=lambda: next(times))
    with progress:
        for done in (1, 2, 3, 4):
            progress("clip.mp4", done, 103)
    assert out.getvalue() == "clip.mp4: 3 of 103, 9 min 10 s left\n"


def test_info_counts_the_parameters_of_model_and_recipe_alike(monkeypatch, capsys, run):
    model = run / "checkpoints" / "last.safetensors"
    _, of_model, _ = _run(monkeypatch, capsys, "info", str(model), "--json")
    _, of_recipe, _ = _run(monkeypatch, capsys, "info", str(run / "recipe.yaml"), "--json")
    assert json.loads(of_model)["parameters"] == json.loads(of_recipe)["parameters"] > 0


def test_schema_diff_and_datasets_show_speak_of_the_cards(monkeypatch, capsys):
    code, out, _ = _run(monkeypatch, capsys, "schema", "diff", "coco", "aic", "--json")
    assert code == 0
    assert "nose" in json.loads(out)["only_a"]
    code, out, _ = _run(monkeypatch, capsys, "datasets", "show", "coco", "--json")
    assert json.loads(out)["schema"]["keypoints"][0] == "nose"


def test_datasets_convert_writes_a_file_that_reads_back(monkeypatch, capsys, tiny, tmp_path):
    tiny()
    root = tmp_path / "data" / "blobs"
    out = root / "all.json"
    code, _, _ = _run(
        monkeypatch, capsys, "datasets", "convert", "blobs", "--split", "val",
        "--root", str(root), "--out", str(out),
    )  # fmt: skip
    assert code == 0
    assert len(json.loads(out.read_text(encoding="utf-8"))["annotations"]) == 6


def test_quickstart_settings_are_checked(monkeypatch, capsys, tmp_path):
    code, _, err = _run(
        monkeypatch, capsys, "quickstart", "--out", str(tmp_path / "q"), "practice.trian=3"
    )
    assert code == 2
    assert "did you mean 'train'" in err
