"""From one schema's keypoints to another's: by name, by other words for it, or nearly.

Two keypoints are the same point if their names (or the `meanings` that a card declares) are equal
once spelling is set aside, synonyms if they are different words for one point, and near if they lie
close together but are not the same: what is learnt or scored across a near pair is off by the
distance between them, so mapping leaves near pairs out unless asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from posekit.errors import ConfigError
from posekit.schema import KeypointSchema, split_side

Relation = Literal["same", "synonym", "near", "missing"]

# One set a line: different words for one point, without its side.
SYNONYMS: tuple[frozenset[str], ...] = tuple(
    frozenset(line.split())
    for line in (
        "head_top top_head top_of_head",
        "tail_base root_of_tail tailbase base_of_tail",
        "ear_base earbase",
        "ear_tip earend ear_end",
        "mid_hip hip_center hip_middle mid_pelvis",
        "pelvis root",
        "hand_root hand_wrist",
        "front_paw f_paw fore_paw fore_foot front_foot",
        "back_paw b_paw hind_paw hind_foot back_foot",
        "front_knee f_knee fore_knee",
        "back_knee b_knee hind_knee",
        "front_elbow f_elbow fore_elbow",
        "back_elbow b_elbow hind_elbow",
        "snout muzzle",
        "chin jaw_tip",
    )
)

# Pairs that lie close together and are not the same point, without their side.
NEAR: tuple[frozenset[str], ...] = tuple(
    frozenset(line.split())
    for line in (
        "hip hip_joint",
        "nose snout",
        "neck upper_neck",
        "neck thorax",
        "neck neck_base",
        "neck bottom_head",
        "upper_neck bottom_head",
        "thorax neck_base",
        "head head_top",
        "pelvis mid_hip",
        "wrist hand_root",
        "ankle foot",
        "ear ear_base",
        "tail tail_base",
        "spine belly",
        "throat neck",
        "upper_jaw nose",
    )
)

# A group of synonyms goes by one of its words; near words are near whatever they are called.
_GROUPS = {word: min(group) for group in SYNONYMS for word in group}
_NEAR_GROUPS: dict[str, list[str]] = {}
for _pair in NEAR:
    for _word in _pair:
        (_other,) = _pair - {_word}
        _NEAR_GROUPS.setdefault(_GROUPS.get(_word, _word), []).append(_GROUPS.get(_other, _other))

_FINGERS = {"forefinger": "index", "index_finger": "index", "middle_finger": "middle"}
_FINGERS |= {"ring_finger": "ring", "pinky_finger": "pinky", "little_finger": "pinky"}


@dataclass(frozen=True)
class SchemaMap:
    """Which keypoint of `source` stands for each of `target`'s.

    Attributes:
        source: the schema that points come in.
        target: the schema that they are wanted in.
        indices: int64 (K target,): channel of the source, -1 where there is none.
        relations: K target relations; 'missing' goes with -1.
    """

    source: KeypointSchema
    target: KeypointSchema
    indices: np.ndarray
    relations: tuple[Relation, ...]

    def apply(self, points: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take points into the target schema.

        Args:
            points: (..., K source, 2) coordinates, of any dtype.
            codes: (..., K source) visibility or scores.

        Returns:
            the same of the target's K; zeros where the source has no such point.

        Raises:
            ValueError: the arrays do not have the source's number of keypoints.
        """
        if points.shape[-2] != len(self.source) or codes.shape[-1] != len(self.source):
            raise ValueError(
                f"found points {points.shape} and codes {codes.shape}, expected "
                f"{len(self.source)} keypoints of schema '{self.source.name}'"
            )
        known = self.indices >= 0
        taken = np.where(known, self.indices, 0)
        return (
            np.where(known[:, None], points[..., taken, :], 0).astype(points.dtype),
            np.where(known, codes[..., taken], 0).astype(codes.dtype),
        )


