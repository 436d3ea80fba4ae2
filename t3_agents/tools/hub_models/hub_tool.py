"""Tools whose code lies in a repo of the Hub, run only where the caller trusts it, at a commit that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smolagents import Tool

from t3_agents.errors import InputError


class HubTool(Tool):
    """A tool of a Space with the file `tool.py`, as smolagents' `push_to_hub` writes it.

    Args:
        tool ([`~smolagents.Tool`]): the loaded tool; this one takes its name, inputs and output type.
        repo (`str`): id of the Space.
        revision (`str`): commit that its code was taken from.
    """

    skip_forward_signature_validation = True
    name = "hub_tool"
    description = ""
    inputs: dict[str, dict[str, Any]] = {}
    output_type = "any"

    def __init__(self, tool: Tool, repo: str, revision: str):
        self.name, self.description = tool.name, tool.description
        self.inputs, self.output_type = tool.inputs, tool.output_type
        self.tool, self.repo, self.revision = tool, repo, revision
        super().__init__()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.tool(*args, **kwargs)

    def record(self) -> dict[str, str]:
        """What is saved of it with an agent: where its code is, never the code."""
        return {"hub": self.repo, "revision": self.revision}


def load_hub_tool(repo: str, revision: str | None = None, trust_remote_code: bool = False) -> HubTool:
    """Download and run the code of a tool on the Hub.

    Args:
        repo (`str`): id of a Space.
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
    return HubTool(tool, repo, file.parent.name)
