"""The form of a conversation: what a [`Step`] holds, how a turn is read, how an observation is worded and cut, and the
one renderer that makes chat messages of steps.

The agent sends the rendered messages to its model at every step and the collator trains on the same ones, so what is
trained is what is run.
"""

from __future__ import annotations

import ast
import itertools
import re
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import InputError
from .storage import from_record


CODE_OPEN, CODE_CLOSE = "```py", "```<end_action>"
"""Tags around the code of an assistant turn, as in the released MM-Traj data."""
FENCE = "```"
PROCEED = "Now proceed and carry out this plan."
"""The user turn behind a plan."""

MOST_TAGS = 20
"""Tags of a turn that are tried as the beginning or the end of its code, so that reading takes linear time."""

_parsing = threading.RLock()


@dataclass
class Step:
    """One turn of the controller and what came back.

    Args:
        kind (`str`): `action` (thought and code), `plan` (a plan of smolagents' planning steps), or `task` (a further
            request of the user in the same conversation, whose words are in `observation`).
        model_output (`str`): the exact text of the assistant turn, without the end-of-turn token.
        thought (`str`), code (`str`): the two parts of `model_output`; `code` is empty when none could be parsed.
        observation (`str`): what the code printed and returned.
        error (`str`, *optional*): why the step failed.
        images (`list[int]`): indexes into the trajectory's `images` of the pictures this step brought.
        tools (`list[str]`): names of the tools that were called, in order.
        output_ids (`list[int]`, *optional*): token ids that the model produced, end-of-turn token included if it came.
        is_final (`bool`): the step gave the answer; nothing is shown to the controller after it.
        input_tokens (`int`), output_tokens (`int`): tokens read and produced by the model.
        seconds (`float`): wall-clock time of the step.
    """

    kind: str = "action"
    model_output: str = ""
    thought: str = ""
    code: str = ""
    observation: str = ""
    error: str | None = None
    images: list[int] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    output_ids: list[int] | None = None
    is_final: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    @property
    def has_turn(self) -> bool:
        """Whether the controller said something; one that ends its turn at once has produced one id."""
        return bool(self.model_output or self.output_ids)

    def read(self, text: str, tags: tuple[str, str] = (CODE_OPEN, CODE_CLOSE), tools: Collection[str] = ()) -> int:
        """Fill in what the controller wrote, and the parts of it.

        Args:
            text (`str`): the turn.
            tags (`tuple[str, str]`, *optional*): see [`parse_turn`].
            tools (`Collection[str]`, *optional*): names of what code may call.

        Returns:
            `int`: the number of code blocks.
        """
        self.model_output = text
        self.thought, self.code, blocks = parse_turn(text, tags)
        self.tools = called_tools(self.code, tools)
        return blocks

    def observation_text(self) -> str:
        """Words of the user turn that follows an action."""
        parts = [self.observation.strip()] if self.observation.strip() else []
        if self.error:
            parts.append(f"Error: {self.error.strip()}")
        return "Observation: " + ("\n".join(parts) or "nothing was printed.")

    def to_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Step:
        """Read a step record.

        Raises:
            InputError: naming the field that is unknown or of a wrong type.
        """
        step = from_record(cls, record, "step")
        if step.kind not in ("action", "plan", "task"):
            raise InputError(f"Field `kind` of the step must be action, plan or task, not `{step.kind}`.")
        return step


def render_messages(
    system_prompt: str, task_text: str | None, num_images: int, steps: Sequence[Step]
) -> list[dict[str, Any]]:
    """The one renderer: chat messages of a conversation, with `{"type": "image"}` placeholders.

    Observations and the pictures of a step go into *user* turns, because the templates of most VLMs drop images in
    tool turns. Roles alternate. A picture appears once, where it came up.

    Args:
        system_prompt (`str`): text of the system turn; no system turn when empty.
        task_text (`str`, *optional*): text of the first user turn; `None` when `steps` has all turns.
        num_images (`int`): pictures attached to the task.
        steps (`Sequence[Step]`): what happened so far.

    Returns:
        `list[dict]`: messages `{"role": str, "content": [{"type": "text", "text": str} | {"type": "image"}]}`.
    """
    messages: list[dict[str, Any]] = []

    def say(role: str, images: int, text: str) -> None:
        content = [{"type": "image"} for _ in range(images)] + [{"type": "text", "text": text}]
        if messages and messages[-1]["role"] == role:
            add_parts(messages[-1]["content"], content)
        else:
            messages.append({"role": role, "content": content})

    if system_prompt:
        say("system", 0, system_prompt)
    if task_text is not None:
        say("user", num_images, task_text)
    for step in steps:
        if step.kind == "task":
            say("user", len(step.images), step.observation)
            continue
        if step.has_turn:
            say("assistant", 0, step.model_output)
        if step.kind == "plan":
            say("user", 0, PROCEED)
        elif not step.is_final:
            say("user", len(step.images), step.observation_text())
    return messages


