"""The truth about a dataset: checks that name what is wrong, and a page that shows it.

`check_dataset` runs all of them. Each check is a function of its own over an index's columns that
yields named findings, in the modules `pictures`, `labels`, `frames`, `origin`, `sides` (with
`swaps`), `order`, `outliers` and `leakage`; `check_adapter` runs the contract of adapters.
"""

from posekit.diagnosis.adapter_check import check_adapter
from posekit.diagnosis.card_check import card_findings
from posekit.diagnosis.check import Checked, OtherSplit, check_dataset
from posekit.diagnosis.findings import CheckReport, Example, Finding, SplitFacts
from posekit.diagnosis.leakage import write_exclusions

__all__ = [
    "CheckReport",
    "Checked",
    "Example",
    "Finding",
    "OtherSplit",
    "SplitFacts",
    "card_findings",
    "check_adapter",
    "check_dataset",
    "write_exclusions",
]
