"""Models on the Hugging Face Hub, fetched by an address like 'hf:owner/name'."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import ModuleType

from posekit.errors import CheckpointError, ConfigError

HUB = "hf:"
MODEL_FILE = "model.safetensors"
_ADDRESS = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def is_address(path: object) -> bool:
    """Return whether this is an address 'hf:owner/name' and no path."""
    return str(path).startswith(HUB)


def fetch_model(address: str) -> Path:
    """Download a model once and give its file; later calls need no network.

    Args:
        address: 'hf:owner/name' or 'hf:owner/name@revision'.

    Raises:
        ConfigError: another form of address.
        CheckpointError: no such repository, no model in it, or no network.
    """
    repo, revision = parse_address(address)
    hub = require_hub()
    try:
        file = hub.hf_hub_download(
            repo, MODEL_FILE, revision=revision, endpoint=os.environ.get("HF_ENDPOINT")
        )
    except hub.errors.LocalEntryNotFoundError:
        reason = "it is not on this machine yet and the Hub cannot be reached"
    except hub.errors.RepositoryNotFoundError:
        reason = "there is no such repository, or it is private and you are not logged in"
    except hub.errors.RevisionNotFoundError:
        reason = f"it has no revision '{revision}'"
    except hub.errors.EntryNotFoundError:
        reason = f"there is no {MODEL_FILE} in it; was it pushed by posekit?"
    except (hub.errors.HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    else:
        return Path(file)
    raise CheckpointError(f"{address}: {reason}")


def parse_address(address: str) -> tuple[str, str | None]:
    """Return repository and revision of an address; ConfigError if it has another form."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ConfigError(f"{address}: expected hf:owner/name or hf:owner/name@revision")
    return found["repo"], found["revision"]


def require_hub() -> ModuleType:
    """Return huggingface_hub; CheckpointError names the extra."""
    try:
        import huggingface_hub  # noqa: PLC0415 - an extra
        import huggingface_hub.errors  # noqa: PLC0415
    except ImportError:
        raise CheckpointError(
            "sharing models needs the package 'huggingface_hub', which is not installed; install "
            "the extra with: pip install 'posekit[hub]'"
        ) from None
    return huggingface_hub