def add_parts(parts: list[dict[str, Any]], more: Sequence[dict[str, Any]]) -> None:
    """Add parts to a message of the same role. Texts that meet are joined with a line break: a chat template writes
    one behind the other, so that `12` and `3 apples` would be read as `123 apples`."""
    for part in more:
        if parts and part["type"] == parts[-1]["type"] == "text":
            texts = [parts[-1]["text"], part["text"]]
            parts[-1] = {"type": "text", "text": "\n".join(text for text in texts if text)}
        else:
            parts.append(part)


def parse_turn(text: str, tags: tuple[str, str] = (CODE_OPEN, CODE_CLOSE)) -> tuple[str, str, int]:
    """Split an assistant turn into its parts.

    Args:
        text (`str`): what the model wrote.
        tags (`tuple[str, str]`): opening and closing tag; ```` ```python ```` and a plain closing fence are understood
            too.

    Returns:
        `tuple[str, str, int]`: thought, code of the first block, and the number of blocks. A block that was never
            closed has no code but counts. The code ends at the first tag or fence before which it is valid Python, so
            that both may stand in its strings; a tag that was half written ends it too.
    """
    names = f"(?:{re.escape(tags[0])}|{FENCE}python|{FENCE}py)" + (r"(?!\w)" if tags[0][-1:].isalnum() else "")
    begun = re.compile(rf"{names}[^\S\n]*\n")
    for opening in itertools.islice(re.finditer(rf"{names}[^\S\n]*(\n?)", text), MOST_TAGS):
        code, end = _first_code(text[opening.end() :], tags[1])
        # Code on the line of the tag; what is no Python is a word about tags.
        if opening[1] or (code and is_python(code)):
            break
    else:
        opening, code, end = begun.search(text), "", None
    thought = text[: opening.start()] if opening else text
    thought = thought.strip().removeprefix("Thought:").removesuffix("Code:").strip()
    if not opening:
        return thought, "", 0
    return thought, code, 1 + len(begun.findall(text, opening.end() + (end or 0)))


def _first_code(body: str, tag: str) -> tuple[str, int | None]:
    """The code at the start of a text, and the place where it ends; nothing where it has no end."""
    ends = [match.start() for match in re.finditer(f"{re.escape(tag)}|^{FENCE}", body, re.MULTILINE)]
    tried = ends if len(ends) <= 2 * MOST_TAGS else ends[:MOST_TAGS] + ends[-MOST_TAGS:]
    whole = body.rstrip()
    # One letter of a tag may be an operator, unless it stands alone.
    halves = [size for size in range(min(len(tag), len(whole)) - 1, 0, -1) if whole[-size:] in tag]
    tried += [len(whole) - size for size in halves if size > 1 or whole[-2:-1] == "\n" or whole[-1] == "`"]
    found = next((end for end in tried if body[:end].strip() and is_python(body[:end].strip("\n"))), None)
    if found is None and ends:
        found = ends[0]
    return ("", None) if found is None else (body[:found].strip("\n"), found)


def write_turn(thought: str, code: str) -> str:
    """An assistant turn in the form that [`parse_turn`] reads."""
    return f"Thought: {thought}\nCode:\n{CODE_OPEN}\n{code}\n{CODE_CLOSE}"


def parse_python(code: str, mode: str = "exec") -> Any:
    """`ast.parse`, by one thread at a time: CPython 3.11 counts the depth of the trees of all threads together.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: when `code` is no Python.
    """
    with _parsing:
        return ast.parse(code, mode=mode)


def is_python(code: str) -> bool:
    """Whether it can be compiled."""
    try:
        parse_python(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def called_tools(code: str, names: Collection[str]) -> list[str]:
    """Names of the tools that `code` calls, in the order of the source. Code that does not parse calls none."""
    try:
        calls = [node for node in ast.walk(parse_python(code)) if isinstance(node, ast.Call)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    named = [node.func for node in calls if isinstance(node.func, ast.Name) and node.func.id in names]
    return [name.id for name in sorted(named, key=lambda name: (name.lineno, name.col_offset))]


def execution_error(error: Exception) -> str:
    """The part of an executor's message that helps the model: what went wrong at which line, without boilerplate."""
    text = str(error).strip() or type(error).__name__
    text = text.split("due to: ", 1)[-1] if text.startswith("Code execution failed at line") else text
    return shorten(text, 500)


def shorten(text: str, limit: int) -> str:
    """At most about `limit` characters: what is too much is taken out of the middle, and said."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters left out]\n{text[-half:]}"
