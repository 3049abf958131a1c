"""Runs with a teacher: what is learned, what stays, and exact resume of both stages."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

import posekit
from posekit.config.recipe import recipe_from_dict
from posekit.engine.single_heads import alone_recipe
from posekit.errors import CheckpointError, ConfigError
from posekit.models import load_model
from posekit.models.knowledge import load_token
from posekit.training.events import Silent


class StopAt(Silent):
    """Sends this process a signal at the n-th log of all stages."""

    def __init__(self, log):
        super().__init__()
        self.at = log

    def logged(self, log):
        super().logged(log)
        if len(self.logs) == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def teacher(tiny):
    data = tiny("teacher").model_dump(mode="json")
    data["backbone"] = {**data["backbone"], "embed_dim": 24, "drop_path": 0.0}
    done = posekit.train(recipe_from_dict(data), evaluate=False)
    return done.folder / "checkpoints" / "last.safetensors"


@pytest.fixture
def student(tiny, teacher):
    def make(out, distillation, **training):
        data = tiny(out, **training).model_dump(mode="json")
        data["distillation"] = {"teacher": str(teacher), **distillation}
        return recipe_from_dict(data)

    return make


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def test_each_head_logs_its_loss_to_the_teacher_and_learns_from_it(student):
    listener = Silent()
    recipe = student("both", {"output": 2.0})
    done = posekit.train(recipe, evaluate=False, listener=listener)
    assert set(listener.logs[0].loss) == {"blobs", "rings", "blobs.teacher", "rings.teacher"}
    alone = recipe.model_copy(update={"distillation": None, "out": recipe.out + "-alone"})
    without = posekit.train(alone, evaluate=False)
    assert not equal(state_of(done.model), state_of(without.model))


def test_a_taught_run_is_evaluated_and_reported_like_any_other(student):
    done = posekit.train(student("reported", {"output": 1.0}))
    assert set(done.results) == {"blobs", "rings"}
    assert (done.folder / "report.html").is_file()


def test_a_head_alone_keeps_its_teacher(student):
    recipe = student("joint", {"heads": {"blobs": "blobs", "rings": "rings"}})
    alone = alone_recipe(recipe, "rings", 8, Path(recipe.out) / "alone")
    assert alone.distillation.heads == {"rings": "rings"}


def test_a_shared_loss_scale_gives_one_term_over_all_samples(student):
    listener = Silent()
    posekit.train(student("share", {}, loss_scale="share"), evaluate=False, listener=listener)
    assert set(listener.logs[0].loss) == {"blobs", "rings", ".teacher"}


def test_a_recipe_that_reports_its_heads_gradients_learns_a_token_too(student):
    recipe = student("token", {"output": 0.0, "token": {"steps": 1}})
    training = recipe.training.model_copy(update={"gradient_report_every": 1})
    done = posekit.train(recipe.model_copy(update={"training": training}), evaluate=False)
    log = done.folder / "log.jsonl"
    assert "gradients" in log.read_text(encoding="utf-8")
    assert "gradients" not in (done.folder / "token" / "log.jsonl").read_text(encoding="utf-8")


def test_the_token_is_learned_first_and_then_stays(student, teacher):
    listener = Silent()
    recipe = student("token", {"output": 0.0, "token": {"steps": 3, "lr": 0.1}})
    done = posekit.train(recipe, evaluate=False, listener=listener)
    assert [log.total_steps for log in listener.logs] == [3, 3, 3, 4, 4, 4, 4]
    token = load_token(done.folder / "token.pt")
    assert token.shape == (1, 1, 24)
    knowledge = done.model.backbone.knowledge
    assert torch.equal(knowledge.token, token)
    assert not knowledge.token.requires_grad
    assert knowledge.map.weight.shape == (16, 24)

    learned = load_model(done.folder / "token" / "checkpoints" / "last.safetensors")
    before, after = state_of(load_model(teacher)), state_of(learned)
    changed = {n for n in after if n not in before or not torch.equal(before[n], after[n])}
    assert changed == {"backbone.knowledge.token"}
    again = load_model(done.folder / "checkpoints" / "last.safetensors")
    assert torch.equal(again.backbone.knowledge.token, token)


def test_the_map_of_the_token_trains_with_the_student(student):
    recipe = student("token", {"output": 0.0, "token": {"steps": 1}})
    done = posekit.train(recipe, evaluate=False)
    longer = recipe.model_copy(
        update={
            "training": recipe.training.model_copy(update={"steps": 5}),
            "out": recipe.out + "2",
        }
    )
    other = posekit.train(longer, evaluate=False)
    first, second = done.model.backbone.knowledge, other.model.backbone.knowledge
    assert torch.equal(first.token, second.token)
    assert not torch.equal(first.map.weight, second.map.weight)


@pytest.mark.parametrize("log", [2, 5])
def test_a_run_stopped_in_either_stage_ends_as_an_uninterrupted_one(student, log):
    settings = {"output": 1.0, "fade": True, "token": {"steps": 3}}
    whole = posekit.train(student("whole", settings), evaluate=False)
    parted = student("parted", settings)
    stopped = posekit.train(parted, evaluate=False, listener=StopAt(log))
    assert not stopped.complete
    resumed = posekit.train(parted, evaluate=False, resume=True)
    assert resumed.complete
    assert equal(state_of(whole.model), state_of(resumed.model))


def test_a_token_of_another_run_is_taken_from_its_file(student):
    first = posekit.train(student("a", {"output": 0.0, "token": {"steps": 2}}), evaluate=False)
    file = first.folder / "token.pt"
    listener = Silent()
    recipe = student("b", {"output": 0.0, "token": {"file": str(file)}, "teacher": None})
    done = posekit.train(recipe, evaluate=False, listener=listener)
    assert len(listener.logs) == 4
    assert torch.equal(done.model.backbone.knowledge.token, load_token(file))


def test_the_plan_counts_the_teacher_in(student):
    plan = posekit.plan(student("plan", {"token": {}}))
    assert plan.steps == 4


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"teacher": "nowhere.safetensors"}, CheckpointError, "distillation.teacher: nowhere"),
        ({"heads": {"blobs": "blob"}}, ConfigError, "no head 'blob'; did you mean 'blobs'"),
        (
            {"heads": {"blobs": "rings"}},
            ConfigError,
            "has no keypoint 'middle', which head 'blobs'",
        ),
        ({"token": {"file": "nowhere.pt"}}, CheckpointError, "nowhere.pt: there is no such file"),
    ],
)
def test_a_wrong_teacher_is_one_sentence(student, change, error, words):
    with pytest.raises(error, match=words):
        posekit.train(student("wrong", change), evaluate=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"output": 0}, "nothing is learned from the teacher"),
        ({"teacher": None}, "key 'teacher' is missing"),
        ({"heads": {"dogs": "blobs"}}, "distillation.heads names the unknown head 'dogs'"),
    ],
)
def test_wrong_settings_are_named(student, change, words):
    with pytest.raises(ConfigError, match=words):
        student("wrong", change)
