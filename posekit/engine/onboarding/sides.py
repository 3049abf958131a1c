"""Left and right read out of keypoint names, however they are spelled."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from posekit.adapters.names import lower_snake

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
