"""One plug-in of each kind, for the contract tests and the tests of plug_ins."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from posekit.adapters import Instance, adapter
from posekit.adapters.files import require_file
from posekit.codecs import Codec
from posekit.config.base import Strict, validate
from posekit.evaluation.base import Scores, protocol_dict
from posekit.evaluation.points import join
from posekit.evaluation.protocol import Protocol
from posekit.evaluation.registry import Evaluator
from posekit.models.decoders import DecoderConfig
from posekit.training.point_loss import PointLoss

FILE = Path(__file__).resolve()
unmarked = print


def named(name: str) -> str:
    """Return what a card says to name a part of this file."""
    return f"{FILE}:{name}"


@adapter
def read(root, split, schema):
    """Read points from lines of JSON; null where one is not labelled."""
    validate(Strict, split.options, f"split '{split.name}', options")  # it has none
    file = require_file(root / split.annotations)
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        record = json.loads(line)
        points = np.array(record["points"], np.float32)  # null becomes NaN
        labelled = np.isfinite(points[:, 0])
        yield Instance(
            image=f"{split.images}/{record['image']}",
            image_id=number,
            instance_id=number,
            keypoints=np.where(labelled[:, None], points, 0),
            visibility=np.where(labelled, 2, 0).astype(np.uint8),
        )


class BumpSettings(Strict):
    """Settings of BumpCodec."""

    width: float = 1.5


class BumpCodec(Codec):
    """A plain Gaussian bump on a quarter-size map, read by its highest pixel."""

    settings = BumpSettings

    def __init__(self, config, input_size):
        self.config, self.input_size = config, tuple(input_size)
        self.heatmap_size = (input_size[0] // 4, input_size[1] // 4)

    def encode(self, points, weights):
        """Draw a bump at each labelled point."""
        rows, columns = self.heatmap_size
        weights = weights.float() * torch.isfinite(points).all(-1)
        x, y = (points.float().nan_to_num() / 4).unbind(-1)
        far = (torch.arange(columns, device=x.device) - x[..., None])[..., None, :].square()
        far = far + (torch.arange(rows, device=x.device) - y[..., None])[..., :, None].square()
        maps = torch.exp(far / (-2 * self.config.width**2))
        return maps * (weights > 0)[..., None, None], weights

    def decode(self, maps):
        """Return the highest pixel of each map."""
        self._check(maps)
        flat = maps.float().flatten(2)
        scores = flat.amax(-1)
        peak = flat.nan_to_num(-torch.inf).argmax(-1)
        points = torch.stack([peak % maps.shape[-1], peak // maps.shape[-1]], -1) * 4.0
        none = ~(scores > 0)
        points[none] = -4.0
        return points.float(), scores.nan_to_num(0.0)


class SmallDecoder(DecoderConfig):
    """Upsampling and one convolution."""

    kernel: int = 1

    def build(self, in_channels, out_channels, size, target):
        """Return the module."""
        return nn.Sequential(
            nn.Upsample(size=target, mode="bilinear"),
            nn.Conv2d(in_channels, out_channels, self.kernel, padding=self.kernel // 2),
        )


class HuberSettings(Strict):
    """Settings of HuberLoss."""

    delta: float = 0.1


class HuberLoss(PointLoss):
    """Huber's loss of each pixel, averaged over a keypoint's maps."""

    settings = HuberSettings
    activation = "none"

    def __init__(self, config):
        super().__init__()
        self.delta = config.delta

    def forward(self, codec, output, target, points):
        """Return (B, K)."""
        error = nn.functional.huber_loss(output.float(), target, reduction="none", delta=self.delta)
        return error.unflatten(1, (-1, codec.channels_per_keypoint)).mean((2, 3, 4))


class MedianProtocol(Protocol):
    """No further settings."""


def score_median(truth, predictions, schema, protocol):
    """Score by the median distance in pixels."""
    points = join(truth, predictions, schema, protocol)  # labelled instances of the subset
    distance = np.where(points.labelled, points.error_px, np.nan)
    return Scores(
        metrics={"median": float(np.nanmedian(distance)), "mean": float(np.nanmean(distance))},
        headline="median",
        per_keypoint={
            name: {"median": float(np.nanmedian(distance[:, k]))}
            for k, name in enumerate(schema.keypoints)
        },
        counts={"instances": len(points.rows)},
        protocol=protocol_dict(protocol, schema),
        lower_is_better=True,
    )


MEDIAN = Evaluator("median", MedianProtocol, score_median)
