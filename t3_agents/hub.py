"""Looking up saved agents on the Hub."""

from __future__ import annotations

from pathlib import Path

from .config import AGENT_FILE
from .errors import InputError


def has_agent(repo_id: str, revision: str | None = None) -> bool:
    """Whether a repo holds an agent; `False` when the Hub cannot be asked.

    Raises:
        InputError: when the name cannot be that of a repo.
    """
    from huggingface_hub import file_exists
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        return file_exists(repo_id, AGENT_FILE, revision=revision)
    except HFValidationError:
        raise InputError(f"`{repo_id}` is neither a folder nor the id of a Hub repo.") from None
    except (HTTPError, OSError):
        return False  # offline: the model may still be in the cache


def download_agent(repo_id: str, revision: str | None = None) -> Path:
    """Local copy of a repo: configuration, weights and processor; no code and no pickle files.

    Raises:
        InputError: when the repo cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        return Path(
            snapshot_download(
                repo_id, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt"]
            )
        )
    except (HFValidationError, HTTPError, OSError) as error:
        raise InputError(
            f"`{repo_id}` is neither a folder nor a repo that can be reached ({type(error).__name__})."
        ) from error
