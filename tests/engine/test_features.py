"""Heads trained on cached features see what they would see without the cache."""

from __future__ import annotations

import importlib
import json
from itertools import islice

import numpy as np
import pytest
import torch

import posekit
from posekit.config.recipe import recipe_from_dict
from posekit.data.make_batch import BatchMaker
from posekit.engine.prepare_run import prepare_run
from posekit.errors import ConfigError, PosekitError
from posekit.training.step import LossModule, LossScale, run_step

STORE = importlib.import_module("posekit.data.feature_store")


@pytest.fixture
def cached(tiny):
    """Give a recipe with frozen backbone and cached features."""

    def make(out="run", features=None, **training):
        data = tiny(out, **training).model_dump(mode="json")
        data["freeze"]["backbone"] = True
        data["data"]["features"] = {"views": 2, "precision": "fp32", **(features or {})}
        return recipe_from_dict(data)

    return make


def _without_cache(recipe):
    """The same run with the crops themselves: as many views, no features."""
    run = prepare_run(recipe, dry=True)
    maker = run.loader._maker
    run.loader._maker = BatchMaker(maker._heads, maker._sampler, views=maker._views)
    return run


def _losses_and_gradients(run, batch):
    module = LossModule(run.model, run.trainer(None, None).data.losses).train()
    scale = LossScale("head", {"blobs": 1.0, "rings": 1.0}, {"blobs": 3, "rings": 2})
    run.model.zero_grad()
    terms = run_step(module, [batch], scale, lambda loss, last: loss.backward())
    grads = {n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None}
    return terms, grads


@pytest.mark.parametrize("batch_number", [0, 5])
def test_losses_and_gradients_of_the_heads_are_those_without_the_cache(cached, batch_number):
    recipe = cached(batch_size=8)
    ours, theirs = prepare_run(recipe), _without_cache(recipe)
    batches = [run.loader.batch(batch_number) for run in (ours, theirs)]
    assert all(part.is_cached for part in batches[0].parts)
    assert not any(part.is_cached for part in batches[1].parts)
    terms, grads = _losses_and_gradients(ours, batches[0])
    wanted_terms, wanted_grads = _losses_and_gradients(theirs, batches[1])
    for head in ("blobs", "rings"):
        torch.testing.assert_close(terms[head][0], wanted_terms[head][0], rtol=1e-5, atol=1e-6)
    assert set(grads) == set(wanted_grads)
    assert all(name.startswith("heads.") for name in grads)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, wanted_grads[name], rtol=1e-4, atol=1e-6)


def test_views_come_again_after_so_many_epochs_and_differ_before(cached):
    run = _without_cache(cached(batch_size=12))  # an epoch of both datasets a batch
    crops = {}
    for batch in islice(run.loader.batches(0), 3):
        part = batch.parts[0]
        for row, image in zip(part.groups[0].rows.tolist(), part.images, strict=True):
            crops.setdefault(row, []).append(image.numpy())
    for first, second, third in crops.values():
        assert not np.array_equal(first, second)
        assert np.array_equal(first, third)


def test_half_precision_moves_the_loss_by_little(cached):
    recipe = cached(batch_size=8, features={"precision": "fp16"})
    ours, theirs = prepare_run(recipe), _without_cache(recipe)
    assert ours.loader.batch(0).parts[0].images.dtype == torch.float16
    found, _ = _losses_and_gradients(ours, ours.loader.batch(0))
    wanted, _ = _losses_and_gradients(theirs, theirs.loader.batch(0))
    assert float(found["blobs"][0]) == pytest.approx(float(wanted["blobs"][0]), rel=1e-3)


