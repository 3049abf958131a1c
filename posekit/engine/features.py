"""The feature cache of a run: the frozen backbone's maps of every head's training crops."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator

from posekit.config.recipe import FeatureCache, Recipe
from posekit.data.crops import CropSource
from posekit.data.feature_store import BlankFeatures, FeatureSource, open_features
from posekit.models import PoseModel
from posekit.models.processes import first_goes_ahead
from posekit.training.events import Listener, Silent

_AT_ONCE = 64
_DTYPES = {"fp16": "float16", "fp32": "float32"}


def cached_features(
    recipe: Recipe,
    model: PoseModel,
    data: Mapping[str, CropSource],
    accelerator: Accelerator,
    listener: Listener,
) -> dict[str, FeatureSource]:
    """Open each head's feature cache; the first process makes those that there are not.

    Args:
        recipe: with `data.features`.
        model: its backbone is frozen; it is moved to the accelerator's device.
        data: head -> what its crops are made from.
        accelerator: device and arithmetic.
        listener: is told how far the cache is.

    Raises:
        PosekitError: a cache cannot be written, or the disk is too full.
    """
    config = _config(recipe)
    model.to(accelerator.device).train()  # frozen parts rest in evaluation mode
    base = _hash_of(model, accelerator, recipe.training.precision)
    found: dict[str, FeatureSource] = {}
    tell = listener if accelerator.is_main_process else Silent()
    with first_goes_ahead("features"):
        for name, head in data.items():
            expert = model.expert_of.get(name, -1)
            found[name] = open_features(
                head,
                partial(_maps, model, name, accelerator),
                _shape(model, head),
                f"{base} expert {expert}",
                views=config.views,
                seed=recipe.training.seed,
                dtype=_DTYPES[config.precision],
                workers=recipe.data.workers,
                progress=partial(tell.prepared, f"features of '{name}'"),
            )
    return found


def blank_features(
    recipe: Recipe,
    model: PoseModel,
    data: Mapping[str, CropSource],
    accelerator: Accelerator,
    listener: Listener,
) -> dict[str, FeatureSource]:
    """Return zeros in the place of each head's maps, for a plan; arguments as `cached_features`."""
    config = _config(recipe)
    dtype = _DTYPES[config.precision]
    return {
        name: BlankFeatures(config.views, _shape(model, head), dtype) for name, head in data.items()
    }


def _config(recipe: Recipe) -> FeatureCache:
    return recipe.data.features or FeatureCache()


def _shape(model: PoseModel, head: CropSource) -> tuple[int, int, int]:
    return (model.backbone.channels, *model.backbone.map_size(head.input_size))


@torch.no_grad()
def _maps(model: PoseModel, head: str, accelerator: Accelerator, crops: np.ndarray) -> np.ndarray:
    parts = []
    for start in range(0, len(crops), _AT_ONCE):
        images = torch.from_numpy(crops[start : start + _AT_ONCE]).to(accelerator.device)
        with accelerator.autocast():
            maps = model.features(model.normalise(images), [(head, slice(0, len(images)))])
        parts.append(maps.float().cpu().numpy())
    return np.concatenate(parts)


def _hash_of(model: PoseModel, accelerator: Accelerator, precision: str) -> str:
    """Return a text for the backbone's weights, settings and arithmetic."""
    settings = [model.backbone_config, precision, accelerator.device.type]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    digest.update(model.mean.cpu().numpy().tobytes() + model.std.cpu().numpy().tobytes())
    for name, tensor in sorted(model.backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
