"""The recipes of the package, each on a tiny model of the real class of its family."""

from __future__ import annotations

import pytest
import yaml

from t3_agents.models.families import reason_against_continuous_batching
from tests.helpers import ROOT
from tests.helpers.families import make_family
from tests.helpers.training_rows import make_dataset, make_row
from trainers.config import TrajectoryConfig
from trainers.sft import build_trainer


RECIPES = ROOT / "trainers" / "recipes"
FAMILY_OF = {
    "smolvlm": ["smolvlm"],
    "idefics3": ["idefics3"],
    "paper_qwen2_vl": ["qwen2_vl"],
    "qwen2_5_vl": ["qwen2_5_vl"],
    "qwen3_vl": ["qwen3_vl"],
    "paper_minicpm_v": ["minicpmv4_6", "minicpmv4_7"],
    "internvl3": ["internvl"],
    "llava_onevision": ["llava_onevision"],
    "gemma3": ["gemma3"],
}
CASES = [(recipe, family) for recipe, families in FAMILY_OF.items() for family in families]


def read(recipe: str) -> dict:
    return yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text())


def test_every_recipe_is_of_a_family():
    assert {path.stem for path in RECIPES.glob("*.yaml")} == {*FAMILY_OF, "embedded"}
    TrajectoryConfig(output_dir="o", **read("embedded"))


@pytest.mark.parametrize(("recipe", "family"), CASES)
def test_a_recipe_adapts_query_key_and_value_of_the_language_model_only(recipe, family, tmp_path):
    """Vision towers have projections of the same names; LoRA's regular expression must pass over them."""
    model, processor = make_family(family)
    names = [name for name, _ in model.named_modules()]
    assert any("vis" in name and name.split(".")[-1] in ("q_proj", "qkv") for name in names)
    config = TrajectoryConfig(output_dir=str(tmp_path / "run"), **read(recipe))
    can_pack = reason_against_continuous_batching(model) is None
    # A recipe says what its family comes to anyway.
    assert config.packing == can_pack == (config.train_sampling_strategy == "random")
    trainer = build_trainer(config, model, processor, make_dataset([make_row(1), make_row(2)]))
    trained = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    kinds = {"linear_attention": ["linear_attn.in_proj_qkv"]}
    text = model.config.get_text_config()
    stem = "text_model" if recipe in ("smolvlm", "idefics3") else "language_model"
    assert trained == {
        f"base_model.model.model.{stem}.layers.{number}.{module}.lora_{matrix}.default.weight"
        for number in range(text.num_hidden_layers)
        for module in kinds.get(
            (text.to_dict().get("layer_types") or ["full_attention"] * text.num_hidden_layers)[number],
            [f"self_attn.{letter}_proj" for letter in "qkv"],
        )
        for matrix in "AB"
    }


@pytest.mark.parametrize("recipe", ["paper_qwen2_vl", "paper_minicpm_v"])
def test_the_papers_settings_are_those_of_the_paper(recipe):
    """arXiv 2412.15606."""
    expected = {
        "lora_r": 64,
        "learning_rate": 1e-6,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.1,
        "adam_beta2": 0.95,
        "warmup_steps": 0.01,
        "per_device_train_batch_size": 2,
        "num_train_epochs": 5,
        "max_length": 10240,
    }
    assert expected.items() <= read(recipe).items()
