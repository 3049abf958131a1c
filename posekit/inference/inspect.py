"""What a model sees: heatmaps of keypoints, and attention from where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from posekit.data.any_image import load_image
from posekit.drawing import contact_sheet, draw_poses, overlay_heatmap
from posekit.drawing.picture_files import write_picture
from posekit.errors import PredictionError
from posekit.inference.predictor import Predictor
from posekit.models.predict import predict_crops
from posekit.warp import check_boxes, cut_boxes

_TILE = 220


@dataclass(frozen=True)
class Insight:
    """One instance's crop and what lies behind its pose.

    Attributes:
        crop: uint8 (h, w, 3) RGB.
        points_crop: (K, 2) in crop pixels; scores: (K,).
        heatmaps: float32 (K, H, W), or None for codecs without maps (SimCC).
        attention: float32 (K, gh, gw): how much the token at each keypoint attends to the others,
            the mean of the attention heads, adding up to 1 (less if there are tokens besides).
        box_xywh: the box of the crop in the image.
    """

    crop: np.ndarray
    points_crop: np.ndarray
    scores: np.ndarray
    heatmaps: np.ndarray | None
    attention: np.ndarray
    box_xywh: np.ndarray


def inspect(
    predictor: Predictor,
    image: Any,
    box: Any = None,
    *,
    head: str | None = None,
    block: int = -1,
) -> Insight:
    """Look into one prediction.

    Args:
        predictor: the model.
        image: as in `Predictor.predict`.
        box: x, y, width, height; the whole image if left out.
        head: name of the head; None if there is one only.
        block: whose attention; -1 is the last block.

    Raises:
        PredictionError: an unknown head or block, or a backbone whose attention cannot be shown.
    """
    (name,) = predictor.choose(head)[:1]
    loaded = load_image(image, "image", predictor.max_pixels)
    boxes = check_boxes(box, loaded.size, loaded.name)
    part, rule = predictor.model.head(name), predictor.boxes[name]
    crops, _ = cut_boxes(
        [loaded.pixels],
        boxes[:1],
        part.input_size,
        rule.padding,
        rule.keep_aspect,
        part.codec.warp,
        part.spec.pixels,
    )
    with torch.inference_mode():
        with _Watch(_attention_of(predictor, block)) as watch:
            found = predict_crops(predictor.model, crops, [name])[name]
        grid = predictor.model.backbone.map_size(part.input_size)
        vit: Any = predictor.model.backbone.vit
        prefix = int(vit.num_prefix_tokens)
        attention = watch.attention(grid, prefix, found.points[0], part.input_size)
    heat = found.maps[0, :: part.codec.channels_per_keypoint].float().cpu().numpy()
    return Insight(
        crop=crops[0],
        points_crop=found.points[0].cpu().numpy(),
        scores=found.scores[0].cpu().numpy(),
        heatmaps=heat if heat.shape[1] > 1 else None,
        attention=attention,
        box_xywh=boxes[0],
    )


def write_look(
    file: str | Path,
    predictor: Predictor,
    image: Any,
    box: Any = None,
    *,
    head: str | None = None,
    keypoints: Sequence[str] | None = None,
    block: int = -1,
) -> Path:
    """Write a picture: the pose, then each keypoint's heatmap and attention over the crop.

    Args:
        file: picture to write (.jpg or .png).
        predictor, image, box, head, block: as in `inspect`.
        keypoints: names; all if left out.

    Raises:
        ConfigError: an unknown keypoint.
        PredictionError: as `inspect`.
        PosekitError: the file cannot be written.
    """
    seen = inspect(predictor, image, box, head=head, block=block)
    (name,) = predictor.choose(head)[:1]
    schema = predictor.model.head(name).schema
    chosen = [schema.index(k, "keypoints") for k in keypoints or schema.keypoints]
    scale = _TILE / max(seen.crop.shape[:2])
    height, width = (round(side * scale) for side in seen.crop.shape[:2])
    base = cv2.resize(seen.crop, (width, height), interpolation=cv2.INTER_CUBIC)
    points = (seen.points_crop + 0.5) * scale - 0.5
    tiles, captions = [draw_poses(base, points, schema, scores=seen.scores)], ["pose"]
    for k in chosen:
        for title, values in (("heatmap", seen.heatmaps), ("attention", seen.attention)):
            if values is not None:
                tile = overlay_heatmap(base, values[k])
                one = np.full_like(points, np.nan)
                one[k] = points[k]
                tiles.append(draw_poses(tile, one, schema))
                captions.append(f"{schema.keypoints[k]} {seen.scores[k]:.2f}, {title}")
    title = f"{name}: warm is where the head (heatmap) or its token (attention) looks"
    sheet = contact_sheet(tiles, 6, captions, title)
    return write_picture(file, sheet)


def _attention_of(predictor: Predictor, block: int) -> nn.Module:
    blocks = getattr(getattr(predictor.model.backbone, "vit", None), "blocks", None)
    if blocks is None:
        raise PredictionError(
            "this backbone is no plain ViT, so there is no attention between its tokens to show"
        )
    if not -len(blocks) <= block < len(blocks):
        raise PredictionError(f"block {block}: the backbone has {len(blocks)} blocks, from 0")
    chosen = blocks[block]
    if getattr(chosen, "window", None) is not None:
        raise PredictionError(
            f"block {block}: its attention is inside windows; choose a block with full attention"
        )
    return chosen.attn


class _Watch:
    """Keeps what goes into an attention layer."""

    def __init__(self, layer: nn.Module):
        self._layer: Any = layer
        self._tokens: Tensor | None = None

    def __enter__(self) -> _Watch:
        def keep(_layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            self._tokens = arguments[0]

        self._hook = self._layer.register_forward_pre_hook(keep)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def attention(
        self, grid: tuple[int, int], prefix: int, points: Tensor, input_size: tuple[int, int]
    ) -> np.ndarray:
        """Return (K, gh, gw) for points (K, 2) in crop pixels; `prefix` tokens come first."""
        tokens, layer = self._tokens, self._layer
        if tokens is None:
            raise PredictionError("the backbone did not run the block that was to be shown")
        batch, count, _ = tokens.shape
        q, k, _v = layer.qkv(tokens).reshape(batch, count, 3, layer.num_heads, -1).unbind(2)
        q, k = layer.q_norm(q)[0].transpose(0, 1), layer.k_norm(k)[0].transpose(0, 1)
        share = ((q * layer.scale) @ k.transpose(-2, -1)).softmax(-1).mean(0)
        rows, columns = grid
        x = (points[:, 0] * columns / input_size[1]).long().clamp(0, columns - 1)
        y = (points[:, 1] * rows / input_size[0]).long().clamp(0, rows - 1)
        own = share[prefix + y * columns + x, prefix : prefix + rows * columns]
        return own.reshape(len(points), rows, columns).float().cpu().numpy()
