"""The loss to a teacher, against plain loops, for heads alike and unlike."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from posekit.codecs import build_codec
from posekit.data.batch import Group, Part
from posekit.errors import ConfigError
from posekit.models import HeadSpec, build_model
from posekit.schema import KeypointSchema
from posekit.training.distillation import Distillation, match_heads, resize_crops
from posekit.training.losses import build_loss
from posekit.training.step import PartOutputs

POINTS = ("a", "b", "c")


def model_of(kind="msra", size=(32, 24), points=POINTS, width=16, head="x", **codec):
    decoder = {"kind": "classic", "channels": 8, "layers": 1}
    if kind == "simcc":
        decoder = {"kind": "simcc"}
    spec = HeadSpec(KeypointSchema(head, points), decoder, {"kind": kind, **codec}, size)
    vit = {"name": "vit", "embed_dim": width, "depth": 1, "num_heads": 2, "patch_size": 8}
    return build_model({**vit, "drop_path": 0.3}, {head: spec})


def outputs_of(model, head="x", rows=3):
    size = model.head(head).input_size
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (rows, *size, 3), dtype=torch.uint8, generator=generator)
    count = len(model.head(head).schema)
    points = torch.rand(rows, count, 2, generator=generator) * 20
    empty = torch.zeros(rows)
    group = Group(head, 0, rows, points, torch.ones(rows, count), empty, empty, empty, empty, empty)
    part = Part(images, (group,))
    normal = model.normalise(images)
    features = model.features(normal)
    return PartOutputs(part, normal, features, model.run_heads(features, [(head, slice(0, rows))]))


def distillation(student, teacher, loss="mse", weight=1.0, named=None, **settings):
    [head] = student.head_names
    losses = {head: build_loss({"kind": loss}, student.head(head).codec, "loss")}
    matches = match_heads(student, teacher, named or {})
    return Distillation(teacher, matches, losses, {head: weight}, **settings)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_maps_alike_are_compared_by_a_mean_square_over_all_pixels_and_keypoints():
    student, teacher = model_of(), model_of(width=24)
    outputs = outputs_of(student.eval())
    term = distillation(student, teacher, weight=0.5)(student, outputs)["x.teacher"]
    with torch.no_grad():
        taught = teacher.eval()(teacher.normalise(outputs.part.images), [("x", slice(0, 3))])["x"]
    total = 0.0
    for row in range(3):
        squares = [
            (float(outputs.by_head["x"][row, k, y, x].detach()) - float(taught[row, k, y, x])) ** 2
            for k in range(3)
            for y in range(8)
            for x in range(6)
        ]
        total += sum(squares) / len(squares)
    assert float(term.detach()) == pytest.approx(0.5 * total, rel=1e-4)


def test_distributions_alike_are_compared_by_cross_entropy():
    settings = {"kind": "simcc", "activation": "softmax"}
    student, teacher = model_of(**settings), model_of(**settings, width=24)
    outputs = outputs_of(student.eval())
    term = distillation(student, teacher, "cross_entropy")(student, outputs)["x.teacher"]
    taught = teacher.eval()(teacher.normalise(outputs.part.images), [("x", slice(0, 3))])["x"]
    entropy = 0.0
    for ours, theirs in zip(
        outputs.by_head["x"].split((48, 64), -1), taught.split((48, 64), -1), strict=True
    ):
        entropy = entropy - (theirs.softmax(-1) * ours.log_softmax(-1)).sum(-1)
    expected = (entropy / 2).mean((1, 2)).sum()
    torch.testing.assert_close(term, expected, rtol=1e-4, atol=1e-5)


def test_heads_unlike_teach_their_keypoints_weighted_by_their_scores():
    student = model_of("udp", activation="softmax")
    teacher = model_of("msra", size=(64, 48), width=24)
    outputs = outputs_of(student.eval())
    term = distillation(student, teacher, "cross_entropy")(student, outputs)["x.teacher"]
    head = teacher.head("x")
    crops = resize_crops(teacher.normalise(outputs.part.images), "udp", (64, 48), "plain")
    maps = teacher.eval()(crops, [("x", slice(0, 3))])["x"]
    points, scores = head.codec.decode(maps)
    points = points * torch.tensor([23 / 48, 31 / 64])
    target, weights = student.head("x").codec.encode(points, scores.clamp(0, 1))
    share = target.flatten(2) / target.flatten(2).sum(-1, keepdim=True).clamp_min(1e-12)
    entropy = -(share * outputs.by_head["x"].flatten(2).log_softmax(-1)).sum(-1)
    expected = (entropy * weights).mean(1).sum()
    torch.testing.assert_close(term, expected, rtol=1e-4, atol=1e-6)


def test_the_teacher_stays_as_it_is_while_the_student_trains():
    student, teacher = model_of(), model_of(width=24)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    extra = distillation(student, teacher)
    student.train()
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    for _ in range(2):
        sum(extra(student, outputs_of(student)).values()).backward()
        optimizer.step()
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert student.heads["x"].decoder.deconv_layers[1].num_batches_tracked > 0
    assert teacher.heads["x"].decoder.deconv_layers[1].num_batches_tracked == 0


def test_keypoints_in_another_order_are_taught_by_name():
    teacher = model_of(points=("c", "spare", "a", "b"), width=24, head="y")
    student = model_of()
    extra = distillation(student, teacher, named={"x": "y"})
    assert extra.matches["x"].order == (2, 3, 0)
    outputs = outputs_of(student.eval())
    taught = teacher.eval()(teacher.normalise(outputs.part.images), [("y", slice(0, 3))])["y"]
    expected = (outputs.by_head["x"] - taught[:, [2, 3, 0]]).square().mean((1, 2, 3)).sum()
    torch.testing.assert_close(extra(student, outputs)["x.teacher"], expected)


def test_the_weight_fades_to_nothing_over_the_run():
    student, teacher = model_of(), model_of()
    extra = distillation(student, teacher, fade_steps=4)
    outputs = outputs_of(student.eval())
    found = []
    for step in range(5):
        extra.step_begins(step)
        found.append(float(extra(student, outputs)["x.teacher"].detach()))
    assert [value / found[0] for value in found] == pytest.approx([1, 0.75, 0.5, 0.25, 0])


@pytest.mark.parametrize(("warp", "new_warp"), [("plain", "udp"), ("udp", "plain"), ("udp", "udp")])
def test_resized_crops_show_each_place_where_the_other_codec_expects_it(warp, new_warp):
    columns = torch.arange(24.0).expand(1, 3, 32, 24)
    found = resize_crops(columns, warp, (64, 48), new_warp)
    old = build_codec({"kind": "udp" if warp == "udp" else "msra"}, (32, 24))
    new = build_codec({"kind": "udp" if new_warp == "udp" else "msra"}, (64, 48))
    less_old, less_new = (int(codec.warp == "udp") for codec in (old, new))
    expected = torch.arange(48.0) * (24 - less_old) / (48 - less_new)
    torch.testing.assert_close(found[0, 0, 10], expected.clamp_max(23), rtol=0, atol=1e-4)


def test_teachers_that_do_not_fit_are_named():
    with pytest.raises(ConfigError, match=r"heads \(y\) are none of the run's \(x\)"):
        match_heads(model_of(), model_of(head="y"), {})
    with pytest.raises(ConfigError, match="has no keypoint 'b'"):
        match_heads(model_of(), model_of(points=("a", "c")), {})
    with pytest.raises(ConfigError, match=r"crops of 32x24 and .* of 32x32 \(h x w\)"):
        match_heads(model_of(), model_of(size=(32, 32)), {})


def test_only_modules_that_train_belong_to_the_student():
    extra = distillation(model_of(), model_of())
    assert not isinstance(extra, nn.Module)
