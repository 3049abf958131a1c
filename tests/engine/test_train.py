import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import posekit
from posekit.config.recipe import recipe_from_dict
from posekit.engine.setup import build_run_model, read_heads
from posekit.engine.single_heads import alone_recipe, compare_heads, train_alone
from posekit.errors import CheckpointError, ConfigError, DatasetError, PosekitError
from posekit.models import checkpoint_file as model_files
from posekit.models import load_model
from posekit.training.events import Silent
from posekit.training.run_folder import RunFolder


class _StopAt(Silent):
    """Sends this process a signal once a step is logged."""

    def __init__(self, step, number=signal.SIGTERM):
        super().__init__()
        self.step, self.number = step, number

    def logged(self, log):
        super().logged(log)
        if log.step == self.step:
            os.kill(os.getpid(), self.number)


def _state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tiny, number, accumulate
):
    settings = {"ema_decay": 0.9, "accumulate": accumulate}
    whole = posekit.train(tiny("whole", **settings), evaluate=False)
    parted = tiny("parted", **settings)
    stopped = posekit.train(parted, evaluate=False, listener=_StopAt(2, number))
    assert (stopped.complete, stopped.step) == (False, 2)
    resumed = posekit.train(parted, evaluate=False, resume=True)
    assert resumed.complete
    assert _same(_state(whole.model), _state(resumed.model))
    lines = (resumed.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3, 4]
    assert [record["step"] for record in records if "runs_on" in record] == [0, 2]


def test_a_run_leaves_recipe_log_checkpoints_metrics_and_report(tiny):
    done = posekit.train(tiny(evaluate_every=2))
    names = {str(p.relative_to(done.folder)) for p in done.folder.rglob("*") if p.is_file()}
    expected = {
        "recipe.yaml",
        "log.jsonl",
        "report.html",
        "checkpoints/last.state",
        "checkpoints/last.safetensors",
        "checkpoints/best-blobs.safetensors",
        "eval/blobs/metrics.json",
        "eval/rings/metrics.json",
        "eval/rings/predictions.json",
    }
    assert expected <= names
    assert set(done.results) == {"blobs", "rings"}
    assert load_model(done.folder / "checkpoints" / "last.safetensors").head_names == (
        "blobs",
        "rings",
    )


def test_the_run_folder_alone_repeats_the_run(tiny, tmp_path):
    first = posekit.train(tiny("first"), evaluate=False)
    settings = [f"out={tmp_path / 'again'}"]
    again = posekit.train(first.folder / "recipe.yaml", settings, evaluate=False)
    assert _same(_state(first.model), _state(again.model))


def test_each_head_alone_sees_as_many_of_its_own_samples(tiny):
    done = posekit.train(tiny())
    train_alone(done.folder)
    compared = compare_heads(done.folder)
    assert all(row["alone"] is not None for row in compared.values())
    alone = (done.folder / "alone" / "blobs" / "log.jsonl").read_text().splitlines()
    # 4 steps of 4 samples, half of them blobs: 8 samples, so 2 steps.
    assert max(json.loads(line)["step"] for line in alone) == 2


def test_the_plan_counts_steps_and_how_often_instances_are_shown(tiny):
    plan = posekit.plan(tiny())
    assert plan.steps == 4
    assert plan.shown == {"blobs": (6, 8), "rings": (6, 8)}
    assert plan.epoch_steps == 3
    assert plan.memory_mib > 0


def test_a_folder_with_a_run_is_not_written_over(tiny):
    posekit.train(tiny(), evaluate=False)
    with pytest.raises(ConfigError, match="holds a run already; go on with --resume"):
        posekit.train(tiny(), evaluate=False)


def test_resuming_with_another_recipe_names_the_difference(tiny):
    posekit.train(tiny(), evaluate=False)
    with pytest.raises(CheckpointError, match=r"training\.batch_size was 4, is 8"):
        posekit.train(tiny(batch_size=8), resume=True, evaluate=False)


