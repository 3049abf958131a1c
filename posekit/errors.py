"""The errors that a user can cause, each one clear sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class PosekitError(Exception):
    """Base of every error that a user can cause; its text is one sentence to act on."""


class ConfigError(PosekitError):
    """A card, recipe or command-line setting is wrong."""


class DatasetError(PosekitError):
    """An annotation file, record or image is wrong.

    Args:
        file: the file at fault.
        problem: what was found and what was expected.
        record: which record of the file (index, id, line), if one is at fault.
        fix: what the user can do about it.
    """

    def __init__(
        self,
        file: str | Path,
        problem: str,
        *,
        record: str | int | None = None,
        fix: str | None = None,
    ):
        self.file, self.problem, self.record, self.fix = str(file), problem, record, fix
        where = self.file if record is None else f"{self.file}, {_record_words(record)}"
        super().__init__(f"{where}: {problem}" + (f"; {fix}" if fix else ""))

    def __reduce__(self):
        return _rebuild_dataset_error, (self.file, self.problem, self.record, self.fix)


class CheckpointError(PosekitError):
    """A checkpoint cannot be read, written, or does not fit the model."""


class TrainingError(PosekitError):
    """Training cannot go on: its numbers are not finite, or another process is gone."""


class OutputError(PosekitError):
    """A file or folder cannot be written."""


class PredictionError(PosekitError):
    """A predictions file or a set of predictions cannot be scored."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the valid word nearest to `word`, else an empty string."""
    near = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def _record_words(record: str | int) -> str:
    return f"record {record}" if isinstance(record, int) else record


def _rebuild_dataset_error(file, problem, record, fix):
    return DatasetError(file, problem, record=record, fix=fix)
