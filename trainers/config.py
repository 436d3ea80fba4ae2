"""Recipes: the arguments of TRL's trainers with the defaults of this package, and the options that are its own."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import MISSING, dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from accelerate import PartialState
from transformers import TrainingArguments

from t3_agents.errors import InputError, needs_extra
from t3_agents.models.device import best_device
from t3_agents.storage import sha256_of


with needs_extra("trl", "train", "Tuning"):
    from trl import DPOConfig, ModelConfig, ScriptArguments, SFTConfig

Arguments = TypeVar("Arguments", bound=TrainingArguments)

LORA_TARGETS = r"^(?!.*(vision|visual)).*\.(q_proj|k_proj|v_proj)$"
"""Query, key and value projections of the language model."""

CHOICES = {
    "packing_strategy": ("packed", "shared_prefix"),
    "train_sampling_strategy": ("random", "group_by_length"),
    "long_rows": ("error", "skip"),
    "train_on": ("all", "clean", "last"),
}
POSITIVE = (
    *("lora_r", "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs"),
    *("max_length", "save_steps", "beta"),
)
UNUSED = (
    *("dataset_streaming", "ignore_bias_buffers", "attn_implementation", "use_peft", "load_in_8bit"),
    *("model_init_kwargs", "router_aux_loss_coef", "chat_template_path", "dataset_text_field", "dataset_kwargs"),
    *("dataset_num_proc", "eos_token", "pad_token", "truncation_mode", "shuffle_dataset", "padding_free"),
    *("eval_packing", "completion_only_loss", "assistant_only_loss", "label_smoothing_factor"),
    *("remove_unused_columns", "prediction_loss_only", "auto_find_batch_size", "dataloader_drop_last"),
    *("accelerator_config", "deepspeed", "fsdp", "fsdp_config", "parallelism_config", "resume_from_checkpoint"),
    *("hub_token", "hub_strategy", "hub_always_push"),
)
"""Arguments of transformers and TRL that change nothing here: rows are encoded as agents run them, what is trained is
an adapter, processes are started by `accelerate launch`, and a run resumes and is pushed as a whole."""

BESIDE = re.compile(
    "launch|num_processes|output_dir|run_name|project|report_to|push_to_hub|show_mask|use_cpu|local_rank|save_total_limit"
    "|(hub|log|logging|ddp|dataloader|trackio)_.*"
)
"""Arguments that do not decide the result of a run."""


@dataclass
class TuningConfig(ScriptArguments, ModelConfig):
    """What the methods have in common; TRL's `ScriptArguments` and `ModelConfig` tell the rest."""

    model_name_or_path: str | None = "embedded"
    dtype: str | None = None
    use_peft: bool = True
    lora_r: int = 64
    lora_alpha: int = 128
    lora_dropout: float = 0.0
    lora_target_modules: str | list[str] | None = LORA_TARGETS
    use_bnb_nested_quant: bool = True
    dataset_test_split: str = "validation"
    learning_rate: float = 1e-6
    lr_scheduler_type: str = "cosine"
    per_device_train_batch_size: int = 2
    per_device_eval_batch_size: int | None = None
    max_length: int | None = 10240
    gradient_checkpointing: bool = False
    bf16: bool | None = False
    logging_steps: float = 1
    save_steps: float = 50
    load_best_model_at_end: bool = True
    seed: int = 0
    ddp_timeout: int = 10800
    project: str = "t3-agents"
    launch: str | None = None
    num_processes: int | None = None
    report_to: None | str | list[str] = field(
        default_factory=lambda: "trackio" if importlib.util.find_spec("trackio") else "none"
    )

    def __post_init__(self):
        self.chosen = {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if not BESIDE.fullmatch(one.name)
            and (one.name in _own_names(type(self)) or getattr(self, one.name) != _default(one))
        }
        self._check()
        self.use_cpu = self.use_cpu or best_device() == "cpu"
        self.run_name = self.run_name or _run_name(Path(self.output_dir).resolve())
        self.per_device_eval_batch_size = self.per_device_eval_batch_size or self.per_device_train_batch_size
        self.eval_steps = self.eval_steps or self.save_steps
        self.load_best_model_at_end = self.load_best_model_at_end and self.eval_strategy != "no"
        # The one that is written, the one before it, which is whole, and the best one.
        self.save_total_limit = self.save_total_limit or (3 if self.load_best_model_at_end else 2)
        # Processes meet here, and those that have met stay as they are. The first one measures all rows meanwhile.
        processes = PartialState(cpu=self.use_cpu, timeout=timedelta(seconds=self.ddp_timeout))
        self.accelerator_config = {"use_configured_state": processes.num_processes > 1}
        try:
            super().__post_init__()  # of ModelConfig
            super(ModelConfig, self).__post_init__()
        except ValueError as error:
            raise InputError(" ".join(str(error).split())) from None

    def _check(self) -> None:
        if self.launch or self.num_processes:
            raise InputError("`launch` and `num_processes` start processes: give both on the command line.")
        if not self.output_dir:
            raise InputError("Name the folder of the run with `output_dir`.")
        for one in fields(self):
            name, value = one.name, getattr(self, one.name)
            if name in UNUSED and value != _default(one):
                raise InputError(f"`{name}` changes nothing in the tuning of agents: leave it out.")
            if value not in CHOICES.get(name, (value,)):
                raise InputError(f"`{name}` is one of {', '.join(CHOICES[name])}, not `{value}`.")
            if name in POSITIVE and value is not None and value <= 0:
                raise InputError(f"`{name}` must be above 0, not {value}.")
        if self.push_to_hub and not self.hub_model_id:
            raise InputError("`push_to_hub` needs the name of a model repo: set `hub_model_id` to `user/name`.")
        if isinstance(self.lora_target_modules, str):
            try:
                re.compile(self.lora_target_modules)
            except re.error as error:
                named = f"`lora_target_modules` `{self.lora_target_modules}`"
                raise InputError(f"{named} is no regular expression: {error}.") from None

    def settings(self) -> dict[str, Any]:
        """What decides the result of a run: the arguments that this package has a default for, and those that were
        given another value than transformers' or TRL's default."""
        return dict(self.chosen)

    def arguments(self, kind: type[Arguments], model: Any, **changes: Any) -> Arguments:
        """The arguments of a trainer of TRL for batches that a collator of this package makes.

        Args:
            kind (`type`): [`~trl.SFTConfig`] or [`~trl.DPOConfig`].
            model ([`~transformers.PreTrainedModel`]): what is trained; weights of 16 bits are trained in bfloat16.
            changes: what the trainer is told in place of the recipe.
        """
        changes = {
            "bf16": self.bf16 or (not self.fp16 and model.dtype.is_floating_point and model.dtype.itemsize == 2),
            "max_length": None,  # the collator cuts or refuses
            "remove_unused_columns": False,
            "prediction_loss_only": True,
            "use_liger_kernel": False,  # `loading` has put the kernels in
            "push_to_hub": False,  # the whole run is pushed at its end
            "disable_tqdm": True,  # ShowProgress has the bar
            "accelerator_config": {"use_configured_state": PartialState().num_processes > 1},
            **changes,
        }
        return kind(**{one.name: getattr(self, one.name) for one in fields(kind) if one.init} | changes)


