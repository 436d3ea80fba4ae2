"""The commands `t3 train` and `t3 dpo`. TRL takes seconds to import: what can be checked without it comes before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trainers
from t3_agents.errors import InputError
from t3_agents.hub.safe_loading import check_source
from t3_agents.reports import TRAINING_FILE


def check_early(argv: list[str]) -> None:
    """Check that a dataset and a folder for the run are named, and that folders that are named are there.

    Raises:
        InputError: naming the option.
    """
    given: dict[str, str] = {}
    for place, word in enumerate(argv):
        option, equals, value = word.partition("=")
        given[option.replace("_", "-")] = value if equals else "".join(argv[place + 1 : place + 2])
    if {"--help", "-h"} & given.keys():
        return
    for option in ("--dataset-name", "--output-dir"):
        if option not in given and "--config" not in given:
            raise InputError(f"`{option}` is missing: `--help` lists the options.")
    for option in {"--dataset-name", "--model-name-or-path"} & given.keys():
        check_source(given[option], option)


def train(config: trainers.TrajectoryConfig) -> int:
    """`t3 train`: tune, print a table."""
    from .sft import train

    if config.show_mask:
        from .show_mask import show_masks

        show_masks(config)
        return 0
    columns = {
        "rows": ("rows", "d"),
        "steps": ("steps", "d"),
        "packing": ("packing", ""),
        "final loss": ("final_loss", ".3f"),
        "tokens/s": ("tokens_per_second", ".0f"),
        "padding": ("padding_share", ".0%"),
        "seconds": ("train_seconds", ".0f"),
    }
    return _tune_and_show(config, train, columns)


def dpo(config: trainers.PreferenceConfig) -> int:
    """`t3 dpo`: tune, print a table."""
    from .dpo import tune_on_pairs

    columns = {
        "pairs": ("rows", "d"),
        "steps": ("steps", "d"),
        "final loss": ("final_loss", ".3f"),
        "reward accuracy": ("reward_accuracy", ".0%"),
        "reward margin": ("reward_margin", ".3f"),
    }
    return _tune_and_show(config, tune_on_pairs, columns)


def _tune_and_show(config: Any, tune: Callable[[Any], Path], columns: dict[str, tuple[str, str]]) -> int:
    """Tune, print a table and push the agent, where the recipe says so.

    Args:
        config ([`TuningConfig`]): the recipe.
        tune (`Callable`): tunes by the recipe, and returns the folder of the agent.
        columns (`dict`): of the table, by header: a number of the summary in `train.json`, and its format.
    """
    from accelerate import PartialState

    from t3_agents.hub.upload import Push
    from t3_agents.models.device import use_fastest_num_threads
    from t3_agents.reports.tables import NOTHING, Table, print_tables

    if config.push_to_hub:
        Push(Path(config.output_dir), config.hub_model_id)  # a wrong name is said before the training
    use_fastest_num_threads()
    agent = tune(config)
    if not PartialState().is_main_process:
        return 0
    summary = json.loads((Path(config.output_dir) / TRAINING_FILE).read_text())["summary"]
    cells = [NOTHING if summary[name] is None else format(summary[name], form) for name, form in columns.values()]
    print_tables(Table("", [*columns, "agent"], [[*cells, str(agent)]]))
    if config.push_to_hub:
        from t3_agents.cli import main as command

        dataset = [] if Path(config.dataset_name).exists() else ["--dataset", config.dataset_name]
        return command(["push", "agent", config.output_dir, config.hub_model_id, *dataset])
    return 0