def test_a_full_disk_while_saving_keeps_the_last_checkpoint(tiny, monkeypatch):
    recipe = tiny(save_every=2)
    listener = Silent()
    real = model_files.checkpoint_file
    saved = []

    def full(path):
        saved.append(path)
        if len(saved) > 2:  # the first save writes two files
            raise CheckpointError(f"{path}: cannot be written (No space left on device)")
        return real(path)

    for module in ("posekit.models.training_state", "posekit.models.checkpoint"):
        monkeypatch.setattr(f"{module}.checkpoint_file", full)
    recipe = recipe.model_copy(
        update={"training": recipe.training.model_copy(update={"save_every": 1, "steps": 3})}
    )
    with pytest.raises(CheckpointError, match="No space left on device"):
        posekit.train(recipe, evaluate=False, listener=listener)
    assert len(listener.warnings) == 1
    assert "training goes on" in listener.warnings[0]
    monkeypatch.undo()
    folder = RunFolder(recipe.out, recipe)
    assert folder.start(resume=True)["step"] == 1


def test_missing_data_is_one_sentence(tiny):
    recipe = tiny()
    with pytest.raises(DatasetError, match="there is no such folder, expected dataset 'blobs'"):
        posekit.train(recipe.model_copy(update={"data_root": "/nowhere"}), evaluate=False)


def test_a_missing_image_is_named_and_training_goes_on(tiny, tmp_path):
    (tmp_path / "data" / "blobs" / "images" / "train_3.png").unlink()
    listener = Silent()
    done = posekit.train(tiny(), evaluate=False, listener=listener)
    assert done.complete
    assert sum("train_3.png" in warning for warning in listener.warnings) == 1


def test_fp16_without_a_gpu_is_one_sentence(tiny):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        posekit.train(tiny(precision="fp16"), evaluate=False)


def test_initial_weights_of_another_schema_are_refused_by_name(tiny, tmp_path):
    done = posekit.train(tiny("one"), evaluate=False)
    card = tmp_path / "cards" / "datasets" / "blobs.yaml"
    text = card.read_text(encoding="utf-8")
    swapped = text.replace("- left_end\n  - right_end", "- right_end\n  - left_end")
    trusting = swapped.replace("images: images", "images: images\n    options: {trust_order: true}")
    card.write_text(trusting, encoding="utf-8")
    init = str(done.folder / "checkpoints" / "last.safetensors")
    with pytest.raises(CheckpointError, match="head 'blobs' does not fit its schema: channel 1"):
        posekit.train(tiny("two", init=init), evaluate=False)


def test_every_user_error_is_a_posekit_error():
    assert all(issubclass(e, PosekitError) for e in (ConfigError, DatasetError, CheckpointError))


def test_gradients_with_accumulation_equal_those_of_the_doubled_batch(tiny):
    """The two micro-batches of a step hold what one batch of twice the size holds."""
    from posekit.engine.prepare_run import prepare_run  # noqa: PLC0415
    from posekit.training.step import LossModule, LossScale, run_step  # noqa: PLC0415

    run = prepare_run(tiny(batch_size=8))
    module = LossModule(run.model.eval(), run.trainer(None, None).data.losses).eval()
    batch = run.loader.batch(0)
    scale = LossScale("head", {"blobs": 1.0, "rings": 2.0}, {"blobs": 3, "rings": 2})

    def gradients(batches):
        run.model.zero_grad()
        run_step(module, batches, scale, lambda loss, last: loss.backward())
        return [p.grad.clone() for p in run.model.parameters() if p.grad is not None]

    whole = gradients([batch])
    parts = [replace(batch, parts=(part,)) for part in batch.parts]
    assert len(parts) == 2
    for first, second in zip(whole, gradients(parts), strict=True):
        assert torch.allclose(first, second, atol=1e-6)


def test_a_head_alone_leaves_out_what_names_the_others(tiny):
    recipe = tiny(steps=8).model_dump(mode="json")
    recipe["backbone"]["experts"] = {"width": 4, "share": {"blobs": "one", "rings": "two"}}
    recipe["freeze"]["heads"] = ["blobs"]
    recipe["phases"] = [{"start": 4, "freeze": {"heads": ["rings"]}}]
    alone = alone_recipe(recipe_from_dict(recipe), "rings", 8, Path("alone"))
    assert list(alone.heads) == ["rings"]
    assert alone.backbone.experts.share == {"rings": "two"}
    assert (alone.freeze.heads, alone.phases[0].freeze.heads) == (False, True)
    assert alone.phases[0].start == alone.training.steps / 2
    build_run_model(alone, read_heads(alone))
