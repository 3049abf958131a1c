"""Schemas and specs for the tests of posekit.inference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from posekit.inference.export_graph import ExportGraph, describe_export
from posekit.inference.predictor import Predictor
from posekit.models import HeadSpec
from posekit.schema import KeypointSchema

BACKBONE = {"name": "vit", "embed_dim": 24, "depth": 1, "num_heads": 2}
SCHEMA_A = KeypointSchema(
    "a",
    ("nose", "left_hand", "right_hand"),
    flip_pairs=(("left_hand", "right_hand"),),
    skeleton=(("nose", "left_hand"), ("nose", "right_hand")),
)
SCHEMA_B = KeypointSchema(
    "b",
    ("left_hand", "right_hand", "tail", "neck"),
    flip_pairs=(("left_hand", "right_hand"),),
    skeleton=(("neck", "left_hand"), ("neck", "tail")),
)


def head(schema: KeypointSchema, kind: str = "udp", size: tuple[int, int] = (64, 48)) -> HeadSpec:
    decoder = kind if kind in {"simcc", "regression"} else "simple"
    return HeadSpec(schema, {"kind": decoder}, {"kind": kind}, size)


class EagerSession:
    """An exported graph that was never written: has the form of `runtime_files.Session`."""

    def __init__(self, predictor: Predictor, heads: Sequence[str], *, decode: bool = True):
        self.graph = ExportGraph(predictor.model, heads, decode=decode).eval()
        about = describe_export(predictor, heads, decode=decode, precision="fp32")
        self.about: dict[str, Any] = json.loads(json.dumps(about))

    def run(self, names: Sequence[str], crops: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            outputs = self.graph(torch.from_numpy(crops))
        by_name = dict(zip(self.about["outputs"], outputs, strict=True))
        return [by_name[name].numpy() for name in names]
