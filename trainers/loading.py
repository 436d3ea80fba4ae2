"""The controller that is tuned: how it is loaded, what of it is trained, and the whole of it at the end."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3_agents.errors import InputError, MissingExtraError
from t3_agents.models.device import best_device
from t3_agents.models.embedded import EMBEDDED
from t3_agents.models.vlm import VLMModel

from .config import TrainConfig
from .distributed import is_sharded


NOT_QUANTIZED = ["lm_head", r".*(vision|visual|connector|projector)[^.]*"]
"""Modules, by name or expression, that keep their weights: what families call the parts for pictures."""

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel
    from trl import SFTTrainer


def load_controller(config: TrainConfig) -> VLMModel:
    """The controller of a recipe, where it is trained: weights that will be split over GPUs wait in host memory.

    Raises:
        InputError: when there is no such controller, or it cannot be had as the recipe wants it.
        MissingExtraError: when a package for it is not installed.
    """
    place: dict[str, Any] = {}
    if is_sharded() and best_device() != "cpu":
        place = {"device": "cpu", "dtype": "auto"}
    if config.quantization:
        place = {"quantization_config": four_bits()}
    controller = VLMModel.from_pretrained(config.controller, revision=config.revision, **place)
    if config.use_liger_kernel:
        use_liger_kernels(controller.model)
    return controller


def four_bits() -> BitsAndBytesConfig:
    """Linear layers in 4 bits (NF4, QLoRA, arXiv 2305.14314); vision tower, connector and head as they are.

    Raises:
        InputError: when the weights are to be split over processes too.
        MissingExtraError: when bitsandbytes is not installed.
    """
    import torch
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "qlora", "quantization")
    if is_sharded():
        raise InputError("Quantized weights cannot be split: set no quantization, or use launch/ddp.yaml.")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32 if best_device() == "cpu" else torch.bfloat16,
        llm_int8_skip_modules=NOT_QUANTIZED,
    )


def use_liger_kernels(model: PreTrainedModel) -> None:
    """Replace norms, rotary positions and gates of a model by Liger's kernels. The loss stays: ours reads few logits.

    Raises:
        InputError: when there is no GPU, or Liger does not know the family.
        MissingExtraError: when it is not installed.
    """
    from transformers.integrations.liger import apply_liger_kernel

    if importlib.util.find_spec("liger_kernel") is None:
        raise MissingExtraError("liger-kernel", "liger", "use_liger_kernel")
    if best_device() == "cpu":
        raise InputError("Liger kernels need a GPU: set use_liger_kernel to false.")
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    if model.config.model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise InputError(f"Liger has no kernels for `{model.config.model_type}`: set use_liger_kernel to false.")
    apply_liger_kernel(model, {"fused_linear_cross_entropy": False, "cross_entropy": False})


def tuned_model(trainer: SFTTrainer, config: TrainConfig, controller: VLMModel) -> PreTrainedModel | None:
    """The tuned model with its adapter, or merged where the recipe says so.

    Weights that were split or quantized are not used: the main process puts the saved adapter on the controller.

    Returns:
        [`~transformers.PreTrainedModel`]: with its adapter on it; `None` on other processes than the main one.
    """
    from peft import PeftModel

    if is_sharded() or config.quantization:
        folder = Path(config.output) / "adapter"
        trainer.save_model(str(folder))
        if not trainer.accelerator.is_main_process:
            return None
        whole = VLMModel.from_pretrained(config.controller, revision=config.revision, device="cpu", dtype="auto")
        model = PeftModel.from_pretrained(whole.model, str(folder))
    else:
        model = trainer.accelerator.unwrap_model(trainer.model)
    if config.merge:
        return model.merge_and_unload()
    if config.controller != EMBEDDED and not Path(config.controller).exists():
        # An adapter names what it stands on by its id, not by where this machine keeps it.
        model.peft_config["default"].base_model_name_or_path = config.controller
        model.peft_config["default"].revision = controller.revision
    return model
