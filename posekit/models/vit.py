"""Plain vision transformers: timm's, ViTPose's form of them, and their block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from posekit.models.attention import WindowAttention
from posekit.models.base import Backbone
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


class PoseViT(VisionTransformer):
    """ViTPose's ViT: no class token, but the class row of the position table stays.

    That row is added to every patch token. It is zero in MAE's fixed table and trained afterwards,
    so dropping it would change the published models.
    """

    def __init__(self, **settings: Any):
        super().__init__(
            class_token=False, global_pool="", num_classes=0, dynamic_img_size=True, **settings
        )
        rows = 1 + self.patch_embed.num_patches
        self.pos_embed = nn.Parameter(torch.empty(1, rows, self.embed_dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.zeros_(self.pos_embed[:, :1])

    def _pos_embed(self, grid: Tensor) -> Tensor:
        batch, height, width, _ = grid.shape
        assert self.pos_embed is not None  # noqa: S101 - narrows timm's optional
        table = resize_positions(self.pos_embed, self.patch_embed.grid_size, (height, width))
        tokens = grid.reshape(batch, height * width, -1)
        return self.pos_drop(tokens + (table[:, 1:] + table[:, :1]))


def resize_positions(
    table: Tensor, old: Sequence[int], new: Sequence[int], prefix: int = 1
) -> Tensor:
    """Resize a position table (1, prefix + h*w, D) to another grid (rows, columns).

    The prefix rows (class token's, registers') stay. Bicubic, align_corners False, without
    antialiasing, as ViTPose does.
    """
    if tuple(old) == tuple(new):
        return table
    return resample_abs_pos_embed(
        table,
        list(new),
        list(old),
        num_prefix_tokens=prefix,
        antialias=False,
        align_corners=False,
    )


class KnowledgeToken(nn.Module):
    """One token that is joined to the image's; see posekit.models.knowledge.

    Args:
        width: the token's own width; where it is not the backbone's, a linear layer maps it.
        embed_dim: the backbone's width.
    """

    def __init__(self, width: int, embed_dim: int):
        super().__init__()
        self.token = nn.Parameter(torch.empty(1, 1, width))
        self.map = nn.Identity() if width == embed_dim else nn.Linear(width, embed_dim)
        nn.init.trunc_normal_(self.token, std=0.02)

    def forward(self) -> Tensor:
        """Return (1, 1, D)."""
        return self.map(self.token)


class ViTBackbone(Backbone):
    """A plain ViT whose output is a feature map.

    Args:
        vit: any timm VisionTransformer whose blocks are PoseBlocks and whose stem returns a grid
            (B, gh, gw, D).
        experts: names of the experts in channel order of the blocks; empty without experts.
        gradient_checkpointing: recompute the blocks in the backward pass.

    Attributes:
        channels: width D of the feature map.
        stride: image pixels between neighbouring pixels of the map.
        knowledge: the knowledge token, if there is one.
    """

    knowledge: KnowledgeToken | None

    def __init__(
        self,
        vit: VisionTransformer,
        experts: Sequence[str] = (),
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        self.vit = vit
        self.knowledge = None
        self.experts = tuple(experts)
        self.gradient_checkpointing = gradient_checkpointing
        self.channels: int = vit.embed_dim
        self.stride: int = vit.patch_embed.feat_ratio()
        self.num_layers = len(vit.blocks)

    def map_size(self, input_size: tuple[int, int]) -> tuple[int, int]:
        """Return the (height, width) of the feature map for an input size."""
        stem = self.vit.patch_embed
        if hasattr(stem, "grid_for"):
            return stem.grid_for(input_size)
        return stem.dynamic_feat_size(input_size)

    def layer_of(self, name: str) -> int:
        """Return a parameter's layer for layer-wise decay: 0 stem, n + 1 block n, else last."""
        parts = name.split(".")
        if parts[1] == "blocks":
            return int(parts[2]) + 1
        stem = ("pos_embed", "patch_embed", "cls_token", "reg_token", "norm_pre", "mask_token")
        return 0 if parts[1] in stem else self.num_layers + 1

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return tokens (B, P + gh*gw, D) with positions, P prefix tokens first, and (gh, gw)."""
        grid = self.vit.patch_embed(images)
        size = (grid.shape[1], grid.shape[2])
        tokens = self.vit.norm_pre(self.vit.patch_drop(self.vit._pos_embed(grid)))
        return tokens, size

    def encode(
        self, tokens: Tensor, grid: tuple[int, int] | None = None, routes: Routes | None = None
    ) -> Tensor:
        """Run all blocks and the last norm on tokens (B, T, D).

        Args:
            tokens: any number of tokens before and after the grid's.
            grid: rows and columns of the grid; only window attention needs it.
            routes: which rows go to which expert; only experts need it.
        """
        recompute = self.gradient_checkpointing and torch.is_grad_enabled() and self.training
        for block in self.vit.blocks:
            if recompute:
                tokens = checkpoint(block, tokens, grid, routes, use_reentrant=False)
            else:
                tokens = block(tokens, grid, routes)
        return self.vit.norm(tokens)

    def forward(
        self, images: Tensor, routes: Routes | None = None, extra: Tensor | None = None
    ) -> Tensor:
        """Return the feature map.

        Args:
            images: float32 (B, 3, h, w), normalised.
            routes: (expert, start, stop) for runs of rows that together cover the batch; needed
                if there are experts.
            extra: further tokens (1 or B, T, D) that take part in attention and are then dropped;
                by default the knowledge token, if there is one.

        Returns:
            (B, D, gh, gw).
        """
        tokens, (height, width) = self.embed(images)
        if extra is None and self.knowledge is not None:
            extra = self.knowledge()
        if extra is not None:
            tokens = torch.cat([tokens, extra.expand(tokens.shape[0], -1, -1).to(tokens.dtype)], 1)
        tokens = self.encode(tokens, (height, width), routes)
        first = self.vit.num_prefix_tokens
        tokens = tokens[:, first : first + height * width]
        return tokens.transpose(1, 2).unflatten(2, (height, width))
