"""Pages to look at: a dataset, a run's evaluation, a predictions file, or predicted files."""

from __future__ import annotations

from pathlib import Path

from posekit.config.cards import load_dataset_card
from posekit.config.plug_ins import takes_allow_code
from posekit.data.index import PoseIndex, build_index
from posekit.engine.evaluate import RunEvaluator, recipe_of
from posekit.engine.setup import read_heads
from posekit.errors import ConfigError
from posekit.pages.view import write_poses_view, write_view
from posekit.poses.read import read_poses, read_predictions
from posekit.poses.table import Poses


@takes_allow_code
def view(
    what: str | Path,
    out: str | Path = "view.html",
    *,
    head: str | None = None,
    dataset: str | None = None,
    split: str | None = None,
    root: str | Path | None = None,
    limit: int = 600,
    allow_code: bool = False,
) -> Path:
    """Write one offline page of what there is to see.

    Args:
        what: a run's folder (its evaluation of `head`); a predictions file of a dataset (give
            `dataset`, `split` and `root`); a folder or *.poses.json of `posekit predict`; or the
            name or path of a dataset's card (give `split` and `root`).
        out: the page.
        head: which head of the run; may be left out if one only was evaluated.
        dataset, split, root: the dataset that a predictions file or a card speaks of.
        limit: most instances on the page.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Raises:
        ConfigError: something of the above is missing.
        PosekitError: there is nothing to show.
    """
    path = Path(what)
    if path.is_dir() and (path / "recipe.yaml").is_file():
        index, file = _evaluated(path, head)
        return write_view(out, index, _predictions(file, index), limit=limit)
    is_predicted = path.is_dir() or path.name.endswith((".poses.json", ".poses.jsonl"))
    if is_predicted and dataset is None:
        return write_poses_view(out, read_poses(path), str(path), limit=limit)
    name = dataset if dataset is not None else str(what)
    if split is None or root is None:
        raise ConfigError(f"{what}: to look at a dataset, give --split and --root as well")
    index = build_index(load_dataset_card(name), root, split)
    predictions = _predictions(path, index) if dataset is not None else None
    return write_view(out, index, predictions, limit=limit)


def _predictions(file: Path, index: PoseIndex) -> Poses:
    return read_predictions(file, index.schema, index.columns).predictions


def _evaluated(run: Path, head: str | None) -> tuple[PoseIndex, Path]:
    """Return the index and the predictions of a run's evaluated head."""
    files = {f.parent.name: f for f in sorted(run.glob("eval/*/predictions.json"))}
    if not files:
        raise ConfigError(f"{run}: nothing was evaluated yet; run `posekit eval {run}` first")
    if head is None and len(files) > 1:
        raise ConfigError(f"{run}: choose one with --head ({', '.join(files)})")
    name = head or next(iter(files))
    if name not in files:
        raise ConfigError(f"{run}: head '{name}' was not evaluated (there are: {', '.join(files)})")
    recipe = recipe_of(run)
    evaluator = RunEvaluator(recipe, read_heads(recipe), [name])
    return evaluator.index(name), files[name]
