"""Stems: from images to a grid of tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Stem(nn.Module):
    """Turns images into tokens; takes the place of timm's PatchEmbed.

    Args:
        projection: module (B, 3, h, w) -> (B, D, gh, gw).
        img_size: height and width that the position table is made for.
        patch_size: kernel size in pixels.
        stride: pixels between tokens.
        padding: zero padding on each side in pixels.
    """

    def __init__(
        self,
        projection: nn.Module,
        img_size: tuple[int, int],
        patch_size: int,
        stride: int,
        padding: int,
    ):
        super().__init__()
        self.proj = projection
        self.img_size = img_size
        self.patch_size = (patch_size, patch_size)
        self.stride, self.padding = stride, padding
        self.grid_size = self.grid_for(img_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]

    def grid_for(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Return the rows and columns of tokens for an image of (height, width) pixels."""
        reach = 2 * self.padding - self.patch_size[0]
        height, width = ((side + reach) // self.stride + 1 for side in img_size)
        return height, width

    def feat_ratio(self) -> int:
        """Return the pixels between neighbouring tokens (asked by timm)."""
        return self.stride

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens as a grid (B, gh, gw, D)."""
        return self.proj(images).permute(0, 2, 3, 1)


class PatchStem(Stem):
    """One convolution over (possibly padded, possibly overlapping) patches."""

    def __init__(
        self,
        img_size: tuple[int, int],
        patch_size: int,
        embed_dim: int,
        *,
        in_chans: int = 3,
        bias: bool = True,
        stride: int | None = None,
        padding: int = 0,
        **_: Any,
    ):
        stride = stride or patch_size
        projection = nn.Conv2d(
            in_chans, embed_dim, patch_size, stride=stride, padding=padding, bias=bias
        )
        super().__init__(projection, img_size, patch_size, stride, padding)


class ConvStem(Stem):
    """A stack of stride-2 3x3 convolutions down to the token grid, then a 1x1 convolution.

    The channels double from step to step up to embed_dim, so the high resolutions stay cheap.
    Group norm keeps every image independent of its batch, whatever heads and sizes are mixed.

    Source: Xiao et al., Early Convolutions Help Transformers See Better (NeurIPS 2021),
    section 4; the norm differs (theirs is batch norm).
    """

    def __init__(
        self,
        img_size: tuple[int, int],
        patch_size: int,
        embed_dim: int,
        in_chans: int = 3,
        stride: int | None = None,
        **_: Any,
    ):
        stride = stride or patch_size
        steps = stride.bit_length() - 1
        layers: list[nn.Module] = []
        channels = in_chans
        for step in range(steps):
            wanted = max(embed_dim >> (steps - 1 - step), 8)
            width = -(-wanted // 8) * 8
            layers += [
                nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False),
                nn.GroupNorm(1, width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        layers.append(nn.Conv2d(channels, embed_dim, 1))
        super().__init__(nn.Sequential(*layers), img_size, stride, stride, 0)
