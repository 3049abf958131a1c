"""Keypoint prototypes: an embedding of every pixel, and a few unit vectors for each keypoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from posekit.config.prototypes import PrototypeConfig
from posekit.models.batch_norm import SharedBatchNorm2d
from posekit.models.decoders.base import init_convolutions
from posekit.models.decoders.heatmap import transposed_layers

_FLOOR = 1e-4


class PrototypeSpace(nn.Module):
    """An embedding head beside the keypoint heads, and the prototypes of all their keypoints.

    Prototypes are buffers: no gradient reaches them, training moves them by `update`. They may be
    left out of a finished model; the heads do not need them.

    Args:
        config: sizes.
        in_channels: channels of the backbone's map.
        keypoints: head -> K.

    Source: PoseBH (arXiv 2505.17475), layers of its kpt_proto_head.py.
    """

    def __init__(self, config: PrototypeConfig, in_channels: int, keypoints: Mapping[str, int]):
        super().__init__()
        self.config = config
        self.embed = EmbeddingHead(in_channels, config)
        shape = (config.per_keypoint, config.width)
        self.vectors = nn.ModuleDict(
            {head: _Vectors(count, *shape) for head, count in keypoints.items()}
        )

    def embedding(self, features: Tensor) -> Tensor:
        """Return float32 unit vectors (B, width, H, W) for a backbone's map (B, D, h, w)."""
        embedded = self.embed(features)
        with torch.autocast(features.device.type, enabled=False):
            return normalize(embedded.float(), dim=1)

    def of(self, head: str) -> Tensor:
        """Return a head's prototypes: float32 unit vectors (K, M, width), without gradient."""
        return normalize(self._stored(head).float(), dim=-1)

    def maps(self, embedded: Tensor, head: str) -> Tensor:
        """Return a head's heatmaps by its prototypes.

        Args:
            embedded: float32 (B, width, H, W), from `embedding`.
            head: the head.

        Returns:
            float32 (B, K, H, W): the largest |cosine| to a keypoint's prototypes, cut to
            [1e-4, 1 - 1e-4]. By the absolute value a vector and its opposite are the same.
        """
        with torch.autocast(embedded.device.type, enabled=False):
            cosine = torch.einsum("bdhw,kmd->bkmhw", embedded, self.of(head))
            return cosine.abs().amax(2).clamp(_FLOOR, 1 - _FLOOR)

    @torch.no_grad()
    def update(self, head: str, moved: Tensor, momentum: float) -> None:
        """Move a head's prototypes towards the mean direction of their pixels.

        Args:
            head: the head.
            moved: float32 (K, M, width), weighted sums of unit vectors; zero where a prototype has
                no pixel, and stays.
            momentum: share of the old prototype.
        """
        old = self.of(head)
        new = normalize(momentum * old + (1 - momentum) * normalize(moved, dim=-1), dim=-1)
        has_pixels = moved.square().sum(-1, keepdim=True) > 0
        self._stored(head).copy_(torch.where(has_pixels, new, old))

    def _stored(self, head: str) -> Tensor:
        found = self.vectors[head]
        assert isinstance(found, _Vectors)  # noqa: S101 - narrows ModuleDict's value
        return found.unit


class EmbeddingHead(nn.Module):
    """Transposed convolutions, a residual block, and convolutions to the embedding."""

    def __init__(self, in_channels: int, config: PrototypeConfig):
        super().__init__()
        width = config.width
        widths = (config.channels,) * config.layers
        self.deconv_layers = nn.Sequential(
            *transposed_layers(in_channels, widths, SharedBatchNorm2d)
        )
        self.residual = _Residual(widths[-1] if widths else in_channels, width)
        self.final_layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            SharedBatchNorm2d(width),
            nn.SiLU(inplace=True),
            nn.Conv2d(width, width, 1),
        )
        init_convolutions(self)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, width, H, W), not yet of unit length, for features (B, D, h, w)."""
        return self.final_layers(self.residual(self.deconv_layers(features)))


class _Residual(nn.Module):
    def __init__(self, in_channels: int, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            SharedBatchNorm2d(width),
            nn.SiLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            SharedBatchNorm2d(width),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, width, 1, bias=False), SharedBatchNorm2d(width)
        )

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.silu(self.layers(features) + self.shortcut(features))


class _Vectors(nn.Module):
    """A head's prototypes, kept as a buffer."""

    unit: Tensor

    def __init__(self, count: int, per_keypoint: int, width: int):
        super().__init__()
        start = torch.empty(count, per_keypoint, width)
        nn.init.trunc_normal_(start, std=0.02)
        self.register_buffer("unit", normalize(start, dim=-1))
