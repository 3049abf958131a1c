"""Experts compute their own rows only, and equal the masked computation of the reference."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from posekit.errors import ConfigError
from posekit.models.experts import ExpertMlp


def masked_everything(mlp: ExpertMlp, tokens: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """Every expert on every row, zeros where the row is another's; then the sum."""
    hidden = nn.functional.gelu(mlp.fc1(tokens))
    total = 0
    for number, expert in enumerate(mlp.experts):
        mine = torch.tensor([row == number for row in rows], dtype=tokens.dtype)
        total = total + expert(hidden) * mine[:, None, None]
    return torch.cat([mlp.fc2(hidden), total], dim=-1)


def test_grouped_experts_equal_the_masked_loop_with_gradients():
    torch.manual_seed(0)
    mlp = ExpertMlp(8, 16, num_experts=3, width=2).double()
    tokens = torch.randn(5, 4, 8, dtype=torch.float64, requires_grad=True)
    probe = torch.randn(5, 4, 8, dtype=torch.float64)
    inputs = [tokens, *mlp.parameters()]
    grouped = mlp(tokens, ((2, 0, 2), (0, 2, 3), (2, 3, 5)))
    masked = masked_everything(mlp, tokens, [2, 2, 0, 2, 2])
    torch.testing.assert_close(grouped, masked, rtol=0, atol=1e-12)
    ours = torch.autograd.grad((grouped * probe).sum(), inputs, allow_unused=True)
    theirs = torch.autograd.grad((masked * probe).sum(), inputs)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            torch.zeros_like(other) if mine is None else mine, other, rtol=0, atol=1e-12
        )


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        (None, "say which rows belong to which head"),
        (((0, 0, 2), (1, 3, 5)), "rows 3:5 do not follow row 2"),
        (((0, 0, 4),), "end at 4, the batch has 5 rows"),
    ],
)
def test_rows_without_an_expert_are_refused(routes, message):
    mlp = ExpertMlp(8, 16, num_experts=2, width=2)
    with pytest.raises(ValueError, match=message):
        mlp(torch.zeros(5, 4, 8), routes)


def test_heads_may_share_an_expert(make_model, make_spec):
    heads = {name: make_spec(2) for name in ("a", "b", "c")}
    model = make_model(heads, experts={"share": {"c": "a"}})
    assert model.backbone.experts == ("a", "b")
    assert model.expert_of == {"a": 0, "b": 1, "c": 0}


def test_wrong_expert_settings_are_named(make_model, make_spec):
    with pytest.raises(ConfigError, match=r"experts\.share names the head 'x'"):
        make_model(experts={"share": {"x": "body"}})
    with pytest.raises(ConfigError, match=r"experts\.names has no 'body'"):
        make_model(experts={"names": ["other"]})
    with pytest.raises(ConfigError, match=r"experts\.width is 48, expected less than"):
        make_model(experts={"width": 48})
    with pytest.raises(ConfigError, match=r"unknown key 'experts\.widht'; did you mean 'width'"):
        make_model(experts={"widht": 4})
