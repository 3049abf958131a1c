"""The transformer block: timm's, with experts told which rows are theirs."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import Block
from torch import Tensor

from posekit.models.attention import WindowAttention
from posekit.models.experts import ExpertMlp, Routes


class PoseBlock(Block):
    """timm's pre-norm block whose attention may be windowed and whose FFN may have experts."""

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **settings)
        self.window: WindowAttention | None = None

    def forward(  # type: ignore[override]
        self, tokens: Tensor, grid: tuple[int, int] | None = None, routes: Routes | None = None
    ) -> Tensor:
        """Return tokens (B, T, D) for tokens (B, T, D); see ViTBackbone.encode."""
        normed = self.norm1(tokens)
        attended = (
            self.attn(normed) if self.window is None else self.window(self.attn, normed, grid)
        )
        tokens = tokens + self.drop_path1(self.ls1(attended))
        normed = self.norm2(tokens)
        mixed = self.mlp(normed, routes) if isinstance(self.mlp, ExpertMlp) else self.mlp(normed)
        return tokens + self.drop_path2(self.ls2(mixed))
