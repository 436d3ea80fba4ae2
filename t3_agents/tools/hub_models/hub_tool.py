"""Tools whose code lies in a repo of the Hub, run only where the caller trusts it, at a commit that is kept."""

from __future__ import annotations

from pathlib import Path

from smolagents import Tool

from t3_agents.errors import InputError


def load_hub_tool(repo: str, revision: str | None = None, trust_remote_code: bool = False) -> Tool:
    """Download and run the code of a tool on the Hub; its `hub_record` is what is saved with an agent, never the code.

    Args:
        repo (`str`): id of a Space with the file `tool.py`, as smolagents' `push_to_hub` writes it.
        revision (`str`, *optional*): branch, tag or commit; what it points to now is kept in the record.
        trust_remote_code (`bool`, *optional*, defaults to `False`): that you have read the code and want to run it.

    Raises:
        InputError: when the code is not trusted, cannot be downloaded, or is no tool.
    """
    if not trust_remote_code:
        raise InputError(
            f"The tool `{repo}` is code from the Hub: read it, then pass `trust_remote_code=True` to run it here."
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        file = Path(hf_hub_download(repo, "tool.py", repo_type="space", revision=revision))
    except (HFValidationError, HTTPError, OSError) as error:
        raise InputError(f"The tool `{repo}` cannot be downloaded from the Hub ({type(error).__name__}).") from error
    try:
        tool = Tool.from_code(file.read_text(encoding="utf-8"))
    except Exception as error:  # code of somebody else may raise anything
        raise InputError(f"`tool.py` of `{repo}` makes no tool ({type(error).__name__}: {error}).") from error
    # The cache keeps files below `snapshots/<commit>`.
    tool.hub_record = {"hub": repo, "revision": file.parent.name}
    return tool
