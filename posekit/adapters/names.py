"""Keypoint names as files spell them, brought to the lower_snake of schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from posekit.adapters.fields import Place
from posekit.errors import nearest
from posekit.schema import KeypointSchema

_SIDES = {"l": "left", "r": "right"}


def lower_snake(name: str) -> str:
    """Return a name in lower_snake: 'L_Eye' -> left_eye, 'Root of tail' -> root_of_tail.

    Capitals start a word after a small letter ('TailBase' -> tail_base); L and R as a word of
    their own at either end become left_ and right_ in front ('eyeL' -> left_eye).
    """
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    parts = [part for part in re.split(r"[^0-9a-zA-Z]+", words.lower()) if part]
    if len(parts) > 1 and parts[0] in _SIDES:
        parts[0] = _SIDES[parts[0]]
    elif len(parts) > 1 and parts[-1] in _SIDES:
        parts = [_SIDES[parts[-1]], *parts[:-1]]
    return "_".join(parts)


def match_names(
    found: Sequence[str],
    schema: KeypointSchema,
    place: Place,
    aliases: Mapping[str, str] | None = None,
) -> list[int]:
    """Return for each keypoint of the schema its position among the names found in a file.

    A name fits if it is the keypoint's, an alias of it, or equal once both are written in small
    letters without separators ('leftear' is left_ear).

    Args:
        found: the file's names, in file order.
        schema: the schema to fill.
        place: where the names stand.
        aliases: file name -> keypoint name, from the card.

    Raises:
        DatasetError: a name is unknown or fits twice, or a keypoint is missing.
    """
    wanted = {squash(keypoint): i for i, keypoint in enumerate(schema.keypoints)}
    positions: dict[int, int] = {}
    unknown = []
    for position, name in enumerate(found):
        target = (aliases or {}).get(name, name)
        index = wanted.get(squash(target), wanted.get(squash(lower_snake(target))))
        if index is None:
            unknown.append(name)
        elif index in positions:
            place.fail(f"'{found[positions[index]]}' and '{name}' both fit one keypoint")
        else:
            positions[index] = position
    missing = [k for i, k in enumerate(schema.keypoints) if i not in positions]
    if unknown or missing:
        hint = nearest(unknown[0], missing) if unknown else ""
        place.fail(
            f"found keypoints {_some(unknown)} that schema '{schema.name}' does not have and "
            f"missed {_some(missing)}{hint}",
            "rename them in the card's schema, or add the option 'names' (file name: keypoint)",
        )
    return [positions[i] for i in range(len(schema))]


def squash(name: str) -> str:
    """Return a name in small letters and digits only."""
    return re.sub(r"[^0-9a-z]", "", name.lower())


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:4])
    return (shown or "none") + (f" and {len(names) - 4} more" if len(names) > 4 else "")