def test_a_stopped_run_on_features_resumes_bit_for_bit(cached):
    whole = posekit.train(cached("whole"), evaluate=False)
    from test_train import _StopAt  # noqa: PLC0415

    parted = cached("parted")
    assert posekit.train(parted, evaluate=False, listener=_StopAt(2)).step == 2
    resumed = posekit.train(parted, evaluate=False, resume=True)
    before, after = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_cache_that_was_stopped_goes_on_where_it_was(cached, monkeypatch, tmp_path):
    monkeypatch.setattr(STORE, "_CHUNK", 2)
    recipe = cached()
    whole = prepare_run(recipe).loader.batch(0)
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path / "other"))
    real, computed = STORE.write_json, []

    def stop_after_two_chunks(file, content):
        real(file, content)
        computed.append(content.get("chunks"))
        if len(computed) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(STORE, "write_json", stop_after_two_chunks)
    with pytest.raises(KeyboardInterrupt):
        prepare_run(recipe)
    monkeypatch.setattr(
        STORE, "write_json", lambda f, c: (computed.append(c.get("chunks")), real(f, c))
    )
    again = prepare_run(recipe).loader.batch(0)
    assert computed == [1, 2, 3, None, 1, 2, 3, None]  # blobs went on at the third chunk
    for first, second in zip(whole.parts, again.parts, strict=True):
        assert torch.equal(first.images, second.images)


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"seed": 1}},
        {"augmentation": {"rotation": 10.0}},
        {"data": {"features": {"views": 3}}},
        {"data": {"features": {"precision": "fp16"}}},
        {"heads": {"blobs": {"codec": {"kind": "msra"}, "head": "simple_msra"}}},
        {"backbone": {"num_heads": 4}},
    ],
)
def test_another_cache_is_made_for_whatever_changes_the_features(cached, change):
    from posekit.config.base import merge  # noqa: PLC0415

    recipe = cached()
    first = _folders(recipe)
    assert _folders(recipe) == first
    assert _folders(recipe_from_dict(merge(recipe.model_dump(mode="json"), change))) != first


def test_other_weights_or_a_changed_image_make_another_cache(cached, tmp_path):
    done = posekit.train(cached("first"), evaluate=False)
    recipe = cached("second")
    first = _folders(recipe)
    trained = cached("third", init=str(done.folder / "checkpoints/last.safetensors"))
    assert _folders(trained) == first  # a frozen backbone is the same after training
    image = tmp_path / "data/blobs/images/train_1.png"
    image.write_bytes(image.read_bytes() + b"\0")
    assert _folders(recipe)["blobs"] != first["blobs"]
    assert _folders(recipe)["rings"] == first["rings"]


def _folders(recipe):
    loader = prepare_run(recipe).loader
    return {name: store.folder for name, store in loader._maker._features.items()}


def test_a_broken_image_is_replaced_by_the_same_sample_as_without_the_cache(cached, tmp_path):
    (tmp_path / "data/blobs/images/train_3.png").write_bytes(b"no image")
    recipe = cached(batch_size=8)
    ours, theirs = prepare_run(recipe), _without_cache(recipe)
    for number in range(3):
        found, wanted = ours.loader.batch(number), theirs.loader.batch(number)
        assert [f.row for f in found.failures] == [f.row for f in wanted.failures]
        for mine, other in zip(found.groups, wanted.groups, strict=True):
            assert torch.equal(mine.rows, other.rows)
            assert torch.equal(mine.points, other.points)


def test_features_of_a_backbone_that_trains_are_refused(tiny):
    data = tiny().model_dump(mode="json")
    data["data"]["features"] = {}
    with pytest.raises(ConfigError, match=r"set freeze\.backbone: true, or leave"):
        recipe_from_dict(data)
    data["freeze"]["backbone"] = True
    data["distillation"] = {"teacher": "some.safetensors"}
    with pytest.raises(ConfigError, match=r"keeps no crops for a teacher"):
        recipe_from_dict(data)


def test_a_full_disk_is_one_sentence_before_anything_is_computed(cached, monkeypatch):
    usage = type("Usage", (), {"free": 10})()
    monkeypatch.setattr(STORE.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(PosekitError, match=r"needs \d+ MiB and the disk has 0; take fewer data\.f"):
        prepare_run(cached())


def test_a_plan_makes_no_cache(cached, tmp_path):
    plan = posekit.plan(cached())
    assert plan.steps == 4
    assert not (tmp_path / "cache" / "features").exists()


def test_experts_have_features_of_their_own(cached):
    data = cached().model_dump(mode="json")
    data["backbone"]["experts"] = {}
    data["heads"]["rings"] = {**data["heads"]["blobs"], "dataset": "blobs"}
    run = prepare_run(recipe_from_dict(data))
    folders = {name: s.folder for name, s in run.loader._maker._features.items()}
    assert len(set(folders.values())) == 2
    assert json.loads((folders["blobs"] / "progress.json").read_text())["chunks"] == 1
