"""A saved agent before and after tuning: it keeps its tools, its prompt and its limits, only the weights change."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from t3_agents.agent.agent import T3Agent
from t3_agents.hub.repos import AGENT_FILE
from t3_agents.models.vlm import VLMModel

from .checkpoints import last_checkpoint


if TYPE_CHECKING:
    from transformers import Trainer


def load_to_tune(name: str, revision: str | None = None) -> T3Agent:
    """A saved agent that can get an adapter.

    Args:
        name (`str`): folder or Hub id of the agent.
        revision (`str`, *optional*): branch, tag or commit of the repo.

    Raises:
        InputError: when it is no saved agent.
    """
    return merge_adapter(T3Agent.from_pretrained(name, revision=revision))


def merge_adapter(agent: T3Agent) -> T3Agent:
    """Make an agent's controller one model: an adapter is merged, since TRL takes no second one."""
    from peft import PeftModel

    model = agent.model.model
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
        # The next adapter belongs to the merged weights, which are nowhere: the agent is then saved whole.
        model.name_or_path = ""
        agent.model.model, agent.model.revision = model, None
    return agent


def train_on(trainer: Trainer, folder: Path) -> None:
    """Train from the last complete checkpoint of a folder on."""
    checkpoint = last_checkpoint(folder)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def save_tuned(agent: T3Agent, trainer: Trainer, folder: Path) -> Path:
    """Save an agent with the weights of a finished training.

    Args:
        agent ([`T3Agent`]): whose model was tuned.
        trainer ([`~transformers.Trainer`]): after `train`.
        folder (`Path`): of the run.

    Returns:
        `Path`: the tuned agent, see [`tuned_folder`].
    """
    old = agent.model
    agent.model = VLMModel(
        trainer.accelerator.unwrap_model(trainer.model),
        old.processor,
        model_id=old.model_id,
        revision=old.revision,
        **old.generation,
    )
    target, scratch = tuned_folder(folder), folder / ".agent"
    shutil.rmtree(scratch, ignore_errors=True)
    agent.save_pretrained(scratch)
    scratch.rename(target)
    return target


def tuned_folder(folder: Path) -> Path:
    """Where the tuned agent of a run is saved."""
    return folder / "agent"


def is_tuned(folder: Path) -> bool:
    """Whether a run is complete."""
    return (tuned_folder(folder) / AGENT_FILE).is_file()
