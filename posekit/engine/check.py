"""Check a dataset: is it what its card says, and fit to train and score on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posekit.config.cards import load_dataset_card
from posekit.config.plug_ins import takes_allow_code
from posekit.diagnosis import (
    CheckReport,
    OtherSplit,
    card_findings,
    check_adapter,
    check_dataset,
    write_exclusions,
)
from posekit.errors import ConfigError
from posekit.pages.check_page import write_check_page


@dataclass(frozen=True)
class DatasetCheck:
    """A checked dataset.

    Attributes:
        report: what was found.
        page: the page that was written, if one was asked for.
        exclusions: the list of leaked training images that was written, if one was asked for.
        excluded: number of images in that list.
    """

    report: CheckReport
    page: Path | None = None
    exclusions: Path | None = None
    excluded: int = 0

    @property
    def has_errors(self) -> bool:
        """True if something is wrong that training or scores would suffer from."""
        return self.report.has_errors

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return self.report.to_dict()


@takes_allow_code
def check(
    dataset: str | Path,
    root: str | Path | None = None,
    *,
    splits: Sequence[str] = (),
    train: str = "train",
    against: Sequence[str] = (),
    exclude_out: str | Path | None = None,
    out: str | Path | None = None,
    images: bool = True,
    threads: int = 4,
    adapter: bool = False,
    allow_code: bool = False,
) -> DatasetCheck:
    """Check a dataset: images, labels, origin, sides, order, leakage.

    Args:
        dataset: name or path of the dataset's card; a card that is wrong is a finding too.
        root: the dataset's folder.
        splits: splits to check; all that are there if left out.
        train: name of the training split.
        against: CARD:SPLIT:ROOT of other datasets that scores are made on.
        exclude_out: list of leaked training images to write, for recipes.
        out: HTML page to write, with pictures of every finding.
        images: open every image; otherwise only look whether it is there.
        threads: threads that read images.
        adapter: run the contract of adapters over the card's instead.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Raises:
        ConfigError: an option is missing or does not go with another; see `check_dataset`.
        DatasetError: none of the splits is there.
    """
    broken = card_findings(dataset)
    if broken:
        return DatasetCheck(CheckReport(Path(dataset).stem, findings=broken))
    card = load_dataset_card(dataset)
    if root is None:
        raise ConfigError(
            f"--root: name the folder of dataset '{card.name}', which its card calls "
            f"'{card.folder}'"
        )
    if adapter:
        if out is not None or exclude_out is not None:
            raise ConfigError("--adapter writes no page and no list; leave --out and "
                              "--exclude-out away")  # fmt: skip
        return DatasetCheck(check_adapter(card, Path(root), splits=splits))
    if exclude_out is not None and not images:
        raise ConfigError("--exclude-out needs the images; leave --no-images away")
    checked = check_dataset(
        card,
        root,
        splits=splits,
        train=train,
        against=[read_other_split(text) for text in against],
        decode=images,
        threads=threads,
    )
    page = write_check_page(out, checked) if out is not None else None
    written = None
    if exclude_out is not None:
        about = f"images of {card.name}/{train} that are also in splits that scores are made on"
        written = write_exclusions(exclude_out, checked.excluded, about)
    return DatasetCheck(checked.report, page, written, len(checked.excluded))


def read_other_split(text: str) -> OtherSplit:
    """Read CARD:SPLIT:ROOT; ConfigError if it is not of that form or names no such split."""
    name, _, rest = text.partition(":")
    split, _, root = rest.partition(":")
    if not name or not split or not root:
        raise ConfigError(f"--against {text}: expected CARD:SPLIT:ROOT, for example coco:val:DIR")
    card = load_dataset_card(name)
    card.split(split)
    return OtherSplit(card, split, Path(root).expanduser())
