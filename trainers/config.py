"""[`TrainConfig`]: a tuning recipe, read by `t3 train` before anything heavy is imported."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from t3_agents.errors import InputError


PACKED = ("packed", "shared_prefix")
LORA_TARGETS = r"^(?!.*(vision|visual)).*\.(q_proj|k_proj|v_proj)$"
"""Query, key and value projections of the language model."""
CHOICES = {
    "packing": ("none", "length_grouped", *PACKED),
    "long_rows": ("error", "skip"),
    "quantization": (None, "4bit"),
    "train_on": ("all", "clean", "last"),
}


@dataclass
class TrainConfig:
    """Tune a controller on an MM-Traj dataset.

    The defaults are the paper's settings (arXiv 2412.15606) for models of 7 to 8 billion parameters.

    Args:
        dataset (`str`): folder of a built dataset, or its Hub id.
        output (`str`): folder of the run; the tuned agent is `<output>/agent`.
        controller (`str`, *optional*, defaults to `"embedded"`): model folder or Hub id.
        revision (`str`, *optional*): commit of the controller.
        split (`str`, *optional*, defaults to `"train"`): split to train on.
        eval_split (`str`, *optional*): split whose loss is measured at every checkpoint; the agent is then made of the
            checkpoint with the lowest one.
        toolbox (`str`, *optional*, defaults to `"embedded"`): toolbox of the saved agent.
        prompt (`str`, *optional*, defaults to `"compact"`): prompt of the saved agent; must be the one of the data.
        max_new_tokens (`int`, *optional*, defaults to 512): tokens per turn of the saved agent.
        lora_rank (`int`, *optional*, defaults to 64): rank of the adapter.
        lora_alpha (`int`, *optional*, defaults to 128): scale of the adapter.
        lora_targets (`str`, *optional*): regular expression of the adapted modules; by default the query, key and
            value projections of the language model.
        modules_to_save (`list[str]`, *optional*): modules that are trained in full, none by default: vision encoder
            and connector stay frozen.
        modules_learning_rate (`float`, *optional*): peak rate of `modules_to_save`; that of the adapter by default.
            Modules with small weights need a small one.
        learning_rate (`float`, *optional*, defaults to 1e-6): peak learning rate of AdamW.
        lr_scheduler (`str`, *optional*, defaults to `"cosine"`): schedule.
        warmup_ratio (`float`, *optional*, defaults to 0.01): share of the steps with rising rate.
        weight_decay (`float`, *optional*, defaults to 0.1): of AdamW.
        adam_beta2 (`float`, *optional*, defaults to 0.95): of AdamW.
        epochs (`float`, *optional*, defaults to 5): passes over the data.
        batch_size (`int`, *optional*, defaults to 2): rows per device and step.
        gradient_accumulation (`int`, *optional*, defaults to 1): batches per optimizer step.
        max_length (`int`, *optional*, defaults to 10240): tokens of a row; longer rows lose whole steps.
        packing (`str`, *optional*, defaults to `"shared_prefix"`): `none` pads rows, `length_grouped` pads rows of
            similar length, `packed` puts rows into one, `shared_prefix` also computes what they begin with once. A
            family that cannot be packed exactly is trained `length_grouped`, with a warning.
        pack_length (`int`, *optional*): tokens of a pack, which is then filled with as many rows as fit; by default a
            pack holds the `batch_size` rows of a batch.
        long_rows (`str`, *optional*, defaults to `"error"`): `error` stops at a row whose first step does not fit
            `max_length`, `skip` leaves it out and counts it.
        train_on (`str`, *optional*, defaults to `"all"`): steps that count in the loss: `all`, `clean` (those without
            an error) or `last`.
        gradient_checkpointing (`bool`, *optional*, defaults to `False`): trade time for memory.
        save_steps (`int`, *optional*, defaults to 50): optimizer steps between checkpoints.
        quantization (`str`, *optional*): `4bit` holds the language model in 4 bits while the adapter is trained
            (QLoRA). The agent has the weights as they were.
        use_liger_kernel (`bool`, *optional*, defaults to `False`): Liger's kernels for norms, positions and gates, on
            a GPU and for the families that Liger knows.
        merge (`bool`, *optional*, defaults to `False`): save the agent with whole weights. By default the agent of a
            controller of the Hub is its adapter; that of a folder is whole in any case.
        report_to (`str`, *optional*): where curves go beside the report, as in transformers: trackio, on this machine,
            where it is installed; `none` for nowhere.
        push_to_hub (`str`, *optional*): `user/name` of a model repo that gets the finished agent, with its card.
        seed (`int`, *optional*, defaults to 0): of adapter weights and data order.
        show_mask (`int`, *optional*, defaults to 0): instead of training, print this many rows with what is trained on
            in colour, and write them to `<output>/mask.html`.
    """

    dataset: str
    output: str
    controller: str = "embedded"
    revision: str | None = None
    split: str = "train"
    eval_split: str | None = None
    toolbox: str = "embedded"
    prompt: str = "compact"
    max_new_tokens: int = 512
    lora_rank: int = 64
    lora_alpha: int = 128
    lora_targets: str = LORA_TARGETS
    modules_to_save: list[str] | None = None
    modules_learning_rate: float | None = None
    learning_rate: float = 1e-6
    lr_scheduler: str = "cosine"
    warmup_ratio: float = 0.01
    weight_decay: float = 0.1
    adam_beta2: float = 0.95
    epochs: float = 5
    batch_size: int = 2
    gradient_accumulation: int = 1
    max_length: int = 10240
    packing: str = "shared_prefix"
    pack_length: int | None = None
    long_rows: str = "error"
    train_on: str = "all"
    gradient_checkpointing: bool = False
    save_steps: int = 50
    quantization: str | None = None
    use_liger_kernel: bool = False
    merge: bool = False
    report_to: str | None = None
    push_to_hub: str | None = None
    seed: int = 0
    show_mask: int = 0

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                named = ", ".join(choice for choice in choices if choice)
                raise InputError(f"`{name}` is one of {named}, not `{getattr(self, name)}`.")
        if self.pack_length is not None and not (self.packing in PACKED and self.pack_length >= self.max_length):
            raise InputError("`pack_length` needs packing, and at least the `max_length` of a row.")
        for name in ("lora_rank", "batch_size", "gradient_accumulation", "max_length", "save_steps", "epochs"):
            if getattr(self, name) <= 0:
                raise InputError(f"`{name}` must be above 0, not {getattr(self, name)}.")
        try:
            re.compile(self.lora_targets)
        except re.error as error:
            raise InputError(f"`lora_targets` `{self.lora_targets}` is no regular expression: {error}.") from None

    def settings(self) -> dict[str, Any]:
        """What decides the result of a run."""
        beside = ("output", "show_mask", "report_to", "push_to_hub")
        return {name: value for name, value in asdict(self).items() if name not in beside}
