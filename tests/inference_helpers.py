"""Schemas and specs for the tests of posekit.inference."""

from __future__ import annotations

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
    return HeadSpec(schema, {"kind": "simple"}, {"kind": kind}, size)