@dataclass(frozen=True)
class SchemaDiff:
    """How two schemas relate: pairs (name in a, name in b) by relation, and what is left over.

    Attributes:
        same: one point; names may differ in spelling.
        synonyms: one point under different words.
        near: points close together that are not the same.
        only_a, only_b: keypoints without any counterpart.
        flip_conflicts: keypoints of `a` whose mirror image has a counterpart in `b` that is not
            the mirror image there; a sign of wrong flip pairs in one of them.
    """

    same: tuple[tuple[str, str], ...]
    synonyms: tuple[tuple[str, str], ...]
    near: tuple[tuple[str, str], ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    flip_conflicts: tuple[str, ...]


def map_schema(
    source: KeypointSchema,
    target: KeypointSchema,
    *,
    allow_near: bool = False,
    by_hand: Mapping[str, str] | None = None,
) -> SchemaMap:
    """Find for every keypoint of `target` the one of `source` that stands for it.

    No keypoint of the source stands for two; the same point goes before a synonym, and a synonym
    before a near one. Costs a millisecond or so.

    Args:
        source: the schema that points come in.
        target: the schema that they are wanted in.
        allow_near: also use points that are near but not the same.
        by_hand: target keypoint -> source keypoint, before anything else; counts as a synonym.

    Raises:
        ConfigError: `by_hand` names an unknown keypoint, or one source keypoint twice.
    """
    indices = np.full(len(target), -1, dtype=np.int64)
    relations: list[Relation] = ["missing"] * len(target)
    for wanted, given in (by_hand or {}).items():
        channel = source.index(given, "a mapping by hand")
        if channel in indices:
            raise ConfigError(f"a mapping by hand names '{given}' for two keypoints")
        place = target.index(wanted, "a mapping by hand")
        indices[place], relations[place] = channel, "synonym"
    theirs = [_point(target, keypoint) for keypoint in target.keypoints]
    ours = [_point(source, keypoint) for keypoint in source.keypoints]
    for relation, keys in _KEYS.items():
        if relation == "near" and not allow_near:
            break
        free: dict[tuple[str, str], list[int]] = {}
        used = set(indices.tolist())
        for channel, point in enumerate(ours):
            if channel not in used:
                for key in keys(point)[:1]:
                    free.setdefault(key, []).append(channel)
        for place, point in enumerate(theirs):
            fits = [free[key] for key in keys(point)[relation == "near" :] if free.get(key)]
            if indices[place] < 0 and fits:
                indices[place], relations[place] = fits[0].pop(0), relation
    indices.setflags(write=False)
    return SchemaMap(source, target, indices, tuple(relations))


def diff_schemas(a: KeypointSchema, b: KeypointSchema) -> SchemaDiff:
    """Describe how the keypoints of two schemas relate."""
    found = map_schema(a, b, allow_near=True)
    pairs: dict[str, list[tuple[str, str]]] = {"same": [], "synonym": [], "near": []}
    partner: dict[int, int] = {}
    for place, (channel, relation) in enumerate(zip(found.indices, found.relations, strict=True)):
        if relation != "missing":
            pairs[relation].append((a.keypoints[channel], b.keypoints[place]))
            partner[int(channel)] = place
    conflicts = tuple(
        a.keypoints[channel]
        for channel, place in partner.items()
        if (mirror := partner.get(int(a.flip_indices[channel]))) is not None
        and mirror != b.flip_indices[place]
    )
    return SchemaDiff(
        tuple(pairs["same"]),
        tuple(pairs["synonym"]),
        tuple(pairs["near"]),
        tuple(name for i, name in enumerate(a.keypoints) if i not in partner),
        tuple(b.keypoints[i] for i, r in enumerate(found.relations) if r == "missing"),
        conflicts,
    )


def union_schema(
    schemas: Sequence[KeypointSchema], name: str = "union", *, allow_near: bool = False
) -> KeypointSchema:
    """Return the schema that has every point of several schemas once, in order of appearance.

    Points keep the name of the first schema that has them; flip pairs and skeletons are joined.
    Where two different points share a name, the later one is called by its meaning, or with its
    schema's name in front. Sigmas are
    left out: those of different datasets do not go together.

    Raises:
        ConfigError: no schema is given, two different points would get one name, or the schemas'
            flip pairs contradict one another.
    """
    if not schemas:
        raise ConfigError("a union needs at least one schema")
    union = _bare(schemas[0], name)
    for schema in schemas[1:]:
        union = _joined(union, schema, allow_near)
    return union


def _bare(schema: KeypointSchema, name: str) -> KeypointSchema:
    return KeypointSchema(
        name,
        schema.keypoints,
        schema.flip_pairs,
        schema.skeleton,
        upper_body=schema.upper_body,
        meanings=schema.meanings,
    )


def _joined(union: KeypointSchema, schema: KeypointSchema, allow_near: bool) -> KeypointSchema:
    found = map_schema(union, schema, allow_near=allow_near)
    meanings = dict(union.meanings)
    theirs = dict(schema.meanings)
    names: dict[str, str] = {}
    for keypoint, channel in zip(schema.keypoints, found.indices, strict=True):
        if channel >= 0:
            names[keypoint] = union.keypoints[channel]
            continue
        taken = keypoint in union.keypoints
        names[keypoint] = theirs.get(keypoint, f"{schema.name}_{keypoint}") if taken else keypoint
        meaning = theirs.get(keypoint, keypoint)
        if names[keypoint] != meaning:
            meanings[names[keypoint]] = meaning
    new = [names[k] for k, c in zip(schema.keypoints, found.indices, strict=True) if c < 0]
    return KeypointSchema(
        union.name,
        (*union.keypoints, *new),
        _united(union.flip_pairs, schema.flip_pairs, names),
        _united(union.skeleton, schema.skeleton, names),
        upper_body=tuple(
            dict.fromkeys([*union.upper_body, *(names[k] for k in schema.upper_body)])
        ),
        meanings=tuple(meanings.items()),
    )


def _united(
    ours: Sequence[tuple[str, str]], theirs: Sequence[tuple[str, str]], names: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    pairs = {frozenset(pair): pair for pair in ours}
    for a, b in theirs:
        pairs.setdefault(frozenset((names[a], names[b])), (names[a], names[b]))
    return tuple(pair for key, pair in pairs.items() if len(key) == 2)


def _group_key(point: tuple[str, str]) -> tuple[str, str]:
    return point[0], _GROUPS.get(point[1], point[1])


def _near_keys(point: tuple[str, str]) -> list[tuple[str, str]]:
    """Return the point's own group first, then the groups near it."""
    own = _group_key(point)
    return [own, *((own[0], group) for group in _NEAR_GROUPS.get(own[1], ()))]


# What a point goes by under each relation: points match if a key of the one is the other's first.
_KEYS: dict[Relation, Callable[[tuple[str, str]], list[tuple[str, str]]]] = {
    "same": lambda point: [point],
    "synonym": lambda point: [_group_key(point)],
    "near": _near_keys,
}


def _point(schema: KeypointSchema, keypoint: str) -> tuple[str, str]:
    """Return what a keypoint is as (side, word): sides stand in front whatever the spelling."""
    name = dict(schema.meanings).get(keypoint, keypoint)
    side, word = split_side(name)
    finger = re.fullmatch(r"([a-z_]+?)_?(\d+)", word)
    if finger:
        return side, f"{_FINGERS.get(finger[1], finger[1])}_{finger[2]}"
    return side, word
