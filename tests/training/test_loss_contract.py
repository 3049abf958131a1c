"""What every loss must do, with each codec that a head card trains it on."""

import example_plug_ins
import pytest
import torch

from posekit.codecs import build_codec
from posekit.config.cards import available, load_head_card
from posekit.config.plug_ins import code_allowed
from posekit.errors import ConfigError
from posekit.training.losses import LOSSES, build_loss, loss_term

SIZE = (128, 96)
CARDS = {
    name: (card.codec, card.loss) for name in available("heads") for card in [load_head_card(name)]
}
PLUG_IN = ({"kind": "msra"}, {"kind": example_plug_ins.named("HuberLoss"), "delta": 0.5})
PAIRS = {**CARDS, "plug-in": PLUG_IN}


@pytest.fixture(params=PAIRS)
def head(request):
    """A codec, a loss, and a batch: head output, points and which are labelled."""
    codec_config, loss_config = PAIRS[request.param]
    torch.manual_seed(0)
    with code_allowed():
        codec = build_codec(dict(codec_config), SIZE)
        loss = build_loss(dict(loss_config), codec, "head 'x'")
    channels = 4 * codec.channels_per_keypoint
    output = 0.2 * torch.randn(3, channels, *codec.heatmap_size)
    output.requires_grad_()
    points = 16 + torch.rand(3, 4, 2) * torch.tensor([64.0, 96.0])
    labelled = torch.tensor([[1.0, 1, 0, 1], [0, 1, 1, 1], [1, 1, 1, 0]])
    return codec, loss, output, points, labelled


def values_of(codec, loss, output, points, labelled):
    target, _ = codec.encode(points, labelled)
    return loss(codec, output, target, points)


def test_every_loss_is_held_to_the_contract():
    assert {loss["kind"] for _, loss in CARDS.values()} == set(LOSSES.built_in)


def test_it_returns_a_finite_value_for_each_keypoint_of_each_sample(head):
    values = values_of(*head)
    assert values.shape == (3, 4)
    assert values.dtype == torch.float32
    assert torch.isfinite(values).all()


def test_a_point_without_weight_changes_neither_loss_nor_gradient(head):
    codec, loss, output, points, labelled = head
    found = []
    for moved in (points, torch.where(labelled[..., None] > 0, points, points + 1000)):
        total, weight = loss_term(loss, codec, output, moved, labelled)
        (gradient,) = torch.autograd.grad(total, output)
        found.append((total.detach(), weight, gradient))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    by_keypoint = found[0][2].unflatten(1, (4, -1)).flatten(2).abs().amax(-1)
    assert torch.isfinite(by_keypoint).all()
    assert ((by_keypoint > 0) == (labelled > 0)).all()


def test_samples_do_not_see_one_another(head):
    codec, loss, output, points, labelled = head
    together = values_of(codec, loss, output, points, labelled)
    alone = [
        values_of(codec, loss, output[i : i + 1], points[i : i + 1], labelled[i : i + 1])
        for i in range(3)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-6)


def test_following_its_gradient_brings_the_decoded_points_to_the_labelled_ones(head):
    codec, loss, output, points, labelled = head
    own = {"params": list(loss.parameters()), "lr": 1e-3}
    optimizer = torch.optim.Adam([{"params": [output]}, own], lr=0.02)
    wanted = labelled > 0

    def error():
        with torch.no_grad():
            found, _ = codec.decode(output)
        return torch.linalg.vector_norm(found - points, dim=-1)[wanted].mean()

    before = error()
    for _ in range(300):
        total, weight = loss_term(loss, codec, output, points, labelled)
        optimizer.zero_grad()
        (total / weight).backward()
        optimizer.step()
    assert error() < max(4.0, before / 2)  # a pixel of the map is 4 of the crop


def test_half_the_scale_is_half_the_loss(head, request):
    codec, loss, output, points, labelled = head
    config = PAIRS[request.node.callspec.params["head"]][1]
    if "scale" not in loss.settings.model_fields:
        pytest.skip("it has no scale")
    with code_allowed():
        half = build_loss({**config, "scale": 0.5}, codec, "head 'x'")
    half.load_state_dict(loss.state_dict())
    whole = values_of(codec, loss, output, points, labelled)
    torch.testing.assert_close(values_of(codec, half, output, points, labelled), whole / 2)


def test_a_wrong_key_is_one_sentence_with_the_place(head, request):
    codec, *_ = head
    kind = PAIRS[request.node.callspec.params["head"]][1]["kind"]
    with code_allowed(), pytest.raises(ConfigError, match=r"card x: .*no_such_key") as found:
        build_loss({"kind": kind, "no_such_key": 1}, codec, "card x")
    assert "\n" not in str(found.value)
