"""Sets the scores of several runs side by side, and refuses where their protocols differ."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posekit.errors import ConfigError, PosekitError
from posekit.evaluation.base import Scores
from posekit.evaluation.tables import text_table

NAN = float("nan")
NOT_PROTOCOL = {"head", "posekit_version", "headline", "engine"}
"""Protocol keys that may differ between comparable numbers."""


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: names of the runs.
        heads: head -> run -> scores; a run without the head is absent.
        differences: head -> setting -> the runs' values, where protocols differ.
    """

    runs: tuple[str, ...]
    heads: dict[str, dict[str, Scores]]
    differences: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def text(self) -> str:
        """One table a head: metrics in rows, runs in columns, the best marked with *."""
        blocks = []
        for head, scores in self.heads.items():
            names = list(dict.fromkeys(m for s in scores.values() for m in s.metrics))
            rows = [[name, *_cells(name, self.runs, scores)] for name in names]
            lines = [f"{head}", text_table(["metric", *self.runs], rows)]
            for setting, values in self.differences.get(head, {}).items():
                shown = ", ".join(f"{run}: {_short(value)}" for run, value in values.items())
                lines.append(f"protocols differ in {setting} ({shown})")
            blocks.append("\n".join(lines))
        return "\n\n".join(blocks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        heads = {
            head: {run: scores.to_dict() for run, scores in by_run.items()}
            for head, by_run in self.heads.items()
        }
        return {"runs": list(self.runs), "heads": heads, "differences": self.differences}


def compare_runs(folders: Sequence[str | Path], *, allow_differences: bool = False) -> Comparison:
    """Compare what several runs left in eval/HEAD/metrics.json.

    Args:
        folders: the run folders (or folders with metrics.json in them).
        allow_differences: set numbers of different protocols side by side all the same.

    Raises:
        PosekitError: a folder holds no scores.
        ConfigError: numbers of one head were made by different protocols; names head, setting and
            both values.
    """
    names = _names([Path(folder) for folder in folders])
    by_run = {name: read_scores(Path(f)) for name, f in zip(names, folders, strict=True)}
    return compare_scores(by_run, allow_differences=allow_differences)


def compare_scores(
    by_run: Mapping[str, Mapping[str, Scores]], *, allow_differences: bool = False
) -> Comparison:
    """Compare run -> head -> scores; see `compare_runs`."""
    heads: dict[str, dict[str, Scores]] = {}
    for run, of_run in by_run.items():
        for head, scores in of_run.items():
            heads.setdefault(head, {})[run] = scores
    differences = {
        head: found for head, both in heads.items() if (found := protocol_differences(both))
    }
    if differences and not allow_differences:
        head, found = next(iter(differences.items()))
        setting, values = next(iter(found.items()))
        shown = ", ".join(f"{run} has {_short(value)}" for run, value in values.items())
        others = len(found) - 1 + sum(len(f) for h, f in differences.items() if h != head)
        more = f" (and {others} further differences)" if others else ""
        raise ConfigError(
            f"head '{head}': these numbers were made by different protocols, in '{setting}' "
            f"{shown}{more}; evaluate again with one protocol, or compare all the same with "
            "allow_differences=True (--anyway)"
        )
    return Comparison(tuple(by_run), heads, differences)


def protocol_differences(scores: Mapping[str, Scores]) -> dict[str, dict[str, Any]]:
    """Return setting -> run -> value for every setting in which the protocols differ."""
    keys = dict.fromkeys(k for s in scores.values() for k in s.protocol if k not in NOT_PROTOCOL)
    found = {}
    hashed = all(s.protocol.get("boxes_hash") for s in scores.values())
    for key in keys:
        if key == "boxes" and hashed:
            continue  # what the file held counts, not where it lay
        values = {run: s.protocol.get(key) for run, s in scores.items()}
        if len({json.dumps(v, sort_keys=True) for v in values.values()}) > 1:
            found[key] = values
    return found


def read_scores(folder: Path) -> dict[str, Scores]:
    """Return head -> scores of a run's folder.

    Raises:
        PosekitError: no scores there, or a metrics.json that cannot be read.
    """
    files = sorted(folder.glob("eval/*/metrics.json")) or sorted(folder.glob("metrics.json"))
    if not files:
        raise PosekitError(f"{folder}: found no eval/HEAD/metrics.json; evaluate the run first")
    found = {}
    for file in files:
        try:
            found[file.parent.name] = Scores.from_dict(json.loads(file.read_text("utf-8")))
        except (ValueError, TypeError, KeyError):
            raise PosekitError(
                f"{file}: expected the metrics.json of an evaluation; evaluate the run again"
            ) from None
    return found


def _names(folders: list[Path]) -> list[str]:
    """Return a name for each run, none twice: the folder's, its path, or that with a number."""
    short = [folder.resolve().name for folder in folders]
    if len(set(short)) == len(short):
        return short
    paths = [str(folder) for folder in folders]
    before = [paths[:number].count(path) for number, path in enumerate(paths)]
    return [f"{p} ({n + 1})" if n else p for p, n in zip(paths, before, strict=True)]


def best_runs(metric: str, scores: Mapping[str, Scores]) -> list[str]:
    """Return the runs with the best value of the main metric; none for the other metrics."""
    if not any(s.headline == metric for s in scores.values()):
        return []
    known = {run: v for run, s in scores.items() if not math.isnan(v := s.metrics.get(metric, NAN))}
    lower = any(s.lower_is_better for s in scores.values())
    best = (min if lower else max)(known.values(), default=None)
    return [run for run, value in known.items() if value == best]


def _cells(metric: str, runs: Sequence[str], scores: Mapping[str, Scores]) -> list[str]:
    best = best_runs(metric, scores)
    values = {run: scores[run].metrics.get(metric, NAN) for run in runs if run in scores}
    return [
        ""
        if math.isnan(values.get(run, NAN))
        else f"{values[run]:.4f}{'*' if run in best else ' '}"
        for run in runs
    ]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
