"""What a check of a dataset reports: named findings with examples, and facts of each split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from posekit.adapters.fields import id_text
from posekit.data.columns import InstanceColumns

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
MOST_EXAMPLES = 200


@dataclass(frozen=True)
class Example:
    """One image or instance that shows a finding.

    Attributes:
        image: path relative to the dataset's root.
        instance: the file's id of the instance, "" if the whole image is meant.
        note: what is seen here.
        row: row of the instance in the split's columns, -1 if the whole image is meant.
        image_index: row of the image in the image columns, -1 if it is not of this split.
        beside: the file of another image that this one is to be seen beside, or None.
    """

    image: str
    instance: str = ""
    note: str = ""
    row: int = -1
    image_index: int = -1
    beside: Path | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        name: its name, lower_snake.
        severity: 'error' (training or scores would be wrong), 'warning' (look at it), or 'note'.
        text: what was seen and what it means, one sentence.
        fix: what to do about it.
        count: how many images or instances it concerns.
        examples: some of them, the clearest first; at most MOST_EXAMPLES.
        split: the split it concerns; "" for the dataset as a whole.
    """

    name: str
    severity: Severity
    text: str
    fix: str = ""
    count: int = 1
    examples: tuple[Example, ...] = ()
    split: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        examples = [
            {"image": e.image, "instance": e.instance, "note": e.note} for e in self.examples
        ]
        return {
            "name": self.name,
            "severity": self.severity,
            "split": self.split,
            "count": self.count,
            "text": self.text,
            "fix": self.fix,
            "examples": examples,
        }


@dataclass(frozen=True)
class SplitFacts:
    """What a split holds.

    Attributes:
        name: of the split, with the dataset's name in front if it is another dataset's.
        instances, images: how many there are; empty_images: of those, without any instance.
        labelled: instances with at least one labelled keypoint.
        trainable: instances that training would use; skipped: reason -> instances left out.
        visibility: points with visibility 0, 1 and 2.
        visibility_says: what the codes tell beyond whether a point is labelled.
        seconds: time that checking it took.
    """

    name: str
    instances: int
    images: int
    empty_images: int
    labelled: int
    trainable: int
    skipped: dict[str, int]
    visibility: tuple[int, int, int]
    visibility_says: str
    seconds: float = 0.0


@dataclass(frozen=True)
class CheckReport:
    """All that was found about a dataset.

    Attributes:
        dataset: its name.
        splits: facts of the splits that were read.
        findings: errors first, then warnings, then notes.
        absent: splits of the card that are not on this machine -> what is missing.
    """

    dataset: str
    splits: tuple[SplitFacts, ...] = ()
    findings: tuple[Finding, ...] = ()
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all findings."""
        return tuple(finding.name for finding in self.findings)

    @property
    def has_errors(self) -> bool:
        """True if any finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)

    def of(self, name: str) -> tuple[Finding, ...]:
        """Return the findings of one name."""
        return tuple(finding for finding in self.findings if finding.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "dataset": self.dataset,
            "ok": not self.has_errors,
            "splits": [dict(vars(facts)) for facts in self.splits],
            "absent": self.absent,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def warning(name: str, text: str) -> Finding:
    """Return a finding of a diagnosis that does not make the other checks pointless."""
    return Finding(name, "warning", text)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort findings: errors, warnings, notes; the order of the checks is kept otherwise."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def instance_examples(
    columns: InstanceColumns, rows: np.ndarray, notes: Sequence[str] = ()
) -> tuple[Example, ...]:
    """Return examples of instance rows, in their order, at most MOST_EXAMPLES.

    Args:
        columns: the split.
        rows: int64 (n,).
        notes: what is seen in each; or none.
    """
    rows = np.asarray(rows, np.int64)[:MOST_EXAMPLES]
    examples = image_examples(columns, np.asarray(columns.image_index)[rows], notes)
    return tuple(
        replace(example, instance=id_text(columns.instance_id[row]), row=row)
        for example, row in zip(examples, rows.tolist(), strict=True)
    )


def image_examples(
    columns: InstanceColumns, images: np.ndarray, notes: Sequence[str] = ()
) -> tuple[Example, ...]:
    """Return examples of image rows, in their order, at most MOST_EXAMPLES."""
    return tuple(
        Example(
            image=path_text(columns, image),
            note=notes[place] if place < len(notes) else "",
            image_index=image,
        )
        for place, image in enumerate(np.asarray(images)[:MOST_EXAMPLES].tolist())
    )


def path_text(columns: InstanceColumns, image_index: int) -> str:
    """Return the path of an image, relative to the dataset's root."""
    return columns.image_path[image_index].decode()
