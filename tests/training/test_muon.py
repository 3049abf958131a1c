"""Muon: matrices step along their orthogonalised momentum, the rest as AdamW steps it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from posekit.config.recipe import Optimizer
from posekit.engine.prepare_run import prepare_run
from posekit.models.stems import ConvStem
from posekit.training import muon
from posekit.training.muon import Muon
from posekit.training.optimizer import build_optimizer, hidden_matrices

_SHAPES = [(24, 16), (16, 24), (24, 16), (16, 16), (12, 8, 3, 3), (12, 8, 3, 3), (16, 24)]


class CountProducts(TorchDispatchMode):
    """Counts calls of matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += any(word in str(func) for word in ("addmm", "baddbmm", ".mm", ".bmm"))
        return func(*args, **(kwargs or {}))


def build() -> tuple[list[torch.nn.Parameter], Muon]:
    generator = torch.Generator().manual_seed(3)
    matrices = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in _SHAPES]
    biases = [torch.nn.Parameter(torch.randn(5, generator=generator)) for _ in range(2)]
    groups = [
        {"params": matrices, "lr": 0.02, "weight_decay": 0.05, "matrices": True},
        {"params": biases, "lr": 0.001, "weight_decay": 0.05},
    ]
    return matrices + biases, Muon(groups, lr=0.02, momentum=0.9, betas=(0.9, 0.99))


def set_gradients(parameters: list[torch.nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for number, parameter in enumerate(parameters):
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = None if (step, number) == (1, 3) else gradient


@pytest.mark.parametrize("most", [1 << 24, 500])
def test_a_matrix_moves_by_the_orthogonal_factor_of_its_momentum(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muon, "_MOST_STACKED", most)
    parameters, optimizer = build()
    expected = [p.detach().clone() for p in parameters[: len(_SHAPES)]]
    momenta = [torch.zeros_like(p) for p in expected]
    for step in range(3):
        set_gradients(parameters, step)
        optimizer.step()
        for number, (matrix, momentum) in enumerate(zip(expected, momenta, strict=True)):
            gradient = parameters[number].grad
            if gradient is None:
                continue
            momentum.lerp_(gradient, 0.1)
            u, _, v = torch.linalg.svd(momentum.flatten(1), full_matrices=False)
            rows, columns = momentum.flatten(1).shape
            size = 0.02 * max(1.0, rows / columns) ** 0.5
            matrix.mul_(1 - 0.02 * 0.05).sub_((u @ v).view_as(matrix), alpha=size)
    for mine, reference in zip(parameters, expected, strict=False):
        # five iterations bring the singular values near 1, not onto it
        torch.testing.assert_close(mine.detach(), reference, rtol=0, atol=0.02 * 3 * 0.2)


def test_what_is_no_hidden_matrix_steps_as_adamw_steps_it() -> None:
    parameters, optimizer = build()
    biases = [torch.nn.Parameter(p.detach().clone()) for p in parameters[-2:]]
    plain = torch.optim.AdamW(biases, lr=0.001, betas=(0.9, 0.99), weight_decay=0.05, fused=True)
    for step in range(3):
        set_gradients(parameters, step)
        for bias, mine in zip(biases, parameters[-2:], strict=True):
            bias.grad = mine.grad.clone()
        optimizer.step()
        plain.step()
    for mine, reference in zip(parameters[-2:], biases, strict=True):
        assert torch.equal(mine, reference)


@pytest.mark.parametrize("width", [64, 512])
def test_a_step_moves_a_layers_output_alike_whatever_the_width(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(4 * width, width))
    optimizer = Muon([{"params": [weight], "matrices": True, "weight_decay": 0.0}], lr=0.1)
    weight.grad = torch.randn(weight.shape, generator=generator)
    optimizer.step()
    inputs = torch.randn(1000, width, generator=generator)
    moved = (inputs @ weight.detach().T).square().mean().sqrt()
    assert float(moved) == pytest.approx(0.1, rel=0.15)


def test_a_step_to_leave_out_changes_neither_weights_nor_state() -> None:
    parameters, optimizer = build()
    set_gradients(parameters, 0)
    optimizer.step()
    weights = [p.detach().clone() for p in parameters]
    state = copy.deepcopy(optimizer.state_dict()["state"])
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, float("nan"))
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert all(torch.equal(p, w) for p, w in zip(parameters, weights, strict=True))
    for number, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            assert torch.equal(value, state[number][name]), name


def test_gradients_are_left_as_they_were() -> None:
    parameters, optimizer = build()
    set_gradients(parameters, 0)
    before = [parameter.grad for parameter in parameters]
    kept = [gradient.clone() for gradient in before]
    optimizer.step()
    assert all(p.grad is g for p, g in zip(parameters, before, strict=True))
    assert all(torch.equal(p.grad, g) for p, g in zip(parameters, kept, strict=True))


def test_matrices_of_one_shape_share_their_products() -> None:
    parameters, optimizer = build()
    set_gradients(parameters, 0)
    with CountProducts() as counted:
        optimizer.step()
    assert counted.calls == 3 * 15  # 3 shapes (up to transposition), 5 iterations of 3 products


def test_a_saved_state_goes_on() -> None:
    (first, one), (second, other) = build(), build()
    set_gradients(first, 0)
    one.step()
    with torch.no_grad():
        for mine, reference in zip(second, first, strict=True):
            mine.copy_(reference)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for parameters, optimizer in ((first, one), (second, other)):
        set_gradients(parameters, 2)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_stem_last_layers_and_tables_stay_with_adamw(tiny) -> None:
    model = prepare_run(tiny()).model
    hidden = hidden_matrices(model)
    assert "backbone.vit.blocks.0.attn.qkv.weight" in hidden
    assert not [name for name in hidden if "patch_embed" in name or "pos_embed" in name]
    assert not [name for name in hidden if name.endswith("final_layer.weight")]
    optimizer = build_optimizer(model, Optimizer(name="muon", lr=0.02))
    stepped = {id(p) for g in optimizer.param_groups if g["matrices"] for p in g["params"]}
    assert stepped == {id(p) for name, p in model.named_parameters() if name in hidden}


def test_only_the_first_convolution_of_a_stem_stays_with_adamw() -> None:
    stem = torch.nn.Module()
    stem.patch_embed = ConvStem((32, 32), 16, 32)
    model = torch.nn.ModuleDict({"vit": stem})
    names = [name for name, p in model.named_parameters() if p.ndim == 4]
    assert len(names) == 5
    assert hidden_matrices(model) == set(names[1:])