def _default(one: Any) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _own_names(kind: type) -> set[str]:
    return {name for base in kind.__mro__ if base.__module__ == __name__ for name in vars(base)["__annotations__"]}


def _run_name(folder: Path) -> str:
    """Name of a run where its curves go: the same when it resumes, another one for another folder."""
    return f"{folder.name}-{sha256_of(str(folder).encode())[:6]}"


@dataclass
class TrajectoryConfig(TuningConfig, SFTConfig):
    """Tune a controller on an MM-Traj dataset.

    The options are those of `trl sft`; of those that have another default here or are new, this is the list. The
    defaults are the paper's settings (arXiv 2412.15606) for models of 7 to 8 billion parameters.

    Args:
        dataset_name (`str`): folder of a built dataset, or its Hub id.
        output_dir (`str`): folder of the run; the tuned agent is `<output_dir>/agent`.
        model_name_or_path (`str`, *optional*, defaults to `"embedded"`): model folder or Hub id of the controller.
        dtype (`str`, *optional*): type of the weights; the checkpoint's own, by default, and `float32` on a CPU.
        dataset_train_split (`str`, *optional*, defaults to `"train"`): split to train on.
        dataset_test_split (`str`, *optional*, defaults to `"validation"`): split whose loss is measured, with
            `eval_strategy: steps` at every checkpoint; the agent is then made of the checkpoint with the lowest one.
        toolbox (`str`, *optional*): toolbox of the saved agent, that of the rows by default; another one must have
            the same tools.
        prompt (`str`, *optional*): prompt of the saved agent. It is that of the rows; another one is refused.
        max_new_tokens (`int`, *optional*, defaults to 512): tokens per turn of the saved agent.
        lora_r (`int`, *optional*, defaults to 64): rank of the adapter.
        lora_alpha (`int`, *optional*, defaults to 128): scale of the adapter.
        lora_target_modules (`str` or `list[str]`, *optional*): names of the adapted modules, or a regular expression;
            by default the query, key and value projections of the language model.
        lora_modules_to_save (`list[str]`, *optional*): modules that are trained in full, none by default: vision
            encoder and connector stay frozen.
        modules_learning_rate (`float`, *optional*): peak rate of `lora_modules_to_save`; that of the adapter by
            default. Modules with small weights need a small one.
        load_in_4bit (`bool`, *optional*, defaults to `False`): hold the language model in 4 bits while the adapter is
            trained (QLoRA). The agent has the weights as they were.
        max_length (`int`, *optional*, defaults to 10240): tokens of a row; longer rows lose whole steps.
        packing (`bool`, *optional*, defaults to `True`): put the rows of a batch into one. A family that cannot be
            packed exactly is trained on padded rows of similar length, with a warning.
        packing_strategy (`str`, *optional*, defaults to `"shared_prefix"`): `packed` puts rows side by side,
            `shared_prefix` also computes what they begin with once.
        pack_length (`int`, *optional*): tokens of a pack, which is then filled with as many rows as fit; by default a
            pack holds the `per_device_train_batch_size` rows of a batch.
        train_sampling_strategy (`str`, *optional*, defaults to `"random"`): of rows that are not packed:
            `group_by_length` pads rows of similar length.
        long_rows (`str`, *optional*, defaults to `"error"`): `error` stops at a row whose first step does not fit
            `max_length`, `skip` leaves it out and counts it.
        train_on (`str`, *optional*, defaults to `"all"`): steps that count in the loss: `all`, `clean` (those without
            an error) or `last`.
        save_steps (`float`, *optional*, defaults to 50): optimizer steps between checkpoints.
        use_liger_kernel (`bool`, *optional*, defaults to `False`): Liger's kernels for norms, positions and gates, on
            a GPU and for the families that Liger knows.
        merge (`bool`, *optional*, defaults to `False`): save the agent with whole weights. By default the agent of a
            controller of the Hub is its adapter; that of a folder is whole in any case.
        report_to (`str` or `list[str]`, *optional*): where curves go beside the report: trackio, on this machine,
            where it is installed; `none` for nowhere.
        push_to_hub (`bool`, *optional*, defaults to `False`): push the finished agent, with its card, to
            `hub_model_id`.
        hub_model_id (`str`, *optional*): `user/name` of the model repo.
        launch (`str`, *optional*): start several processes with accelerate, by the settings of this name (`ddp`,
            `fsdp2`, `deepspeed_zero2`, `deepspeed_zero3`) or file.
        num_processes (`int`, *optional*): with `launch`, the number of processes; one for each GPU by default.
        show_mask (`int`, *optional*, defaults to 0): instead of training, print this many rows with what is trained on
            in color, and write them to `<output_dir>/mask.html`.
    """

    toolbox: str | None = None
    prompt: str | None = None
    max_new_tokens: int = 512
    modules_learning_rate: float | None = None
    num_train_epochs: float = 5
    warmup_steps: float = 0.01
    weight_decay: float = 0.1
    adam_beta2: float = 0.95
    packing: bool = True
    packing_strategy: str = "shared_prefix"
    pack_length: int | None = None
    long_rows: str = "error"
    train_on: str = "all"
    merge: bool = False
    show_mask: int = 0

    def _check(self) -> None:
        super()._check()
        if self.pack_length and not (self.packing and self.pack_length >= (self.max_length or 0)):
            raise InputError("`pack_length` needs packing, and at least the `max_length` of a row.")
        if self.packing and self.train_sampling_strategy == "group_by_length":
            raise InputError("Rows are grouped by length to be padded: set `packing` to false, or group none.")
        if self.loss_type != "nll":
            raise InputError(f"The loss of produced tokens is `nll`, not `{self.loss_type}`: leave `loss_type` out.")


