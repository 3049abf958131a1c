"""Several heads' answers about the same instances as one pose on the union of their skeletons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from posekit.poses.table import Poses
from posekit.schema import KeypointSchema

TOLERANCE = 0.05


def union_schema(schemas: Sequence[KeypointSchema]) -> KeypointSchema:
    """Return the schema with every keypoint name of the schemas once, in order of appearance.

    Keypoints are one and the same if they have the same name. A flip pair that contradicts an
    earlier schema's is left out, as are sigmas, which are measured for one dataset.
    """
    names = dict.fromkeys(name for schema in schemas for name in schema.keypoints)
    links = dict.fromkeys(link for schema in schemas for link in schema.skeleton)
    kept = [link for link in links if (link[1], link[0]) not in links or link[0] < link[1]]
    pairs: list[tuple[str, str]] = []
    paired: set[str] = set()
    for pair in (pair for schema in schemas for pair in schema.flip_pairs):
        if not paired & set(pair):
            pairs.append(pair)
            paired.update(pair)
    upper = dict.fromkeys(name for schema in schemas for name in schema.upper_body)
    return KeypointSchema(
        "+".join(schema.name for schema in schemas),
        tuple(names),
        flip_pairs=tuple(pairs),
        skeleton=tuple(kept),
        upper_body=tuple(upper),
    )


def fuse(poses: Mapping[str, Poses], tolerance: float = TOLERANCE) -> Poses:
    """Join heads' poses of the same instances by keypoint name.

    A keypoint of several heads stands at their mean, weighted by score. Its score is the weighted
    mean of the heads' scores (each weighted by itself) times exp(-(d / t)^2 / 2), where d is the
    weighted root mean square distance of the heads from that mean and t is `tolerance` times the
    box's long side: heads that contradict each other make an unsure keypoint. A keypoint that only
    one head has stays as it is. Negative scores count as 0.

    Args:
        poses: head -> poses, all of the same N instances.
        tolerance: the disagreement that lowers the score to 61 %, in long sides of the box.

    Returns:
        Poses on `union_schema`, with the heads' names joined by '+'.
    """
    parts = list(poses.values())
    schema = union_schema([part.schema for part in parts])
    shape = (len(parts), len(parts[0]), len(schema))
    points = np.zeros((*shape, 2))
    scores = np.zeros(shape)
    has = np.zeros((shape[0], 1, shape[2]), dtype=bool)
    for i, part in enumerate(parts):
        columns = [schema.index(name) for name in part.schema.keypoints]
        points[i][:, columns] = part.keypoints
        scores[i][:, columns] = np.maximum(part.scores, 0)
        has[i, :, columns] = True
    weight = np.where(has, scores + 1e-12, 0.0)
    share = weight / weight.sum(axis=0)
    mean = (share[..., None] * points).sum(axis=0)
    spread = (share * ((points - mean) ** 2).sum(axis=-1)).sum(axis=0)
    allowed = tolerance * np.maximum(parts[0].box_xywh[:, 2:].max(axis=1, initial=0), 1e-6)
    agreement = np.exp(-0.5 * spread / allowed[:, None] ** 2)
    return replace(
        parts[0],
        head="+".join(poses),
        schema=schema,
        keypoints=mean,
        scores=((share * scores).sum(axis=0) * agreement).astype(np.float32),
    )
