"""KeypointSchema: the ordered, named keypoints of one dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from posekit.errors import ConfigError, nearest

_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*\Z")
_MIRRORED = {"left": "right", "right": "left", "l": "r", "r": "l"}


@dataclass(frozen=True)
class KeypointSchema:
    """Ordered keypoint names with flip pairs, skeleton, OKS sigmas and upper-body set.

    Attributes:
        name: name of the schema, usually the dataset's.
        keypoints: K unique lower_snake names in channel order.
        flip_pairs: pairs of names that trade places in a mirrored image. Every keypoint is in at
            most one pair; a keypoint in none is on the midline and keeps its place.
        skeleton: links to draw, as pairs of names.
        sigmas: K OKS sigmas, or None if the dataset's authors published none.
        sigmas_source: where the sigmas come from; required if there are sigmas.
        upper_body: names that half-body augmentation counts as upper; empty switches it off.
        meanings: pairs (keypoint, what it really is), where the name alone would mislead: MPII's
            left_hip is the joint, COCO's is on the outside. Mapping between schemas goes by them.

    Raises:
        ConfigError: names not unique or not lower_snake, an unknown name in a pair, link or set,
            a keypoint in two pairs or paired with itself, sigmas of the wrong number or below 0.
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...] = ()
    skeleton: tuple[tuple[str, str], ...] = ()
    sigmas: tuple[float, ...] | None = None
    sigmas_source: str | None = None
    upper_body: tuple[str, ...] = ()
    meanings: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        self._check_names()
        self._check_flip_pairs()
        for link in self.skeleton:
            for name in link:
                self.index(name, "skeleton")
        for name in self.upper_body:
            self.index(name, "upper_body")
        for name, _ in self.meanings:
            self.index(name, "meanings")
        self._check_sigmas()

    def __len__(self) -> int:
        return len(self.keypoints)

    def index(self, keypoint: str, where: str = "a look-up") -> int:
        """Return a keypoint's channel by name; a ConfigError names the nearest if unknown."""
        position = self._positions.get(keypoint)
        if position is None:
            raise ConfigError(
                f"schema '{self.name}': {where} names the unknown keypoint '{keypoint}'"
                f"{nearest(keypoint, self.keypoints)}"
            )
        return position

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {keypoint: i for i, keypoint in enumerate(self.keypoints)}

    @cached_property
    def flip_indices(self) -> np.ndarray:
        """int64 (K,): channel i of a mirrored image holds what was channel flip_indices[i]."""
        indices = np.arange(len(self), dtype=np.int64)
        for a, b in self.flip_pairs:
            i, j = self.index(a), self.index(b)
            indices[i], indices[j] = j, i
        indices.setflags(write=False)
        return indices

    @cached_property
    def skeleton_indices(self) -> np.ndarray:
        """int64 (L, 2): the links as channel numbers."""
        pairs = [(self.index(a), self.index(b)) for a, b in self.skeleton]
        indices = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        indices.setflags(write=False)
        return indices

    @cached_property
    def is_upper_body(self) -> np.ndarray:
        """bool (K,): True where a keypoint belongs to the upper body."""
        mask = np.zeros(len(self), dtype=bool)
        mask[[self.index(name) for name in self.upper_body]] = True
        mask.setflags(write=False)
        return mask

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and strings that `from_dict` turns into an equal schema."""
        return {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
            "skeleton": [list(link) for link in self.skeleton],
            "sigmas": None if self.sigmas is None else list(self.sigmas),
            "sigmas_source": self.sigmas_source,
            "upper_body": list(self.upper_body),
            "meanings": dict(self.meanings),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> KeypointSchema:
        """Build a schema from `to_dict`'s form; without `flip_pairs` they come from the names.

        Raises:
            ConfigError: a field is missing or of the wrong kind, the schema is not valid, or flip
                pairs are to come from the names and a `left_` or `right_` name has no partner.
        """
        try:
            keypoints = tuple(data["keypoints"])
            if not all(isinstance(name, str) for name in keypoints):
                raise TypeError(f"found keypoints {keypoints!r:.80}, expected names")
            pairs = data.get("flip_pairs")
            sigmas = data.get("sigmas")
            fields: dict[str, Any] = {
                "name": str(data["name"]),
                "keypoints": keypoints,
                "skeleton": _pairs(data.get("skeleton") or ()),
                "sigmas": None if sigmas is None else tuple(float(s) for s in sigmas),
                "sigmas_source": data.get("sigmas_source"),
                "upper_body": tuple(data.get("upper_body") or ()),
                "meanings": _pairs(list(dict(data.get("meanings") or {}).items())),
            }
            given = None if pairs is None else _pairs(pairs)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
            raise ConfigError(f"a schema is described wrongly: {reason}") from None
        if given is None:
            _check_partners(fields["name"], keypoints)
            given = flip_pairs_from_names(keypoints)
        return cls(flip_pairs=given, **fields)

    def _check_names(self) -> None:
        if not self.keypoints:
            raise ConfigError(f"schema '{self.name}': it has no keypoints, expected at least one")
        for name in self.keypoints:
            if not isinstance(name, str) or not _NAME.match(name):
                raise ConfigError(
                    f"schema '{self.name}': keypoint name {name!r} is not lower_snake "
                    "(letters a-z, digits, single underscores)"
                )
        if len(self._positions) != len(self.keypoints):
            twice = sorted({name for name in self.keypoints if self.keypoints.count(name) > 1})
            raise ConfigError(f"schema '{self.name}': keypoint names repeat: {', '.join(twice)}")

    def _check_flip_pairs(self) -> None:
        seen: dict[str, tuple[str, str]] = {}
        for pair in self.flip_pairs:
            a, b = pair
            for name in pair:
                self.index(name, "flip_pairs")
            if a == b:
                raise ConfigError(
                    f"schema '{self.name}': flip pair ({a}, {b}) pairs a keypoint with itself; "
                    "leave midline keypoints out of flip_pairs"
                )
            for name in pair:
                if name in seen:
                    raise ConfigError(
                        f"schema '{self.name}': '{name}' is in two flip pairs, {seen[name]} and "
                        f"{pair}; a keypoint mirrors onto exactly one other"
                    )
                seen[name] = pair

    def _check_sigmas(self) -> None:
        if self.sigmas is None:
            return
        if len(self.sigmas) != len(self):
            raise ConfigError(
                f"schema '{self.name}': {len(self.sigmas)} sigmas for {len(self)} keypoints, "
                "expected one for each"
            )
        if not all(s > 0 and np.isfinite(s) for s in self.sigmas):
            raise ConfigError(f"schema '{self.name}': sigmas must be positive and finite")
        if not self.sigmas_source:
            raise ConfigError(
                f"schema '{self.name}': sigmas without sigmas_source; say where they come from, "
                "or leave them out (the score is then PCK, not AP)"
            )


def flip_pairs_from_names(keypoints: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pair `left_x` with `right_x` wherever both names are present, in channel order."""
    names = set(keypoints)
    return tuple(
        (name, partner)
        for position, name in enumerate(keypoints)
        if (partner := _partner(name)) in names and partner not in keypoints[:position]
    )


def _check_partners(schema: str, keypoints: Sequence[str]) -> None:
    for name in keypoints:
        partner = _partner(name)
        if partner is not None and partner not in keypoints:
            raise ConfigError(
                f"schema '{schema}': '{name}' has no partner '{partner}'"
                f"{nearest(partner, [k for k in keypoints if k != name])} "
                "(if it has none, list the flip_pairs that there are)"
            )


def split_side(name: str) -> tuple[str, str]:
    """Return the word `left` or `right` that a name holds, '' without one, and the other words."""
    words = name.split("_")
    side = next((word for word in words if word in {"left", "right"}), "")
    if side:
        words.remove(side)
    return side, "_".join(words)


def _partner(name: str) -> str | None:
    side, _, rest = name.partition("_")
    return f"{_MIRRORED[side]}_{rest}" if side in {"left", "right"} and rest else None


def _pairs(pairs: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((str(a), str(b)) for a, b in pairs)
