"""Hand-made trajectories as dataset rows, and trainers on the tiny model."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step
from tests.helpers.tiny_vlm import turn
from trainers.sft import TrainConfig, build_trainer


SYSTEM_PROMPT = "Solve the task step by step. In each step write a thought, then Python code that calls tools."
TINY = {
    "lora_rank": 4,
    "lora_alpha": 8,
    "modules_to_save": ["connector"],
    "learning_rate": 1e-3,
    "lr_scheduler": "constant",
    "warmup_ratio": 0.0,
    "epochs": 1,
    "max_length": 2048,
    "report_to": "none",
}
"""A recipe for the tiny model."""


def picture(number: int, path: str) -> File:
    image = Image.effect_noise((48 + 8 * (number % 3), 40), 40 + number % 50).convert("RGB")
    image.putpixel((0, 0), (number % 256, 0, 0))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return File.from_bytes(buffer.getvalue(), path)


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
        text = turn(f"print(visualizer({number}, {position}{'0' * (number % 5)}))", f"look{' again' * (number % 3)}")
        steps.append(
            Step(
                model_output=text,
                observation=f"{number + position} euros" + ", in total" * ((number + position) % 3),
                images=list(range(len(images), len(images) + count)),
                tools=["visualizer"],
            )
        )
        images += new
    steps.append(Step(model_output=turn(f"final_answer('red {number}')"), tools=["final_answer"], is_final=True))
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
    model_folder: Path, output: Path, rows: Sequence[dict[str, Any]], callbacks: Sequence[Any] = (), **recipe: Any
) -> Any:
    """A trainer of the project on a freshly loaded model. Its adapter is not zero, so that every gradient counts."""
    import torch

    from t3_agents.models.vlm import VLMModel

    config = TrainConfig(dataset="rows", output=str(output), **{**TINY, **recipe})
    controller = VLMModel.from_pretrained(model_folder, device="cpu")
    trainer = build_trainer(
        config, controller.model, controller.processor, make_dataset(rows), callbacks=list(callbacks)
    )
    generator = torch.Generator().manual_seed(1)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1, generator=generator)
    return trainer


def trained_parameters(model: Any) -> dict[str, Any]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
