"""ViTPose+ experts: the FFN's second layer split into a shared part and one part per expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.layers import Mlp
from torch import Tensor, nn

Routes = tuple[tuple[int, int, int], ...]
"""(expert, start, stop) for runs of rows; together they cover the batch in order."""


class ExpertMlp(Mlp):
    """An FFN whose last `width` outputs come from an expert of the row's own.

    The shared outputs stand first, the expert's last. Each expert computes only its own rows;
    the reference implementation computes all experts on all rows and masks.

    Args:
        num_experts: how many experts there are.
        width: outputs that an expert makes.

    Source: ViTPose+ (Xu et al., arXiv 2212.04246); split of fc2 as in the released weights.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        num_experts: int,
        width: int,
        **settings: Any,
    ):
        super().__init__(in_features, hidden_features, in_features - width, **settings)
        placed = {key: settings[key] for key in ("device", "dtype") if key in settings}
        self.experts = nn.ModuleList(
            nn.Linear(hidden_features, width, **placed) for _ in range(num_experts)
        )

    def forward(self, tokens: Tensor, routes: Routes | None = None) -> Tensor:
        """Return (B, T, D) for tokens (B, T, D).

        Raises:
            ValueError: no routes, or routes that do not cover the rows in order.
        """
        check_routes(routes, tokens.shape[0])  # len() would fix an exported batch size
        hidden = self.norm(self.drop1(self.act(self.fc1(tokens))))
        own = [self.experts[expert](hidden[start:stop]) for expert, start, stop in routes or ()]
        own_rows = own[0] if len(own) == 1 else torch.cat(own)
        return self.drop2(torch.cat([self.fc2(hidden), own_rows], dim=-1))


def check_routes(routes: Routes | None, rows: int) -> None:
    """Raise ValueError unless the routes cover rows 0..rows in order without gaps."""
    if not routes:
        raise ValueError("this backbone has experts: say which rows belong to which head")
    edge = 0
    for _, start, stop in routes:
        if start != edge or stop < start:
            raise ValueError(f"expert rows {start}:{stop} do not follow row {edge}")
        edge = stop
    if edge != rows:
        raise ValueError(f"expert rows end at {edge}, the batch has {rows} rows")


def expert_names(heads: Sequence[str], share: Mapping[str, str]) -> tuple[str, ...]:
    """Return the experts of some heads in order of first use; a head's own is named like it."""
    return tuple(dict.fromkeys(share.get(head, head) for head in heads))
