"""Score a predictions file on a split of a dataset, and name what looks wrong with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posekit.config.cards import load_dataset_card
from posekit.config.plug_ins import takes_allow_code
from posekit.data.index import build_index
from posekit.diagnosis.diagnose import Diagnosis, diagnose
from posekit.errors import ConfigError
from posekit.evaluation.base import plain_values
from posekit.evaluation.registry import protocol_of, split_settings
from posekit.evaluation.score import FileScores, score_file
from posekit.output import write_text


@dataclass(frozen=True)
class Scored:
    """The scores of a predictions file, and its diagnosis.

    Attributes:
        file: the scores with their protocol, and the references' beside them if verified.
        diagnosis: what looks wrong.
    """

    file: FileScores
    diagnosis: Diagnosis

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers by the dataset's official protocol."""
        return dict(self.file.scores.metrics)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **self.file.scores.to_dict(),
            "reference": self.file.reference,
            "notes": self.file.notes,
            "findings": self.diagnosis.to_list(),
        }


@takes_allow_code
def score(
    predictions: str | Path,
    dataset: str | Path,
    split: str,
    root: str | Path | None = None,
    *,
    settings: Sequence[str] = (),
    verify: bool = False,
    out: str | Path | None = None,
    allow_code: bool = False,
) -> Scored:
    """Score a predictions file by a dataset's official protocol, without any model.

    Args:
        predictions: a file that `posekit.poses.read.read_predictions` reads, or the folder that
            `posekit predict` wrote.
        dataset: name or path of the dataset's card.
        split: the split that the predictions are for.
        root: the dataset's folder; data/FOLDER if left out.
        settings: `KEY=value` settings laid over the card's protocol, e.g. `nms=none`.
        verify: also run the reference implementation on the same detections.
        out: folder to write the scores into, which `posekit compare` takes like a run's.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Raises:
        ConfigError: an unknown dataset, split or setting.
        DatasetError: the annotations are missing or wrong.
        PredictionError: the file is wrong or does not fit the split.
    """
    card = load_dataset_card(dataset)
    protocol, rest = split_settings(settings)
    if rest:
        raise ConfigError(f"{rest[0]}: no setting of a protocol; give KEY=value, e.g. nms=none")
    index = build_index(card, root if root is not None else Path("data") / card.folder, split)
    done = score_file(predictions, index, settings=protocol, verify=verify)
    used = protocol_of(index.card, protocol)
    found = diagnose(index.columns, done.predictions, index.schema, used, done.scores)
    scored = Scored(done, found)
    if out is not None:
        content = json.dumps(plain_values(scored.to_dict()), indent=1)
        write_text(Path(out) / "eval" / card.name / "metrics.json", content + "\n")
    return scored
