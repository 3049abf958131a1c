"""Tiny models for the tests of posekit.models."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from posekit.models import HeadSpec, PoseModel, build_model
from posekit.schema import KeypointSchema

TINY = {"name": "vit", "embed_dim": 48, "depth": 3, "num_heads": 4, "patch_padding": 2}


def schema(count: int, name: str = "points") -> KeypointSchema:
    return KeypointSchema(name, tuple(f"point_{i}" for i in range(count)))


def spec(
    count: int = 5, kind: str = "simple", size: tuple[int, int] = (64, 48), **decoder: object
) -> HeadSpec:
    if kind == "classic":
        decoder = {"channels": 24, **decoder}
    return HeadSpec(schema(count), {"kind": kind, **decoder}, {"kind": "msra"}, size)


@pytest.fixture
def make_spec() -> Callable[..., HeadSpec]:
    return spec


@pytest.fixture
def make_model() -> Callable[..., PoseModel]:
    def make(heads: dict[str, HeadSpec] | None = None, **backbone: object) -> PoseModel:
        return build_model({**TINY, **backbone}, heads or {"body": spec()})

    return make
