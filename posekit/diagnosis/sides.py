"""Which keypoints are left and right of one another: by names, by poses, and flip pairs proved."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from posekit.adapters.names import lower_snake
from posekit.diagnosis.findings import Finding
from posekit.diagnosis.pose_shapes import PoseShapes, centred, middle_and_spread
from posekit.schema import KeypointSchema

_LEFT = (
    "left lft lt l links linker linkes linke gauche izquierda izquierdo izq sinistra sinistro "
    "esquerda esquerdo"
)
_RIGHT = (
    "right rgt rt r rechts rechter rechtes rechte droite droit derecha derecho der destra destro "
    "direita direito"
)
_WORDS = {"left": tuple(_LEFT.split()), "right": tuple(_RIGHT.split())}
_SIDE_OF = {word: side for side, words in _WORDS.items() for word in words}
_GLUED = sorted((word for word in _SIDE_OF if len(word) > 2), key=len, reverse=True)
_CERTAIN, _GLUED_WORD, _GLUED_LETTER = 0, 1, 2
_FAR, _NEAR = 0.8, 0.4
_ENOUGH = 50
_MOSTLY, _WHOLE = 0.7, 0.95
_ANGLES = 180
_ROUNDS = 10
_FEWEST = 5
MOST_POSES = 2000
"""Poses that are enough to find their mean shape."""


@dataclass(frozen=True)
class NamedSides:
    """What names say about sides.

    Attributes:
        names: K lower_snake names, unique; those of a pair are left_x and right_x.
        pairs: pairs of positions (left, right).
        guessed: pairs among them that rest on a single letter glued to a word.
        alone: positions whose name has a side but no partner.
    """

    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    guessed: tuple[tuple[int, int], ...] = ()
    alone: tuple[int, ...] = ()


def read_sides(raw: Sequence[str]) -> NamedSides:
    """Find which keypoints are left and right of one another by their names.

    Understood are words for the sides in seven languages and their letters, at any place of a
    name, apart ('L_Eye', 'ear_left', 'hind_R_paw', 'EarL') or glued to another word ('leftear',
    'oreilledroite'; a glued letter, 'lsho', only where the other side's name is there too). A name
    has a side only if the same name with the other side exists.

    Args:
        raw: the names as the file has them, in any script; those without a letter or digit of
            ASCII become point_<position>.
    """
    readings = [list(_readings(name)) for name in raw]
    where: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for position, found in enumerate(readings):
        for side, rest, trust in found:
            where.setdefault((side, rest), []).append((position, trust))
    side_of: dict[int, tuple[str, str]] = {}
    pairs: list[tuple[int, int]] = []
    guessed: list[tuple[int, int]] = []
    for wanted in (_CERTAIN, _GLUED_WORD, _GLUED_LETTER):
        for left, found in enumerate(readings):
            for side, rest, trust in found:
                if side != "left" or trust != wanted or left in side_of:
                    continue
                right = _partner(where.get(("right", rest), []), wanted, left, side_of)
                if right is None:
                    continue
                side_of[left], side_of[right] = ("left", rest), ("right", rest)
                pairs.append((left, right))
                if wanted == _GLUED_LETTER:
                    guessed.append((left, right))
    names = _unique([_final_name(name, i, side_of.get(i)) for i, name in enumerate(raw)])
    alone = tuple(
        i
        for i, found in enumerate(readings)
        if i not in side_of and any(trust == _CERTAIN for _, _, trust in found)
    )
    return NamedSides(names, tuple(sorted(pairs)), tuple(sorted(guessed)), alone)


def _partner(
    candidates: list[tuple[int, int]], trust: int, left: int, taken: dict[int, tuple[str, str]]
) -> int | None:
    fits = [i for i, theirs in candidates if theirs <= trust and i != left and i not in taken]
    return fits[0] if len(fits) == 1 else None


def _readings(name: str) -> Iterator[tuple[str, str, int]]:
    """Yield every way to read a side out of a name: side, the name without it, how sure."""
    # lower_snake brings a side letter at either end to the front as a word.
    apart = re.sub(r"^([LR])(?=[A-Z][a-z])", r"\1_", name)
    words = [word for word in lower_snake(apart).split("_") if word]
    for at, word in enumerate(words):
        if word in _SIDE_OF and len(words) > 1:
            yield _SIDE_OF[word], "_".join(words[:at] + words[at + 1 :]), _CERTAIN
    for at, word in enumerate(words):
        rest = words[:at], words[at + 1 :]
        for glued in _GLUED:
            if len(word) > len(glued) and glued in (word[: len(glued)], word[-len(glued) :]):
                cut = word.removeprefix(glued) if word.startswith(glued) else word[: -len(glued)]
                yield _SIDE_OF[glued], "_".join([*rest[0], cut, *rest[1]]), _GLUED_WORD
        for letter, cut in ((word[0], word[1:]), (word[-1], word[:-1])):
            if letter in {"l", "r"} and len(word) > 2:
                yield _SIDE_OF[letter], "_".join([*rest[0], cut, *rest[1]]), _GLUED_LETTER


def _final_name(raw: str, position: int, side: tuple[str, str] | None) -> str:
    if side is not None:
        return f"{side[0]}_{side[1]}"
    plain = re.sub(r"_+", "_", lower_snake(raw)).strip("_")
    if not plain:
        return f"point_{position}"
    return f"point_{plain}" if plain.isdecimal() else plain


def _unique(names: list[str]) -> tuple[str, ...]:
    """Add a number to names that repeat, so that each is there once."""
    seen: set[str] = set()
    result = []
    for name in names:
        free, number = name, 2
        while free in seen or (free != name and free in names):
            free, number = f"{name}_{number}", number + 1
        seen.add(free)
        result.append(free)
    return tuple(result)


@dataclass(frozen=True)
class Mirror:
    """The mirror symmetry of a subject's mean shape.

    Attributes:
        pairs: pairs of positions that trade places, lower position first.
        residual: mean distance between a point's mirror image and its partner, in units of the
            shape's size (root mean square distance from its middle).
        margin: how much nearer the partners are than the next best ones, 0 (not) to 1; low where
            the points cannot be told apart.
    """

    pairs: tuple[tuple[int, int], ...]
    residual: float
    margin: float

    @property
    def is_clear(self) -> bool:
        """True where the shape is symmetric and its points stand apart."""
        return bool(self.pairs) and self.residual < 0.12 and self.margin > 0.5


def mean_shape(points: np.ndarray, labelled: np.ndarray) -> np.ndarray | None:
    """Return the mean of poses after moving, turning and scaling each onto it.

    Args:
        points: float (N, K, 2).
        labelled: bool (N, K); poses with fewer than three labelled points are skipped.

    Returns:
        float64 (K, 2), middle at 0 and size 1; None if there are fewer than five poses or a point
        is hardly ever labelled.

    Source: generalised Procrustes analysis without reflection, over the labelled points only.
    """
    enough = labelled.sum(axis=1) >= max(3, 0.6 * labelled.sum(axis=1).max(initial=0))
    points, labelled = points[enough].astype(np.float64), labelled[enough]
    if len(points) < _FEWEST or (labelled.sum(axis=0) < _FEWEST).any():
        return None
    fullest = int(np.argmax(labelled.sum(axis=1)))
    mean = np.where(labelled[fullest, :, None], points[fullest], np.nan)
    mean = (mean - np.nanmean(mean, axis=0)) / _size(mean)
    for _ in range(_ROUNDS):
        moved = np.stack([_onto(p, mean, ok) for p, ok in zip(points, labelled, strict=True)])
        moved[~labelled] = np.nan
        with np.errstate(invalid="ignore"):
            mean = np.nanmedian(moved, axis=0)
        mean = (mean - np.nanmean(mean, axis=0)) / _size(mean)
    return mean if np.isfinite(mean).all() else None


def find_mirror(shape: np.ndarray) -> Mirror:
    """Find the line that maps a shape (K, 2) best onto itself, and what it maps onto what.

    Time: 180 assignments of K points.
    """
    count = len(shape)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for angle in np.arange(_ANGLES) * np.pi / _ANGLES:
        cosine, sine = np.cos(2 * angle), np.sin(2 * angle)
        image = shape @ np.array([[cosine, sine], [sine, -cosine]])
        cost = np.linalg.norm(image[:, None] - shape[None], axis=2)
        rows, columns = linear_sum_assignment(cost**2)
        total = float((cost[rows, columns] ** 2).mean())
        if best is None or total < best[0]:
            best = total, columns, cost
    assert best is not None  # noqa: S101 - there are angles
    _, partner, cost = best
    pairs = tuple(
        (i, int(partner[i])) for i in range(count) if i < partner[i] and partner[partner[i]] == i
    )
    own = cost[np.arange(count), partner]
    others = cost.copy()
    others[np.arange(count), partner] = np.inf
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = own / others.min(axis=1)
    margin = float(1 - np.median(np.nan_to_num(ratio, nan=1.0, posinf=1.0))) if count > 1 else 0.0
    mutual = bool((partner[partner] == np.arange(count)).all())
    return Mirror(pairs, float(own.mean()) if mutual else 1.0, max(margin, 0.0))


def _size(shape: np.ndarray) -> float:
    spread = shape - np.nanmean(shape, axis=0)
    return max(float(np.sqrt(np.nanmean((spread**2).sum(axis=1)))), 1e-9)


def _onto(points: np.ndarray, mean: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Move, turn and scale one pose onto the mean by their common points."""
    common = labelled & np.isfinite(mean).all(axis=1)
    ours, theirs = points[common], mean[common]
    center, goal = ours.mean(axis=0), theirs.mean(axis=0)
    a, b = ours - center, theirs - goal
    # As complex numbers, turning and scaling is one factor.
    first, second = a[:, 0] + 1j * a[:, 1], b[:, 0] + 1j * b[:, 1]
    norm = max(float((np.abs(first) ** 2).sum()), 1e-12)
    factor = (np.conj(first) * second).sum() / norm
    turned = (points - center) @ np.array([[factor.real, factor.imag], [-factor.imag, factor.real]])
    return turned + goal


def involution_problems(keypoints: Sequence[str], pairs: Sequence[Sequence[str]]) -> list[str]:
    """Return why flip pairs are no involution, one sentence a fault; empty if they are.

    An involution swaps each keypoint with exactly one other, or leaves it in its place: mirroring
    twice must give back the pose.
    """
    problems = []
    partner: dict[str, str] = {}
    for pair in pairs:
        if len(pair) != 2:
            problems.append(f"{list(pair)} is not a pair of two names")
            continue
        a, b = pair
        for name in pair:
            if name not in keypoints:
                problems.append(f"the pair ({a}, {b}) names '{name}', which is no keypoint")
        if a == b:
            problems.append(f"'{a}' is paired with itself")
            continue
        for name, other in ((a, b), (b, a)):
            if name in partner and {name, partner[name]} != {a, b}:
                problems.append(f"'{name}' is paired with '{partner[name]}' and with '{other}'")
            elif name in partner and name == a:
                problems.append(f"the pair ({a}, {b}) is listed twice")
            partner[name] = other
    return problems


def pairs_by_name(schema: KeypointSchema) -> Iterator[Finding]:
    """Name keypoints whose names say left and right but that are no flip pair."""
    flip, named = schema.flip_indices, read_sides(schema.keypoints)
    missing: list[tuple[str, str]] = []
    wrong: list[tuple[str, str]] = []
    for left, right in named.pairs:
        if flip[left] == right or (left, right) in named.guessed:
            continue
        alone = flip[left] == left and flip[right] == right
        (missing if alone else wrong).append((schema.keypoints[left], schema.keypoints[right]))
    yield from _pair_finding("flip_pairs_missing", missing, "their names are a left and a right")
    yield from _pair_finding("flip_pairs_wrong", wrong, "their names belong together")


def pairs_by_geometry(poses: PoseShapes, schema: KeypointSchema) -> Iterator[Finding]:
    """Test the flip pairs against the mirrored mean pose.

    Pairs that `find_mirror` reads out of the same poses, as `datasets new` does, are right. Else
    the mean pose, mirrored, must have each keypoint where its partner was. Distances count in
    standard deviations of the keypoint over the instances. Only what is clear is named: the right
    partner within 0.4, the given one beyond 0.8; and only where the mean pose is its own mirror
    image on the whole, which those of animals that mostly face one way are not.
    """
    count = poses.labelled.sum(axis=0)
    known = np.flatnonzero(count >= _ENOUGH)
    if len(known) < 3 or _is_seen(poses, schema):
        return
    whole = poses.labelled[:, known].mean() > _WHOLE
    relative = (centred(poses) if whole else poses.in_box())[:, known]
    apart, given = _mirror_distances(relative, known, np.asarray(schema.flip_indices))
    own = np.arange(len(known))
    best = given.copy()
    # only what does not fit is matched again: in dense schemas neighbours fit about as well
    doubtful = np.flatnonzero(apart[own, given] > _FAR)
    cost = (apart + apart.T)[np.ix_(doubtful, doubtful)]
    best[doubtful] = doubtful[linear_sum_assignment(cost)[1]]
    # one-sided means leave much even so
    if (apart[own, best] < _NEAR).mean() < _MOSTLY:
        return
    missing: list[tuple[str, str]] = []
    wrong: list[tuple[str, str]] = []
    for k in doubtful.tolist():
        other = int(best[k])
        if best[other] != k or other <= k or apart[k, other] > _NEAR:
            continue
        pair = (schema.keypoints[known[k]], schema.keypoints[known[other]])
        (missing if given[k] == k and given[other] == other else wrong).append(pair)
    where = "in the mirrored mean pose each lies where the other was"
    yield from _pair_finding("flip_pairs_missing", missing, where)
    yield from _pair_finding("flip_pairs_wrong", wrong, where)


def _is_seen(poses: PoseShapes, schema: KeypointSchema) -> bool:
    """Return whether the schema's flip pairs are those of a clear mirror image of the poses."""
    step = -(-len(poses) // MOST_POSES)
    shape = mean_shape(poses.points[::step], poses.labelled[::step])
    mirror = None if shape is None else find_mirror(shape)
    given = {(k, int(other)) for k, other in enumerate(schema.flip_indices) if k < other}
    return mirror is not None and mirror.is_clear and set(mirror.pairs) == given


def _pair_finding(name: str, pairs: list[tuple[str, str]], why: str) -> Iterator[Finding]:
    if pairs:
        listed = ", ".join(f"({a}, {b})" for a, b in pairs[:12])
        more = f" and {len(pairs) - 12} more" if len(pairs) > 12 else ""
        yield Finding(
            name,
            "error",
            (
                f"{len(pairs)} flip pairs are missing in the schema"
                if name.endswith("missing")
                else f"{len(pairs)} keypoints are paired with the wrong one; they should be"
            )
            + f": {listed}{more}; {why}",
            "correct flip_pairs in the card: mirrored training images get wrong labels otherwise",
            len(pairs),
        )


def _mirror_distances(
    relative: np.ndarray, known: np.ndarray, flip: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compare the mean pose with its mirror image.

    Args:
        relative: float64 (n, k, 2), poses in a common frame, of the known keypoints.
        known: int64 (k,), their places in the schema.
        flip: int64 (K,), of the schema.

    Returns:
        float64 (k, k): distance of keypoint i from the mirror image of j, in standard deviations;
        int64 (k,): the partner of each that the schema gives, itself if that one is not known.
    """
    mean, spread = middle_and_spread(relative)
    place = np.full(len(flip), -1)
    place[known] = np.arange(len(known))
    given = place[flip[known]]
    given = np.where(given < 0, np.arange(len(known)), given)
    # few poses, or a camera on one side, move the axis of symmetry a little off the middle
    mean = mean - [np.median((mean[:, 0] + mean[given, 0]) / 2), 0]
    apart = np.linalg.norm(mean[:, None] - (mean * [-1, 1])[None], axis=2)
    return apart / np.maximum((spread[:, None] + spread[None]) / 2, 1e-6), given
