"""What each training crop looks like: parameters drawn from a counter-based generator.

A draw depends on (seed, dataset, epoch, row) and on nothing else, so neither the number of
workers nor where a run was resumed changes it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from posekit.config.augmentation import AugmentationConfig
from posekit.schema import KeypointSchema

_SHIFT, _EACH_EPOCH, _ZOOM = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where one crop lies: float64 (2,) centre and (2,) size (width, height) in the image, padding
    included, the angle in degrees, and whether the crop is mirrored."""

    center: np.ndarray
    size: np.ndarray
    rotation_deg: float = 0.0
    flipped: bool = False


@dataclass(frozen=True, slots=True)
class PixelChange:
    """How one crop's pixels change.

    Attributes:
        brightness, contrast, saturation: factors, 1 for no change; saturation 0 is grey.
        erase: (x, y, width, height) as shares of the crop's sides, or None.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    erase: tuple[float, float, float, float] | None = None

    @property
    def changes_colour(self) -> bool:
        """True if any factor is not 1."""
        return (self.brightness, self.contrast, self.saturation) != (1.0, 1.0, 1.0)


def stream_key(seed: int, dataset: str) -> int:
    """Return 64 bits that stand for a run's seed and a dataset's name."""
    digest = hashlib.blake2b(f"{seed}/{dataset}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class KeyedDraws:
    """The random numbers of any sample of one dataset.

    Args:
        seed: the run's seed.
        dataset: name of the dataset and split.
    """

    def __init__(self, seed: int, dataset: str):
        self._key = stream_key(seed, dataset)
        self._philox = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._philox)
        self._state: Any = self._philox.state

    def at(self, epoch: int, row: int, stream: int = _EACH_EPOCH) -> np.random.Generator:
        """Return the generator of one sample's draws; it serves until the next call of `at`.

        One Philox generator is set to key (seed and dataset, epoch) and counter (stream, row),
        which costs a quarter of making a new one.
        """
        state = self._state["state"]
        state["key"][:] = self._key, epoch
        state["counter"][:] = 0, stream, row, 0
        self._state["buffer_pos"] = 4
        self._state["has_uint32"] = 0
        self._philox.state = self._state
        return self._generator


def draw_geometry(
    config: AugmentationConfig,
    schema: KeypointSchema,
    box: Geometry,
    keypoints: np.ndarray,
    visibility: np.ndarray,
    *,
    box_size: np.ndarray,
    aspect: float,
    has_own_center: bool,
    draws: KeyedDraws,
    epoch: int,
    row: int,
) -> tuple[Geometry, PixelChange]:
    """Draw how a training crop differs from the exact one.

    The order of ViTPose's pipeline: shift (part of its data base), flip, half body, scale and
    rotation; last of all the zoom. Every draw is made whatever the earlier ones gave, so that
    switching one setting off leaves the others' draws alone.

    Args:
        config: the settings.
        schema: for the upper body.
        box: the exact crop.
        keypoints: (K, 2), image pixels.
        visibility: (K,).
        box_size: (2,), (width, height) of the unpadded box.
        aspect: width / height of the network's input.
        has_own_center: True if the annotation brings its own centre.
        draws: the dataset's random numbers.
        epoch, row: which of them.

    Returns:
        the crop's geometry and what happens to its pixels.
    """
    center, size = box.center, box.size
    if config.shift_probability and not (config.shift_once and has_own_center):
        random = draws.at(0 if config.shift_once else epoch, row, _SHIFT)
        center = center + _shift(config, box_size, random)
    random = draws.at(epoch, row)
    chances = random.random(8)
    if chances[1] < config.half_body:
        chosen = choose_half(config, schema, visibility, chances[2] < config.half_body_upper)
        if chosen is not None:
            center, size = half_body_crop(keypoints[chosen], aspect, config.half_body_padding)
    factor = 1 + _draw(random, config.scale, config.scale_draw, 1)
    angle = _draw(random, config.rotation, config.rotation_draw, 2)
    turned = angle if chances[3] < config.rotation_probability else 0.0
    pixels = _draw_pixels(config, random, chances)
    center, size = _zoom(config, center, size * factor, draws.at(epoch, row, _ZOOM))
    return Geometry(center, size, turned, bool(chances[0] < config.flip)), pixels


def choose_half(
    config: AugmentationConfig, schema: KeypointSchema, visibility: np.ndarray, prefer_upper: bool
) -> np.ndarray | None:
    """Choose the keypoints of a half-body crop.

    Returns:
        indices of the labelled keypoints of the upper or the lower body ("lower" is all that is not
        upper), or None if too few are labelled for either.

    Source: mmpose 0.x `TopDownHalfBodyTransform`.
    """
    labelled = visibility > 0
    if not schema.upper_body or labelled.sum() < config.half_body_labelled:
        return None
    upper = np.flatnonzero(labelled & schema.is_upper_body)
    lower = np.flatnonzero(labelled & ~schema.is_upper_body)
    take_upper = len(lower) <= 2 or (prefer_upper and len(upper) > 2)
    chosen = upper if take_upper else lower
    return chosen if len(chosen) >= 2 else None


def half_body_crop(
    points: np.ndarray, aspect: float, padding: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return centre and padded size of the crop around some keypoints: their mean, their extent."""
    points = np.asarray(points, dtype=np.float64)
    width, height = points.max(axis=0) - points.min(axis=0)
    width, height = max(width, height * aspect, 1.0), max(height, width / aspect, 1.0)
    return points.mean(axis=0), np.array([width, height]) * padding


def _shift(
    config: AugmentationConfig, box_size: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    if random.random() >= config.shift_probability:
        return np.zeros(2)
    return box_size * [_draw(random, config.shift, config.shift_draw, 1) for _ in range(2)]


def _zoom(
    config: AugmentationConfig, center: np.ndarray, size: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return centre and size of a random part of an (unturned) crop."""
    if config.zoom is None:
        return center, size
    share = random.uniform(*config.zoom)
    ratio = np.exp(random.uniform(-1, 1) * np.log(config.zoom_aspect))
    part = size * np.minimum(np.sqrt([share * ratio, share / ratio]), 1.0)
    return center + random.uniform(-0.5, 0.5, 2) * (size - part), part


def _draw(random: np.random.Generator, size: float, kind: str, clip: float) -> float:
    """Draw a number of the given size; a normal one is clipped at `clip` times the size."""
    if kind == "uniform":
        return size * random.uniform(-1, 1)
    value = random.standard_normal()
    if kind == "normal":
        return size * min(max(value, -clip), clip)
    while abs(value) > 1:
        value = random.standard_normal()
    return size * value


def _draw_pixels(
    config: AugmentationConfig, random: np.random.Generator, chances: np.ndarray
) -> PixelChange:
    factors = 1 + random.uniform(-1, 1, 3) * (config.brightness, config.contrast, config.saturation)
    erase = None
    if chances[5] < config.erase:
        share, log_ratio = random.uniform(*config.erase_area), random.uniform(-1, 1)
        width = min(np.sqrt(share * np.exp(log_ratio)), 1.0)
        height = min(share / width, 1.0)
        x, y = random.random(2) * (1 - width, 1 - height)
        erase = (float(x), float(y), float(width), float(height))
    saturation = 0.0 if chances[4] < config.grey else float(factors[2])
    return PixelChange(float(factors[0]), float(factors[1]), saturation, erase)
