"""GroupedMuon beside timm's own Muon, which steps one matrix after the other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from timm.optim import Muon
from torch.utils._python_dispatch import TorchDispatchMode

from posekit.training import muon
from posekit.training.muon import GroupedMuon

_SHAPES = [(24, 16), (16, 24), (24, 16), (16, 16), (12, 8, 3, 3), (12, 8, 3, 3), (16, 24)]


class CountProducts(TorchDispatchMode):
    """Counts calls of matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += any(word in str(func) for word in ("addmm", "baddbmm", ".mm", ".bmm"))
        return func(*args, **(kwargs or {}))


def build(kind: type[Muon]) -> tuple[list[torch.nn.Parameter], Muon]:
    generator = torch.Generator().manual_seed(3)
    matrices = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in _SHAPES]
    biases = [torch.nn.Parameter(torch.randn(5, generator=generator)) for _ in range(2)]
    groups = [
        {"params": matrices, "lr": 0.02, "weight_decay": 0.05},
        {"params": biases, "lr": 0.001, "weight_decay": 0.05, "use_fallback": True},
    ]
    return matrices + biases, kind(groups, lr=0.02, momentum=0.9, betas=(0.9, 0.99))


def set_gradients(parameters: list[torch.nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for number, parameter in enumerate(parameters):
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = None if (step, number) == (1, 3) else gradient


@pytest.mark.parametrize("most", [1 << 24, 500])
def test_steps_are_those_of_timm_however_long_the_stacks(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muon, "_MOST_STACKED", most)
    (ours, grouped), (theirs, plain) = build(GroupedMuon), build(Muon)
    for step in range(3):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        grouped.step()
        plain.step()
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-3, atol=1e-4)


def test_gradients_are_left_as_they_were() -> None:
    parameters, optimizer = build(GroupedMuon)
    set_gradients(parameters, 0)
    before = [parameter.grad for parameter in parameters]
    optimizer.step()
    assert all(p.grad is g for p, g in zip(parameters, before, strict=True))


def test_matrices_of_one_shape_share_their_products() -> None:
    calls = {}
    for kind in (Muon, GroupedMuon):
        parameters, optimizer = build(kind)
        set_gradients(parameters, 0)
        with CountProducts() as counted:
            optimizer.step()
        calls[kind] = counted.calls
    # 7 matrices of 3 shapes (up to transposition), 5 iterations of 3 products
    assert calls == {Muon: 7 * 15, GroupedMuon: 3 * 15}


def test_a_state_of_timm_goes_on_here() -> None:
    (ours, grouped), (theirs, plain) = build(GroupedMuon), build(Muon)
    set_gradients(theirs, 0)
    plain.step()
    with torch.no_grad():
        for mine, reference in zip(ours, theirs, strict=True):
            mine.copy_(reference)
    grouped.load_state_dict(copy.deepcopy(plain.state_dict()))
    set_gradients(ours, 2)
    set_gradients(theirs, 2)
    grouped.step()
    plain.step()
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-3, atol=1e-4)
