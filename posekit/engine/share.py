"""Share a model on the Hugging Face Hub: weights, card, recipe and numbers."""

from __future__ import annotations

import copy
import json
import os
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from posekit.config.plug_ins import takes_allow_code
from posekit.engine.model_card import metrics_files, model_card
from posekit.errors import CheckpointError
from posekit.inference.hub import HUB, MODEL_FILE, parse_address, require_hub
from posekit.inference.predictor import model_file
from posekit.models import PoseModel, load_checkpoint, load_model, save_checkpoint
from posekit.output import write_json, write_text

_LOCAL_PATH = re.compile(r"(~|/|[A-Za-z]:[\\/]).*")


@dataclass(frozen=True)
class Shared:
    """What was shared.

    Attributes:
        address: what `posekit.load` takes.
        url: where the commit can be seen.
        files: names in the repository.
        notes: sentences about what was left out or changed.
    """

    address: str
    url: str
    files: list[str]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(vars(self))


@takes_allow_code
def push_to_hub(
    model: str | Path,
    repo: str,
    *,
    private: bool = True,
    licence: str = "other",
    message: str = "Share a posekit model",
    allow_code: bool = False,
) -> Shared:
    """Put a model with its card, recipe and numbers into a repository of the Hub.

    Images, annotations, predictions and optimiser state stay here, as do this machine's paths. Log
    in with `hf auth login` or HF_TOKEN.

    Args:
        model: a run's folder (its last model is taken) or a model file.
        repo: 'owner/name'; made if it is not there.
        private: make a new repository private.
        licence: identifier of the weights' licence, for the card.
        message: the commit's message.
        allow_code: let code that the model's heads name run; it is not shared.

    Raises:
        CheckpointError: no model, not logged in, or the Hub refuses; nothing is left half-shared,
            a push is one commit.
        ConfigError: another form of `repo`.
    """
    repo, _ = parse_address(repo if repo.startswith(HUB) else f"{HUB}{repo}")
    hub = require_hub()
    api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    with tempfile.TemporaryDirectory() as folder:
        notes = write_shared(model, folder, address=repo, licence=licence)
        files = sorted(str(f.relative_to(folder)) for f in Path(folder).rglob("*") if f.is_file())
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
        except (hub.errors.HfHubHTTPError, hub.errors.LocalTokenNotFoundError, OSError) as error:
            raise CheckpointError(_refused(repo, error)) from None
    return Shared(f"{HUB}{repo}", str(done), files, notes)


@takes_allow_code
def write_shared(
    model: str | Path,
    folder: str | Path,
    *,
    address: str | None = None,
    licence: str = "other",
    allow_code: bool = False,
) -> list[str]:
    """Write what would be shared into a folder; return notes on what was left out or changed.

    The folder holds model.safetensors, README.md (the card), and, if the model knows them,
    recipe.yaml and eval/HEAD/metrics.json. `posekit.load` takes the folder too.
    """
    source, target = model_file(model), Path(folder)
    net = load_model(source)
    _, about = load_checkpoint(source)
    notes: list[str] = []
    code = _hide_code_paths(net)
    if code:
        notes.append(
            f"the heads' code is not shared: {', '.join(code)}; who uses the model puts it into "
            "the working folder and allows it"
        )
    recipe = about.get("recipe")
    if recipe is None:
        notes.append("the model knows no recipe, so the card does not tell how it was trained")
    else:
        changed = copy.deepcopy(recipe)
        removed = _hide_paths(changed)
        if removed:
            notes.append(
                f"paths of this machine were taken out of the recipe: {', '.join(removed)}"
            )
        about["recipe"] = changed
    kept: dict[str, Any] = {
        key: about[key] for key in ("recipe", "step", "boxes", "metrics") if key in about
    }
    save_checkpoint(target / MODEL_FILE, net, kept)
    if recipe is not None:
        text = yaml.safe_dump(about["recipe"], sort_keys=False, allow_unicode=True)
        write_text(target / "recipe.yaml", text)
    measured = metrics_files(model)
    for name, file in measured.items():
        content = json.loads(file.read_text(encoding="utf-8"))
        _hide_paths(content)
        write_json(target / "eval" / name / file.name, content)
    missing = [name for name in net.head_names if name not in measured]
    if missing:
        notes.append(f"not evaluated, and the card says so: {', '.join(missing)}")
    card = model_card(model, address=address, licence=licence)
    write_text(target / "README.md", card)
    return notes


def _hide_code_paths(net: PoseModel) -> list[str]:
    """Cut the paths of heads' code down to file names, in place; return the files' names."""
    files: set[str] = set()
    for name in net.head_names:
        head = net.head(name)
        decoder, codec = dict(head.spec.decoder), dict(head.spec.codec)
        for config in (decoder, codec):
            if _hide_paths(config):
                files.add(str(config["kind"]).partition(":")[0])
        head.spec = replace(head.spec, decoder=decoder, codec=codec)
    return sorted(files)


def _hide_paths(value: Any, where: str = "") -> list[str]:
    """Cut absolute paths in plain values down to their last part, in place; return their keys."""
    found: list[str] = []
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, item in items:
        name = f"{where}.{key}" if where else str(key)
        if isinstance(item, dict | list):
            found += _hide_paths(item, name)
        elif isinstance(item, str) and _LOCAL_PATH.fullmatch(item):
            value[key] = re.split(r"[\\/]", item.rstrip("\\/"))[-1]
            found.append(name)
    return found


def _refused(repo: str, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) or "Token" in type(error).__name__:
        return (
            f"{HUB}{repo}: the Hub does not let you write there; log in with `hf auth login` as "
            "its owner, or choose a repository of yours"
        )
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{HUB}{repo}: cannot be shared ({reason})"
