"""Weights of a controller: whole models, and adapters on their base, each checked against its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError
from ..hub.repos import download_model
from ..hub.safe_loading import check_folder, check_repo_id, read_json


def load_whole(folder: Path, loading: dict[str, Any]) -> Any:
    """A model with all of its weights: transformers would draw random ones for what a checkpoint does not have."""
    from transformers import AutoModelForImageTextToText

    if loading["dtype"] is None:
        # CPUs without bf16 units run it some 50 times slower than fp32.
        is_double = read_json(folder / "config.json").get("dtype") == "float64"
        loading = {**loading, "dtype": "float64" if is_double else "float32"}
    if not loading["trust_remote_code"]:
        _check_memory(folder)
    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True, **loading)
    missing = sorted(info["missing_keys"])
    if missing:
        raise InputError(
            f"The weights in {folder.name} are not those of a {type(model).__name__}: {len(missing)} are missing, "
            f"such as `{missing[0]}`."
        )
    return model


def _check_memory(folder: Path) -> None:
    """Refuse a configuration of a model that is much larger than the weights beside it, before memory is taken."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
    needed = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    # Quantized weights hold up to two numbers in a byte.
    if needed > 2 * held + 10**8:
        raise InputError(
            f"{folder.name}/config.json is of a model of {needed:,} numbers, its weights have {held:,} bytes."
        )


def load_adapter(
    folder: Path,
    is_own: bool,
    base: str | None,
    base_revision: str | None,
    token: str | bool | None,
    loading: dict[str, Any],
) -> tuple[Any, str, str | None]:
    """A PEFT model on its base; an adapter of one's own folder may stand on a folder."""
    from peft import PeftModel

    if not (folder / "adapter_model.safetensors").is_file():  # PEFT would look for a pickle file
        raise InputError(f"The adapter in {folder.name} has no adapter_model.safetensors.")
    config = read_json(folder / "adapter_config.json")
    base = base or config.get("base_model_name_or_path")
    base_revision = base_revision or config.get("revision")
    if not base:
        raise InputError(f"The adapter in {folder} does not name its base model: pass `base`.")
    source = Path(base)
    if not (is_own and source.is_dir()):
        check_repo_id(base, f"The adapter in {folder.name}")
        source = download_model(base, base_revision, token, code=loading["trust_remote_code"])
    check_folder(source)
    model = load_whole(source, loading)
    _check_fit(folder, model)
    return PeftModel.from_pretrained(model, str(folder)), base, base_revision


def _check_fit(folder: Path, model: Any) -> None:
    """Refuse an adapter of another model: PEFT would pass over what it does not find, with a warning."""
    from safetensors import safe_open

    modules = {name for name, _ in model.named_modules()}
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as weights:
        keys = [key.removeprefix("base_model.model.") for key in weights.keys()]
    strange = sorted({key.split(".lora_")[0] for key in keys if ".lora_" in key} - modules)
    if strange:
        raise InputError(
            f"The adapter in {folder.name} is for another model: {type(model).__name__} has no module `{strange[0]}`."
        )
