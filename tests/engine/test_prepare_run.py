"""prepare_run: the parts of a run, for `train` and for a loop of one's own."""

from pathlib import Path

import pytest
import torch

import posekit


def test_a_loop_over_prepared_parts_trains_as_the_recipe_scales_its_heads(tiny):
    run = posekit.prepare_run(tiny(batch_size=8))
    optimizer = torch.optim.AdamW(run.parameters(), lr=1e-3)
    seen = []
    for batch in run.batches(steps=12):
        loss = run.loss(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(float(loss.detach()))
    assert sum(seen[-3:]) < sum(seen[:3])
    assert not Path(run.recipe.out).exists()


def test_the_loss_is_the_one_that_train_minimises(tiny):
    recipe = tiny(batch_size=8)
    ours, theirs = posekit.prepare_run(recipe), posekit.prepare_run(recipe)
    for run in (ours, theirs):
        for module in run.model.modules():
            module.drop_prob = 0.0  # drop path draws anew in each loop
    batch = next(ours.batches(1))
    ours.loss(batch).backward()
    caught = {}
    trainer = theirs.trainer()
    keep = trainer.prepared.step

    def step(*args, **kwargs):
        caught.update({n: p.grad.clone() for n, p in theirs.model.named_parameters()})
        return keep(*args, **kwargs)

    trainer.prepared.step = step
    trainer.recipe = recipe.model_copy(
        update={"optimizer": recipe.optimizer.model_copy(update={"clip_norm": 0.0})}
    )
    trainer.train_step([next(theirs.batches(1))])
    assert len(caught) > 10
    for name, parameter in ours.model.named_parameters():
        torch.testing.assert_close(parameter.grad, caught[name], msg=name)


def test_head_losses_are_means_over_labelled_points_and_add_up_to_the_loss(tiny):
    run = posekit.prepare_run(tiny(batch_size=8))
    batch = next(run.batches(1))
    torch.manual_seed(0)
    losses = run.head_losses(batch)
    torch.manual_seed(0)
    whole = run.loss(batch)
    assert set(losses) == {"blobs", "rings"}
    assert run.recipe.training.loss_scale == "head"
    assert sum(losses.values()).item() == pytest.approx(whole.item(), rel=1e-5)


def test_batches_go_on_from_a_step_as_if_there_had_been_no_stop(tiny):
    run = posekit.prepare_run(tiny(batch_size=8))
    whole = list(run.batches(4))
    rest = list(run.batches(2, start=2))
    for a, b in zip(whole[2:], rest, strict=True):
        for one, other in zip(a.parts, b.parts, strict=True):
            assert torch.equal(one.images, other.images)