@dataclass
class PreferenceConfig(TuningConfig, DPOConfig):
    """Tune a saved agent on pairs of a right and a wrong next step.

    The options are those of `trl dpo`; of those that have another default here, this is the list.

    Args:
        dataset_name (`str`): folder or Hub id of a dataset of pairs, as `t3 improve` leaves it in `round-<n>/pairs`.
        output_dir (`str`): folder of the run; the tuned agent is `<output_dir>/agent`.
        model_name_or_path (`str`): folder or Hub id of the saved agent.
        beta (`float`, *optional*, defaults to 0.1): how closely the agent is held to what it was; larger is closer.
        lora_r (`int`, *optional*, defaults to 64): rank of the adapter.
        lora_alpha (`int`, *optional*, defaults to 128): scale of the adapter.
        lora_target_modules (`str` or `list[str]`, *optional*): names of the adapted modules, or a regular expression;
            by default the query, key and value projections of the language model.
        max_length (`int`, *optional*, defaults to 10240): tokens that a prompt with one of its turns may have.
        save_steps (`float`, *optional*, defaults to 50): optimizer steps between checkpoints.
    """

    model_name_or_path: str | None = None
    num_train_epochs: float = 1
    warmup_steps: float = 0.1

    def _check(self) -> None:
        super()._check()
        if not self.model_name_or_path:
            raise InputError("Name the folder or Hub id of a saved agent with `model_name_or_path`.")
