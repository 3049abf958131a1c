"""A masked autoencoder around the backbone of a pose model.

Source: He et al., MAE (CVPR 2022); facebookresearch/mae, `models_mae.py`. Different here: the
encoder is the pose model's own backbone, so it has a class token only if that has one, and the
images' normalisation is the backbone's; images may have any size; hidden patches are blanked before
the stem, so that stems whose windows overlap see nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from timm.layers import LayerNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from posekit.config.model import BackboneConfig
from posekit.config.transfer import PretrainingConfig
from posekit.errors import ConfigError
from posekit.models.backbone import build_backbone, normalisation
from posekit.models.pose_model import ModelDescription, normalise_images, per_channel
from posekit.models.pretrained import load_pretrained
from posekit.models.stems import ConvStem
from posekit.models.vit import ViTBackbone

Grid = tuple[int, int]


class MaskedAutoencoder(nn.Module):
    """Predicts the hidden patches of an image from a few shown ones.

    Args:
        backbone: a plain ViT with full attention and without experts.
        config: mask and decoder.
        mean, std: normalisation of RGB in 0..1.
        backbone_config: the backbone's settings as plain values, for the checkpoint.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: ViTBackbone,
        config: PretrainingConfig,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        backbone_config: dict[str, Any],
    ):
        super().__init__()
        self.backbone, self.config = backbone, config
        self.backbone_config = backbone_config
        self.patch: int = backbone.stride
        width = config.decoder_width
        norm: Any = partial(LayerNorm, eps=1e-6)
        self.decoder_embed = nn.Linear(backbone.channels, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.decoder_blocks = nn.Sequential(
            *(
                Block(width, config.decoder_heads, qkv_bias=True, norm_layer=norm)
                for _ in range(config.decoder_depth)
            )
        )
        self.decoder_norm = norm(width)
        self.decoder_pred = nn.Linear(width, self.patch**2 * 3)
        self.register_buffer("mean", per_channel(mean), persistent=False)
        self.register_buffer("std", per_channel(std), persistent=False)
        nn.init.normal_(self.mask_token, std=0.02)
        for part in (self.decoder_embed, self.decoder_blocks, self.decoder_pred):
            part.apply(_xavier)

    def describe(self) -> ModelDescription:
        """Return what builds the backbone again; there are no heads."""
        return ModelDescription(self.backbone_config)

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Return the layer of a parameter's name for timm's layer-wise decay (timm's interface)."""
        return self.backbone.layer_in_model

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 RGB images into float ones; see `PoseModel.normalise`."""
        return normalise_images(images, self.mean, self.std)

    def hidden_count(self, input_size: tuple[int, int]) -> int:
        """Return the number of patches of an image of (height, width) that are hidden."""
        tokens = (input_size[0] // self.patch) * (input_size[1] // self.patch)
        return tokens - max(1, int(tokens * (1 - self.config.mask)))

    def forward(self, images: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the squared error of each patch, and which patches were hidden.

        Args:
            images: float (B, 3, h, w), normalised; sides are multiples of the patch.
            noise: float (B, N), the patches of least noise are shown; drawn from torch's generator
                if left out.

        Returns:
            float32 (B, N), the mean over a patch's pixels, and bool (B, N), True where hidden.
        """
        grid = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        if noise is None:
            noise = torch.rand(len(images), grid[0] * grid[1], device=images.device)
        count = noise.shape[1] - self.hidden_count((images.shape[2], images.shape[3]))
        shown = noise.argsort(1)[:, :count]
        hidden = torch.ones_like(noise, dtype=torch.bool).scatter(1, shown, False)
        predicted = self.decode(self.encode(images, shown, hidden, grid), shown, grid)
        with torch.autocast(images.device.type, enabled=False):
            target = patchify(images.float(), self.patch)
            if self.config.normalise_pixels:
                target = normalise_patches(target)
            return (predicted.float() - target).square().mean(-1), hidden

    def encode(self, images: Tensor, shown: Tensor, hidden: Tensor, grid: Grid) -> Tensor:
        """Return (B, P + n, D), the encoder's prefix tokens and its n shown ones, normed."""
        blank = hidden.reshape(-1, 1, *grid)
        blank = blank.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        tokens, _ = self.backbone.embed(images.masked_fill(blank, 0.0))
        first = self.backbone.vit.num_prefix_tokens
        picked = tokens[:, first:].gather(1, _wide(shown, tokens.shape[-1]))
        return self.backbone.encode(torch.cat([tokens[:, :first], picked], dim=1))

    def decode(self, encoded: Tensor, shown: Tensor, grid: Grid) -> Tensor:
        """Return (B, N, patch * patch * 3), the decoder's prediction of every patch."""
        tokens = self.decoder_embed(encoded)
        first, width = self.backbone.vit.num_prefix_tokens, tokens.shape[-1]
        whole = self.mask_token.to(tokens.dtype).expand(len(tokens), grid[0] * grid[1], width)
        whole = whole.scatter(1, _wide(shown, width), tokens[:, first:])
        positions = sine_positions(width, grid).to(tokens)
        joined = torch.cat([tokens[:, :first], whole + positions], dim=1)
        return self.decoder_pred(self.decoder_norm(self.decoder_blocks(joined)))[:, first:]


def build_masked_autoencoder(
    config: BackboneConfig, sizes: Sequence[tuple[int, int]], pretraining: PretrainingConfig
) -> MaskedAutoencoder:
    """Build the autoencoder around the backbone that a recipe describes.

    Starting from nothing, linear layers and the patch kernel are xavier uniform, and the position
    table is MAE's fixed sine table, whose class row is zero. From `pretrained` weights, these are
    kept and the table trains.

    Args:
        config: the backbone.
        sizes: (height, width) of the crops; the table is made for the backbone's input_size, by
            default the first, and resized for the others, as the pose model does.
        pretraining: mask and decoder.

    Raises:
        ConfigError: a backbone that cannot be trained so, or a size that patches do not fill.
    """
    _check_can_be_masked(config)
    base = config.input_size or sizes[0]
    backbone = build_backbone(config.model_copy(update={"drop_path": 0.0}), base)
    if not isinstance(backbone, ViTBackbone):
        raise ConfigError(f"pretraining: backbone '{config.name}' is no plain ViT")
    for height, width in (base, *sizes):
        rows, columns = backbone.map_size((height, width))
        if (rows * backbone.stride, columns * backbone.stride) != (height, width):
            raise ConfigError(
                f"pretraining: crops of {height}x{width} (h x w) are not filled by patches of "
                f"{backbone.stride} pixels; choose multiples of it"
            )
    if isinstance(config.pretrained, str):
        load_pretrained(backbone, config.pretrained)
    elif not config.pretrained:
        _start(backbone)
    mean, std = normalisation(config)
    plain = {**config.model_dump(mode="json"), "mean": list(mean), "std": list(std)}
    plain["input_size"] = list(base)
    return MaskedAutoencoder(backbone, pretraining, mean=mean, std=std, backbone_config=plain)


def patchify(images: Tensor, patch: int) -> Tensor:
    """Cut images (B, 3, h, w) into (B, N, patch * patch * 3): row, column, channel in a patch."""
    batch, channels, height, width = images.shape
    cut = images.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def normalise_patches(patches: Tensor) -> Tensor:
    """Subtract each patch's mean and divide by its standard deviation (unbiased)."""
    mean, var = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    return (patches - mean) / (var + 1e-6).sqrt()


def sine_positions(width: int, grid: Grid) -> Tensor:
    """Return MAE's fixed position table (rows * columns, width).

    Half of the channels encode the column and half the row, each as sines and then cosines of
    width / 4 frequencies between 1 and 1 / 10000.

    Source: facebookresearch/mae, `util/pos_embed.py`.
    """
    quarter = width // 4
    frequencies = 10000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    parts = []
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in grid), indexing="ij")
    for place in (columns, rows):
        angles = place.flatten()[:, None] * frequencies
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=1).float()


def _start(backbone: ViTBackbone) -> None:
    vit: Any = backbone.vit
    vit.blocks.apply(_xavier)
    stem = vit.patch_embed
    if not isinstance(stem, ConvStem):
        nn.init.xavier_uniform_(stem.proj.weight.view(vit.embed_dim, -1))
        nn.init.zeros_(stem.proj.bias)
    positions = sine_positions(vit.embed_dim, stem.grid_size)
    with torch.no_grad():
        vit.pos_embed.zero_()
        vit.pos_embed[0, vit.pos_embed.shape[1] - len(positions) :] = positions
    vit.pos_embed.requires_grad_(False)


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def _check_can_be_masked(config: BackboneConfig) -> None:
    not_masked = {
        "experts": config.experts is not None,
        "lora": config.lora is not None,
        "knowledge_token": config.knowledge_token is not None,
        "attention": config.attention != "full",
    }
    found = [key for key, is_set in not_masked.items() if is_set]
    if found:
        raise ConfigError(
            f"pretraining: backbone.{', backbone.'.join(found)} belong(s) to the pose run that "
            "starts from the result; leave out here"
        )


def _wide(index: Tensor, width: int) -> Tensor:
    return index[..., None].expand(-1, -1, width)
