"""Looking up and downloading repositories of the Hub: nothing but data, and one sentence when it cannot be done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError


MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
"""What an agent, a model or an adapter is read from. Neither code nor pickle files are among them."""

AGENT_FILE = "t3_agent.json"
"""The file that makes a folder or repo an agent."""

AGENT_FILES = [
    *("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json", "generation_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"),
    *("special_tokens_map.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json"),
]
"""What an earlier push of an agent may have left: with another sort of weights it would still be loaded."""

# Folders hold checkpoints and other forms of the weights; `consolidated` is a second copy of them.
_PASSED_OVER = ["*/*", "consolidated*.safetensors"]


def has_file(repo_id: str, filename: str, revision: str | None = None, token: str | bool | None = None) -> bool:
    """Whether a model repo has a file. When the Hub cannot be asked, the local cache answers.

    Args:
        repo_id (`str`): `user/name`.
        filename (`str`): path in the repo.
        revision (`str`, *optional*): branch, tag or commit.
        token (`str` or `bool`, *optional*): as in `huggingface_hub`.

    Raises:
        InputError: when the name cannot be that of a repo, or the repo may not be read.
    """
    from huggingface_hub import file_exists, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, HTTPError

    try:
        return file_exists(repo_id, filename, revision=revision, token=token)
    except HFValidationError:
        raise InputError(f"`{repo_id}` is neither a folder nor the id of a Hub repo.") from None
    except GatedRepoError as error:
        raise InputError(sentence(error, repo_id)) from None
    except (HTTPError, OSError):
        return isinstance(try_to_load_from_cache(repo_id, filename, revision=revision), str)


def download_model(
    repo_id: str, revision: str | None = None, token: str | bool | None = None, code: bool = False
) -> Path:
    """Local copy of a model, adapter or agent repo: configuration, weights and processor, see `MODEL_FILES`.

    Names and sizes are checked before anything is downloaded, see [`~t3_agents.hub.safe_loading.check_listing`].

    Raises:
        InputError: when the repo cannot be reached, or has a file that cannot be what it says.
    """
    # `code` is for `trust_remote_code=True` alone.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError, HFValidationError

    from .safe_loading import check_listing

    arguments: dict[str, Any] = {
        "revision": revision,
        "token": token,
        "allow_patterns": [*MODEL_FILES, "*.py"] if code else MODEL_FILES,
        "ignore_patterns": _PASSED_OVER,
    }
    with hub_errors(repo_id):
        try:
            listing = snapshot_download(repo_id, dry_run=True, **arguments)
        except DryRunError:
            listing = []  # offline: what is in the cache is looked at by `check_folder`
        except HFValidationError:
            raise InputError(f"`{repo_id}` is neither a folder nor the id of a Hub repo.") from None
        check_listing(repo_id, {entry.filename: entry.file_size for entry in listing})
        return Path(snapshot_download(repo_id, **arguments))


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turn what the client raises into an [`InputError`] of one sentence that says what to do."""
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        yield
    except InputError:
        raise
    except (HTTPError, HFValidationError, OSError) as error:
        raise InputError(sentence(error, repo_id)) from error
    except ValueError as error:
        # The Hub's checks of a card's metadata, say.
        raise InputError(f"The Hub refused `{repo_id}`: {' '.join(str(error).split())}") from error
    except RuntimeError as error:
        # The client wraps what failed in one of its upload threads.
        if not isinstance(error.__cause__, (HTTPError, OSError)):
            raise
        raise InputError(sentence(error.__cause__, repo_id)) from error


def sentence(error: Exception, repo_id: str) -> str:
    """Why a call to the Hub failed and what to do, in one sentence.

    Args:
        error (`Exception`): what `huggingface_hub` raised.
        repo_id (`str`): the repo that it was about.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    if isinstance(error, HFValidationError):
        return f"`{repo_id}` is not a name of a Hub repo: use `user/name` with letters, digits, `-`, `_` and `.`."
    if isinstance(error, OfflineModeIsEnabled):
        return f"`{repo_id}` needs the Hub, and HF_HUB_OFFLINE is set: unset it and try again."
    if isinstance(error, LocalTokenNotFoundError):
        return f"`{repo_id}` needs a token: log in with `hf auth login`, or set HF_TOKEN."
    if isinstance(error, RevisionNotFoundError):
        return f"`{repo_id}` has no branch, tag or commit of that name."
    if isinstance(error, GatedRepoError):
        return f"`{repo_id}` is gated: ask for access on its page and log in with `hf auth login`."
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return _of_status(error.response.status_code, error, repo_id)
    if isinstance(error, EntryNotFoundError):
        return f"`{repo_id}` is neither a folder nor a repo that is in the cache, and the Hub cannot be reached."
    return f"The Hub cannot be reached for `{repo_id}` ({type(error).__name__}): try again later."


def _of_status(status: int, error: Any, repo_id: str) -> str:
    from huggingface_hub.errors import RepositoryNotFoundError

    said = (error.server_message or "").strip().split("\n")[0].rstrip(".")
    said = f" (it says: {said})" if said else ""
    if "quota" in said.lower() or "storage" in said.lower() or status in (402, 413):
        return f"The Hub took no more data for `{repo_id}`: the storage quota of the account is used up{said}."
    if status == 401 and "credential" in (error.response.headers.get("X-Error-Message") or said).lower():
        return "The Hub does not know this token: log in again with `hf auth login`, or correct HF_TOKEN."
    if isinstance(error, RepositoryNotFoundError):
        return f"There is no repo `{repo_id}`, or it is private and the token may not read it."
    if status == 401:
        return f"`{repo_id}` needs a token: log in with `hf auth login`, or set HF_TOKEN."
    if status == 403:
        return (
            f"The token may not write to `{repo_id}`{said}: use a token with write right, or propose the change with "
            "`--create-pr`."
        )
    if status == 412:
        return f"Somebody else pushed to `{repo_id}` at the same time: run the same command again."
    if status == 429:
        return "The Hub asks to slow down (429) and did so after several tries: run the same command again later."
    if status >= 500:
        return f"The Hub has a problem of its own ({status}) and had it after several tries: run it again later."
    return f"The Hub refused `{repo_id}` ({status}){said}."
