"""Hand-made trajectories as dataset rows, and trainers on the tiny model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t3_agents.media import encode_image
from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory
from tests.helpers import noise
from tests.helpers.tiny_vlm import make_step
from trainers.config import TrajectoryConfig
from trainers.sft import build_trainer


SYSTEM_PROMPT = "Solve the task step by step. In each step write a thought, then Python code that calls tools."
TINY = {
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_modules_to_save": ["connector"],
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "num_train_epochs": 1,
    "max_length": 2048,
    "max_new_tokens": 8,
    "report_to": "none",
}
"""A recipe for the tiny model."""
SAME = 1e-7
"""Relative difference that two ways of computing one loss or gradient in double precision stay below; rounding is
1e-15, and 1e-9 where it turns the last bit of a norm, which is computed in single precision inside the models."""
SAME_SHARED = 1e-5
"""The same for gradients of a shared prefix: its norms round the sum over the rows, of rows alone they round each."""

PACKING = {
    "none": {"packing": False},
    "length_grouped": {"packing": False, "train_sampling_strategy": "group_by_length"},
    "packed": {"packing_strategy": "packed"},
    "shared_prefix": {"packing_strategy": "shared_prefix"},
}
"""Options of the ways in which rows are put together, by what the report calls them."""


def picture(number: int, path: str) -> File:
    image = noise(number, (48 + 8 * (number % 3), 40)).convert("RGB")
    return File.from_bytes(encode_image(image), path)


def make_row(
    number: int,
    attached: int = 1,
    brought: Sequence[int] = (0,),
    output_ids: Sequence[list[int] | None] = (),
    system_prompt: str = SYSTEM_PROMPT,
) -> dict[str, Any]:
    """A row of the dataset, with texts whose lengths differ from number to number.

    Args:
        number (`int`): makes words and pictures of its own.
        attached (`int`, *optional*, defaults to 1): pictures of the task.
        brought (`Sequence[int]`, *optional*): pictures that each step before the last one brings.
        output_ids (`Sequence`, *optional*): produced ids by step, `None` where only the text is known.
        system_prompt (`str`, *optional*): text of the system turn.
    """
    files = [picture(10 * number + i, f"files/photo_{i}.png") for i in range(attached)]
    task = Task.create(f"What is shown in picture {number}{' and why' * (number % 4)}?", files, ground_truth="red")
    images, steps = list(task.images), []
    for position, count in enumerate(brought):
        new = [picture(100 * number + 10 * position + i, f"outputs/image_{position}_{i}.png") for i in range(count)]
        code = f"print(visualizer({number}, {position}{'0' * (number % 5)}))"
        seen = f"{number + position} euros" + ", in total" * ((number + position) % 3)
        shown = list(range(len(images), len(images) + count))
        steps.append(make_step(code, seen, thought=f"look{' again' * (number % 3)}", images=shown))
        images += new
    steps.append(make_step(f"final_answer('red {number}')", ""))
    for step, ids in zip(steps, output_ids, strict=False):
        step.output_ids = ids
    return Trajectory(task=task, system_prompt=system_prompt, steps=steps, images=images, answer="red").to_row()


def make_dataset(rows: Sequence[dict[str, Any]]) -> Any:
    """The rows as `load_dataset` gives them: encoded with the features of the dataset and read back."""
    from datasets import Dataset

    from dataset_builder.mm_traj import make_features, to_example

    return Dataset.from_list([to_example(row) for row in rows], features=make_features())


def write_dataset(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A dataset folder with one split, `train`, in Parquet."""
    target = folder / "data"
    target.mkdir(parents=True)
    make_dataset(rows).to_parquet(target / "train-00000-of-00001.parquet")
    return folder


def make_trainer(
    model_folder: Path,
    output: Path,
    rows: Sequence[dict[str, Any]],
    callbacks: Sequence[Any] = (),
    packing: str = "shared_prefix",
    **recipe: Any,
) -> Any:
    """A trainer of the project on a freshly loaded model, its adapter made by `fill_adapter`."""
    from t3_agents.models.vlm import VLMModel

    config = TrajectoryConfig(output_dir=str(output), **{**TINY, **PACKING[packing], **recipe})
    controller = VLMModel.from_pretrained(model_folder, device="cpu")
    trainer = build_trainer(
        config, controller.model, controller.processor, make_dataset(rows), callbacks=list(callbacks)
    )
    fill_adapter(trainer.model)
    return trainer


def fill_adapter(model: Any) -> None:
    """Let an adapter be not zero, so that every gradient counts."""
    import torch

    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1, generator=generator)


def trained_parameters(model: Any) -> dict[str, Any]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def assert_same(first: dict[str, Any], second: dict[str, Any], tolerance: float = SAME) -> None:
    """Equal parameter by parameter, relative to the largest value of each."""
    assert first.keys() == second.keys() and first
    for name in first:
        scale = first[name].abs().max().item()
        assert scale > 0, f"{name} is not trained"
        error = (first[name] - second[name]).abs().max().item() / scale
        assert error < tolerance, f"{name}: {error}"
