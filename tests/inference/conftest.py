"""Tiny models and pictures for the tests of posekit.inference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from inference_helpers import BACKBONE, SCHEMA_A, SCHEMA_B, head

from posekit.models import HeadSpec, PoseModel, build_model


@pytest.fixture
def make_model() -> Callable[..., PoseModel]:
    def make(heads: dict[str, HeadSpec] | None = None, **backbone: object) -> PoseModel:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            heads = heads or {"a": head(SCHEMA_A), "b": head(SCHEMA_B)}
            return build_model({**BACKBONE, **backbone}, heads).eval()

    return make


@pytest.fixture
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.kron(small, np.ones((10, 10, 1), dtype=np.uint8))


@pytest.fixture
def photo(tmp_path: Path, picture: np.ndarray) -> Path:

    file = tmp_path / "photo.png"
    cv2.imwrite(str(file), picture[..., ::-1])
    return file
