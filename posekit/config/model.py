"""The typed settings of a backbone; no code of the model, so that recipes can hold them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from posekit.config.base import Strict

Attention = Literal["full", "window", "shifted", "pooled", "shifted_pooled"]

Side2 = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]


class ExpertConfig(Strict):
    """ViTPose+ experts: part of each block's second FFN layer is separate for each head.

    Attributes:
        width: outputs of fc2 that an expert makes; the other embed_dim - width are shared.
            None is a quarter of embed_dim, as in the released weights.
        share: head -> name of its expert; a head left out has its own, named like the head.
        names: all experts in order; those of the heads if left out. An expert without a head is
            kept for heads to come.
    """

    width: int | None = Field(None, gt=0)
    share: dict[str, str] = Field(default_factory=dict)
    names: tuple[str, ...] | None = None


class LoraConfig(Strict):
    """Low-rank adapters: the backbone stays as it is, small matrices beside it are trained.

    Attributes:
        rank: rank of the adapters.
        alpha: their output is scaled by alpha / rank.
        targets: which linear layers get one.
    """

    rank: int = Field(8, gt=0)
    alpha: float = Field(16.0, gt=0)
    targets: tuple[Literal["attention", "ffn"], ...] = ("attention", "ffn")


class FreezeConfig(Strict):
    """Which parts of a model are not trained; their batch norms and drop paths rest too.

    Attributes:
        backbone: the whole backbone.
        stem: patch embedding, position table and class or register tokens.
        blocks: this many blocks from the first.
        attention: attention and the norm before it, in every block.
        ffn: FFN and the norm before it, in every block. (ViTPose's own freeze_ffn also freezes
            the stem: set both for it.)
        heads: names of heads, or True for all.
        batch_norm: all batch norms keep their statistics; their weights still train.
        embedding: the embedding head of keypoint prototypes.
    """

    backbone: bool = False
    stem: bool = False
    blocks: int = Field(0, ge=0)
    attention: bool = False
    ffn: bool = False
    heads: bool | tuple[str, ...] = False
    batch_norm: bool = False
    embedding: bool = False


class Phase(Strict):
    """What rests from a time on, beside what is frozen for the whole run.

    Attributes:
        start: in the unit of the schedule's milestones: epochs if the run's length is in epochs,
            else steps. A phase ends where the next one starts.
        freeze: parts that rest in it.
    """

    start: float = Field(0.0, ge=0)
    freeze: FreezeConfig = FreezeConfig()


class BackboneConfig(Strict):
    """What the backbone is; sizes left out come with the name.

    Attributes:
        name: `vitpose_small|base|large|huge`, `vit` (free sizes, all to be given), or the name
            of any timm model with feature maps.
        embed_dim, depth, num_heads, mlp_ratio: sizes of a `vit`.
        patch_size: kernel of the patch embedding in pixels.
        patch_padding: zero padding around the image before the patch embedding, in pixels;
            ViTPose's own models have 2.
        feature_stride: pixels between neighbouring tokens (or, for other backbones, between the
            pixels of the feature map); the patch size if left out.
        input_size: height and width in pixels that the position table is made for; the first
            head's if left out. Other sizes are resized to while running.
        stem: `patch`, one convolution of the patch size, or `conv`, a stack of small stride-2
            convolutions, with which a ViT learns far better from few images
            (Xiao et al., NeurIPS 2021).
        pretrained: False, True (the weights that timm has for `name`), the name of a timm model
            to take the weights from, or a file.
        drop_path: stochastic depth rate of the last block; it rises linearly from 0.
        gradient_checkpointing: recompute each block in the backward pass to save memory.
        experts: ViTPose+ experts; none if left out.
        attention: kind of attention, one for all blocks or a pattern that is repeated over them.
            `window` alone never crosses a window's border, so alternate it with `shifted`, or
            let some blocks be `full`; `pooled` windows see one mean token of every window.
        window: height and width of attention windows in tokens.
        relative_bias: windows have a learned relative position bias (Swin's form, from zero).
        lora: train adapters instead of the backbone's own weights.
        knowledge_token: width of a knowledge token beside the image's tokens; a run with
            `distillation.token` sets it.
        mean, std: normalisation of RGB in 0..1; the pretrained weights' own, else ImageNet's.
    """

    name: str = "vitpose_small"
    embed_dim: int | None = Field(None, gt=0)
    depth: int | None = Field(None, gt=0)
    num_heads: int | None = Field(None, gt=0)
    mlp_ratio: float | None = Field(None, gt=0)
    patch_size: int | None = Field(None, gt=0)
    patch_padding: int | None = Field(None, ge=0)
    feature_stride: int | None = Field(None, gt=0)
    input_size: Side2 | None = None
    stem: Literal["patch", "conv"] = "patch"
    pretrained: bool | str = False
    drop_path: float = Field(0.0, ge=0, lt=1)
    gradient_checkpointing: bool = False
    experts: ExpertConfig | None = None
    attention: Attention | tuple[Attention, ...] = "full"
    window: Side2 = (8, 8)
    relative_bias: bool = False
    lora: LoraConfig | None = None
    knowledge_token: int | None = Field(None, gt=0)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
