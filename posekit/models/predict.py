"""The one road from crop to points: normalise, forward, flip test, decode, back to the image.

Evaluation, prediction and the gate of the export all call `predict_crops`, so that they cannot
disagree. Crops are cut by `posekit.warp`, which the runtime without torch shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from posekit.codecs.base import Codec
from posekit.models.pose_model import PoseModel
from posekit.warp import transform_points

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class CropPoints:
    """What one head finds in B crops, on the model's device.

    Attributes:
        points: float32 (B, K, 2) in crop pixels.
        scores: float32 (B, K).
        maps: float32 (B, C, H, W), what the points were decoded from.
    """

    points: Tensor
    scores: Tensor
    maps: Tensor

    def in_image(self, back: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the points in image pixels, float64 (B, K, 2), and float32 scores (B, K).

        Args:
            back: (B, 2, 3), crop to image, as from `posekit.warp.inverse_crop_matrices`.
        """
        return transform_points(self.points.cpu().numpy(), back), self.scores.cpu().numpy()


@torch.inference_mode()
def predict_crops(
    model: PoseModel,
    crops: np.ndarray | Tensor,
    heads: Sequence[str],
    *,
    codecs: Mapping[str, Codec] | None = None,
    flip_test: bool = False,
    precision: str = "fp32",
) -> dict[str, CropPoints]:
    """Predict the keypoints of a batch of crops.

    Args:
        model: in evaluation mode, on the device that computes.
        crops: uint8 (B, h, w, 3) RGB, cut for these heads' input size and warp.
        heads: names of heads that may share one backbone pass (without experts, or one head).
        codecs: head -> codec to decode with; the head's own if left out.
        flip_test: average with the maps of the mirrored crops.
        precision: arithmetic of the model, 'fp32', 'bf16' or 'fp16'; maps are decoded in float32.

    Returns:
        head -> what it finds.

    Cost: one forward pass, two with flip test.
    """
    chosen = {name: (codecs or {}).get(name) or model.head(name).codec for name in heads}
    images = model.normalise(torch.as_tensor(crops).to(model.mean.device, non_blocking=True))
    maps = _maps(model, images, chosen, precision)
    if flip_test:
        mirrored = _maps(model, images.flip(-1), chosen, precision)
        for name, codec in chosen.items():
            # a copy: torch warns about the read-only array of the schema
            flip_indices = np.array(model.head(name).schema.flip_indices)
            maps[name] = codec.average_flipped(maps[name], mirrored[name], flip_indices)
    return {
        name: CropPoints(*codec.decode(maps[name]), maps[name]) for name, codec in chosen.items()
    }


def _maps(
    model: PoseModel, images: Tensor, codecs: Mapping[str, Codec], precision: str
) -> dict[str, Tensor]:
    """Return each head's float32 maps for all rows of normalised images (B, 3, h, w)."""
    every_row = slice(0, len(images))
    half = _HALF.get(precision)
    with torch.autocast(images.device.type, dtype=half, enabled=half is not None):
        outputs = model(images, [(name, every_row) for name in codecs])
    return {name: codec.to_heatmap(outputs[name].float()) for name, codec in codecs.items()}
