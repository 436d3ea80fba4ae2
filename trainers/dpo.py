"""Step-wise preference tuning: a saved agent learns to prefer the right one of two next steps.

Source: after tuning on trajectories, SPORT (P. Li et al., "Iterative Tool Usage Exploration for Multimodal Agents via
Step-wise Preference Tuning", arXiv 2504.21561) tunes on pairs of steps at the same history with DPO (R. Rafailov et
al., "Direct Preference Optimization", NeurIPS 2023). The trainer is TRL's; the reference is the agent itself, which is
the model with its new adapter switched off.

The command is `t3 dpo`, since TRL has one command per method as well (`trl sft`, `trl dpo`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3_agents.errors import InputError
from t3_agents.models.encoding import ChatEncoder, Conversation

from .collators import IGNORE, TrajectoryCollator, encode_row, row_name
from .config import PreferenceConfig


if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin
    from trl import DPOTrainer

    from t3_agents.agent.agent import T3Agent

COLUMNS = ("prompt", "chosen", "rejected", "images")


def tune_on_pairs(config: PreferenceConfig) -> Path:
    """Tune and save an agent; a run that was stopped resumes from its last checkpoint.

    Args:
        config ([`PreferenceConfig`]): the recipe.

    Returns:
        `Path`: the tuned agent, `<output_dir>/agent`.

    Raises:
        InputError: when dataset, agent or recipe cannot be used.
        RunFolderError: when the output folder holds another run.
    """
    from .loading import load_rows, saved_agent, tune
    from .report import write_preference_report

    def prepare() -> tuple[T3Agent, DPOTrainer]:
        dataset = load_rows(config.dataset_name, config.dataset_train_split)
        agent = saved_agent(config, dataset)
        return agent, build_preference_trainer(config, agent.model.model, agent.model.processor, dataset)

    return tune("dpo", config, prepare, write_preference_report)


def build_preference_trainer(
    config: PreferenceConfig, model: PreTrainedModel, processor: ProcessorMixin, train_dataset: Dataset
) -> DPOTrainer:
    """A TRL trainer for pairs of steps: LoRA adapter, [`PreferenceCollator`], reference without the adapter.

    Args:
        config ([`PreferenceConfig`]): the recipe.
        model ([`~transformers.PreTrainedModel`]): the controller, without an adapter.
        processor ([`~transformers.ProcessorMixin`]): its processor.
        train_dataset ([`~datasets.Dataset`]): rows with `prompt`, `chosen`, `rejected` and `images`.

    Raises:
        InputError: when the dataset has no rows or no pairs, its first row does not suit the model, or no module
            matches `lora_target_modules`.
    """
    from trl import DPOConfig, DPOTrainer

    from .trainer import new_trainer

    missing = [name for name in COLUMNS if name not in train_dataset.column_names]
    if missing:
        raise InputError(f"The dataset has no column `{missing[0]}`: pairs have {', '.join(COLUMNS)}.")
    if len(train_dataset) == 0:
        raise InputError(f"The split `{config.dataset_train_split}` has no pairs to train on.")
    collator = PreferenceCollator(ChatEncoder(processor), config.max_length)
    collator([train_dataset[0]])  # a dataset that does not suit the model stops the run at its start
    return new_trainer(
        DPOTrainer,
        config,
        config.arguments(DPOConfig, model),
        model=model,
        data_collator=collator,
        train_dataset=train_dataset,
        processing_class=processor,
    )


class PreferenceCollator:
    """Collates pairs for TRL's DPOTrainer with the encoder that agents run with.

    TRL's own collator for pictures re-tokenizes what the model produced, counts what the chat template writes after a
    turn as part of the answer, and lets words in a file open a turn; see `tests/trainers/test_dpo.py`.

    A row needs `prompt` (messages), `images` (of its placeholders), `chosen` and `rejected` (one assistant turn each);
    `id` is used in errors, `output_ids` where the produced ids are known, see [`rejection_sampling.step_pairs`].

    Args:
        encoder ([`ChatEncoder`]): of the model's processor.
        max_length (`int`, *optional*): tokens that a prompt with one of its turns may have.

    Raises:
        InputError: when called with a row that is longer, whose turns are no single assistant turn, or whose pictures
            do not fit its placeholders; the message names the row.
    """

    def __init__(self, encoder: ChatEncoder, max_length: int | None = None):
        self.max_length = max_length
        self._rows = TrajectoryCollator(encoder, pixel_cache_mb=0)  # batches are random, so none comes again

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """A batch: all chosen turns, then all rejected ones.

        Returns:
            `dict`: `input_ids`, `attention_mask` and `completion_mask` of shape `(2 * pairs, length)`, where the last
                one marks the tokens that the model produced, and the inputs of the pictures.
        """
        batch = self._rows.pad([self.encode(row, side) for side in ("chosen", "rejected") for row in rows])
        batch["completion_mask"] = (batch.pop("labels") != IGNORE).long()
        return batch

    def encode(self, row: dict[str, Any], side: str) -> Conversation:
        """Token ids of the prompt and one of its turns, with that turn alone as produced.

        Args:
            row (`dict`): a pair.
            side (`str`): `chosen` or `rejected`.
        """
        turn, known = row[side], row.get("output_ids")
        if [message["role"] for message in turn] != ["assistant"]:
            raise InputError(f"Row {row_name(row)}: `{side}` has to be one assistant turn.")
        output_ids = [*known["prompt"], known[side]] if known else None
        conversation = encode_row(self._rows.encoder, row, [*row["prompt"], *turn], output_ids)
        if self.max_length is not None and len(conversation.ids) > self.max_length:
            raise InputError(
                f"Row {row_name(row)} has {len(conversation.ids)} tokens with its {side} turn, beyond "
                f"max_length={self.max_length}: raise max_length, or leave the row out of the dataset."
            )
        for start, end in conversation.turns[:-1]:
            conversation.produced[start:end] = [False] * (end - start)
        return conversation
