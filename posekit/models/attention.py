"""Window attention: runs a block's ordinary attention inside windows of the token grid."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

Grid = tuple[int, int]


class WindowAttention(nn.Module):
    """Lets tokens attend within windows, with timm's attention layer and its weights unchanged.

    Windows larger than the grid are cut to it; a grid that windows do not divide is padded on the
    right and at the bottom, and no token attends to padding. Tokens outside the grid (class token,
    registers, a knowledge token) go into every window; what the windows make of them is averaged.

    Args:
        window: height and width of a window in tokens.
        shifted: move the grid by half a window first, so that neighbours across borders meet.
        pooled: every window also sees one context token for each window, its mean. No parameters.
        relative_bias: add a learned bias for each offset between two tokens of a window.
        num_heads: attention heads.
        prefix: tokens in front of the grid's.

    Source: Liu et al., Swin (ICCV 2021) for shift and bias; ViTPose, section 3.3, for the pooled
    windows. Not stated there, chosen here: the context tokens are means before the projection
    (which is affine, so means of keys and values), of the same shifted windows, never masked, and
    without bias.
    """

    def __init__(
        self,
        window: Grid,
        *,
        shifted: bool = False,
        pooled: bool = False,
        relative_bias: bool = False,
        num_heads: int = 1,
        prefix: int = 0,
    ):
        super().__init__()
        self.window, self.shifted, self.pooled, self.prefix = window, shifted, pooled, prefix
        offsets = (2 * window[0] - 1) * (2 * window[1] - 1)
        self.relative_bias = (
            nn.Parameter(torch.zeros(offsets, num_heads)) if relative_bias else None
        )

    def forward(self, attn: nn.Module, tokens: Tensor, grid: Grid | None) -> Tensor:
        """Return what `attn` makes of tokens (B, T, D) of a grid of (rows, columns).

        Raises:
            ValueError: the grid is not told.
        """
        if grid is None:
            raise ValueError("window attention needs the grid's rows and columns")
        count = grid[0] * grid[1]
        inside = tokens[:, self.prefix : self.prefix + count]
        outside = torch.cat([tokens[:, : self.prefix], tokens[:, self.prefix + count :]], dim=1)
        window, shift = self._fit(grid)
        sequence = _to_windows(inside.unflatten(1, grid), window, shift)
        batch, windows, area, _ = sequence.shape
        parts = [sequence]
        if self.pooled:
            parts.append(self._context(sequence, grid, window, shift))
        if outside.shape[1]:
            parts.append(outside[:, None].expand(-1, windows, -1, -1))
        joined = torch.cat(parts, dim=2).flatten(0, 1)
        mask = self._mask(grid, window, shift, joined)
        if mask is not None:
            mask = mask.repeat(batch, 1, 1, 1)
        mixed = attn(joined, attn_mask=mask).unflatten(0, (batch, windows))
        result = _from_windows(mixed[:, :, :area], grid, window, shift).flatten(1, 2)
        if not outside.shape[1]:
            return result
        others = mixed[:, :, -outside.shape[1] :].mean(1)
        return torch.cat([others[:, : self.prefix], result, others[:, self.prefix :]], dim=1)

    def pairs(self, grid: Grid) -> int:
        """Count the pairs of tokens that attend to each other in a grid of (rows, columns)."""
        window, _ = self._fit(grid)
        rows, columns = _padded(grid, window)
        windows = rows * columns // (window[0] * window[1])
        length = window[0] * window[1] + self.prefix + (windows if self.pooled else 0)
        return windows * length**2

    def _fit(self, grid: Grid) -> tuple[Grid, Grid]:
        height, width = min(self.window[0], grid[0]), min(self.window[1], grid[1])
        if not self.shifted:
            return (height, width), (0, 0)
        shift = (
            height // 2 if height < grid[0] else 0,
            width // 2 if width < grid[1] else 0,
        )
        return (height, width), shift

    def _context(self, sequence: Tensor, grid: Grid, window: Grid, shift: Grid) -> Tensor:
        real = _real_tokens(grid, window, shift).to(sequence.device)[..., None]
        means = (sequence * real).sum(2) / real.sum(1)
        return means[:, None].expand(-1, sequence.shape[1], -1, -1)

    def _mask(self, grid: Grid, window: Grid, shift: Grid, joined: Tensor) -> Tensor | None:
        """Return what is added to the logits (windows, 1 or heads, L, L), or None if nothing is."""
        allowed = _allowed_pairs(grid, window, shift)
        if allowed.all() and self.relative_bias is None:
            return None
        allowed = allowed.to(joined.device)
        bias = torch.zeros(allowed.shape, device=joined.device, dtype=joined.dtype)
        bias = bias.masked_fill(~allowed, float("-inf"))[:, None]
        if self.relative_bias is not None:
            numbers = _offset_numbers(window, self.window).to(joined.device)
            bias = bias + self.relative_bias[numbers].permute(2, 0, 1).to(joined.dtype)
        # Context and outside tokens stand behind the window's own; nothing masks or biases them.
        extra = joined.shape[1] - bias.shape[-1]
        return nn.functional.pad(bias, (0, extra, 0, extra))


def _padded(grid: Grid, window: Grid) -> Grid:
    return -(-grid[0] // window[0]) * window[0], -(-grid[1] // window[1]) * window[1]


def _to_windows(grid_tokens: Tensor, window: Grid, shift: Grid) -> Tensor:
    """Return (B, windows, area, D) for tokens (B, h, w, D)."""
    batch, height, width, depth = grid_tokens.shape
    rows, columns = _padded((height, width), window)
    if (rows, columns) != (height, width):
        grid_tokens = nn.functional.pad(grid_tokens, (0, 0, 0, columns - width, 0, rows - height))
    if any(shift):
        grid_tokens = grid_tokens.roll((-shift[0], -shift[1]), dims=(1, 2))
    split = grid_tokens.reshape(
        batch, rows // window[0], window[0], columns // window[1], window[1], depth
    )
    return split.permute(0, 1, 3, 2, 4, 5).reshape(batch, -1, window[0] * window[1], depth)


def _from_windows(windows: Tensor, grid: Grid, window: Grid, shift: Grid) -> Tensor:
    """Return tokens (B, h, w, D) back for windows (B, windows, area, D)."""
    batch, _, _, depth = windows.shape
    rows, columns = _padded(grid, window)
    split = windows.reshape(
        batch, rows // window[0], columns // window[1], window[0], window[1], depth
    )
    tokens = split.permute(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, depth)
    if any(shift):
        tokens = tokens.roll(shift, dims=(1, 2))
    return tokens[:, : grid[0], : grid[1]]


@lru_cache(maxsize=64)
def _real_tokens(grid: Grid, window: Grid, shift: Grid) -> Tensor:
    """Return bool (windows, area): False where a token is padding."""
    return _to_windows(torch.ones(1, *grid, 1), window, shift)[0, :, :, 0] > 0


@lru_cache(maxsize=64)
def _allowed_pairs(grid: Grid, window: Grid, shift: Grid) -> Tensor:
    """Return bool (windows, area, area): which token (row) may attend to which (column).

    Not to padding, and not across the edge that a shift wraps around. A token may always attend
    to itself, so that no row is empty.
    """
    rows, columns = _padded(grid, window)
    region_rows = (torch.arange(rows) >= shift[0]).long()
    region_columns = (torch.arange(columns) >= shift[1]).long()
    regions = (region_rows[:, None] * 2 + region_columns[None])[None, ..., None].float()
    region = _to_windows(regions, window, shift)[0, :, :, 0]
    same = region[:, :, None] == region[:, None, :]
    real = _real_tokens(grid, window, shift)
    itself = torch.eye(region.shape[1], dtype=torch.bool)
    return (same & real[:, None, :]) | itself


@lru_cache(maxsize=64)
def _offset_numbers(window: Grid, full: Grid) -> Tensor:
    """Return int64 (area, area): row of the bias table for each pair (query, key) of a window."""
    rows, columns = torch.meshgrid(torch.arange(window[0]), torch.arange(window[1]), indexing="ij")
    down = rows.flatten()[:, None] - rows.flatten()[None] + full[0] - 1
    right = columns.flatten()[:, None] - columns.flatten()[None] + full[1] - 1
    return down * (2 * full[1] - 1) + right
