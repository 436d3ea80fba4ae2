"""From smolagents' memory to the record and to messages; the rendering itself is that of [`render_messages`]."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from PIL import Image
from smolagents.memory import ActionStep, MemoryStep, PlanningStep, TaskStep
from smolagents.models import ChatMessage, MessageRole

from ..models.vlm import Generation
from ..trajectory import Step, render_messages
from ..turns import called_tools, parse_turn


def to_step(memory_step: MemoryStep, tags: tuple[str, str], tools: Collection[str]) -> Step:
    """A memory step as a [`Step`], whose pictures are numbered from 0.

    Args:
        memory_step (`MemoryStep`): of the task, a plan or an action.
        tags (`tuple[str, str]`): opening and closing tag of code.
        tools (`Collection[str]`): names of the tools that code may call.
    """
    images = list(range(len(pictures_of(memory_step))))
    if isinstance(memory_step, TaskStep):
        return Step(kind="task", observation=memory_step.task, images=images)
    usage = memory_step.token_usage
    step = Step(
        model_output=_output_of(memory_step),
        images=images,
        input_tokens=usage.input_tokens if usage else 0,
        output_tokens=usage.output_tokens if usage else 0,
        seconds=seconds_of(memory_step),
    )
    if isinstance(memory_step, PlanningStep):
        step.kind = "plan"
        return step
    step.thought, code, _ = parse_turn(step.model_output, tags)
    step.code = memory_step.code_action or code
    step.observation = memory_step.observations or ""
    step.error = memory_step.error.message if memory_step.error else None
    step.tools = called_tools(step.code, tools)
    step.is_final = memory_step.is_final_answer
    generation = _generation_of(memory_step)
    step.output_ids = list(generation.output_ids) if generation else None
    return step


def to_messages(
    memory: Sequence[MemoryStep], system_prompt: str, tags: tuple[str, str], tools: Collection[str]
) -> list[ChatMessage]:
    """Memory steps as messages for a model: pictures as they are, and with each turn of the model what it produced.

    Args:
        memory (`Sequence[MemoryStep]`): the steps, the task first.
        system_prompt (`str`): text of the system turn; none when empty.
        tags (`tuple[str, str]`), tools (`Collection[str]`): see [`to_step`].
    """
    steps = [to_step(step, tags, tools) for step in memory]
    pictures = [image for step in memory for image in pictures_of(step)]
    first = steps[0] if steps and steps[0].kind == "task" else Step()
    messages = render_messages(system_prompt, first.observation, len(first.images), steps[1:] if steps else [])
    turns = [step for step in memory if isinstance(step, (ActionStep, PlanningStep))]
    generations = iter([step for step in turns if _output_of(step) or _generation_of(step)])
    remaining = iter(pictures)
    chat = []
    for message in messages:
        content = [
            {"type": "image", "image": next(remaining)} if c["type"] == "image" else c for c in message["content"]
        ]
        raw = _generation_of(next(generations)) if message["role"] == "assistant" else None
        chat.append(ChatMessage(role=MessageRole(message["role"]), content=content, raw=raw))
    return chat


def pictures_of(step: MemoryStep) -> list[Image.Image]:
    """Pictures that a step brought."""
    if isinstance(step, TaskStep):
        return list(step.task_images or [])
    return list(step.observations_images or []) if isinstance(step, ActionStep) else []


def seconds_of(step: ActionStep | PlanningStep) -> float:
    """Wall-clock seconds of a step so far; 0 when the clock was set back meanwhile."""
    return max(0.0, round((step.timing.end_time or time.time()) - step.timing.start_time, 3))


def _output_of(step: ActionStep | PlanningStep) -> str:
    output = step.plan if isinstance(step, PlanningStep) else step.model_output
    return output if isinstance(output, str) else ""


def _generation_of(step: ActionStep | PlanningStep) -> Generation | None:
    message = step.model_output_message if isinstance(step, ActionStep) else None
    return message.raw if message is not None and isinstance(message.raw, Generation) else None
