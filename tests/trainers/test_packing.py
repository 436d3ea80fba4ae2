"""A shared prefix is the same function as the padded batch: losses, gradients and trained weights."""

from __future__ import annotations

import shutil

import pytest
import torch
import transformers
from torch._dynamo.utils import counters
from torch.nn.attention.flex_attention import create_block_mask
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from t3_agents.models.families import reason_against_continuous_batching
from tests.helpers.training_rows import (
    SAME,
    SAME_SHARED,
    assert_same,
    make_dataset,
    make_row,
    make_trainer,
    trained_parameters,
)
from trainers.attention import (
    attention_by_blocks,
    attention_by_part,
    attention_by_segment,
    compiled_flex_attention,
    segment_block_mask,
)
from trainers.collators import IGNORE
from trainers.trainer import head_at


# Rows of different lengths; pictures in the task, in observations, in both, and none.
ROWS = [
    make_row(1, attached=1, brought=[0]),
    make_row(2, attached=0, brought=[1, 0]),
    make_row(3, attached=0, brought=[0]),
    make_row(4, attached=2, brought=[1, 2, 0]),
]


class KeepGradients(transformers.TrainerCallback):
    """Copies the gradients of every optimizer step, before clipping has a chance to hide a scale."""

    def __init__(self):
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append({name: p.grad.clone() for name, p in trained_parameters(model).items()})


def reference(trainer, rows) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the padded batch with full logits: the mean over all produced tokens."""
    batch = make_trainer_batch(trainer, rows, "none")
    labels = batch.pop("labels")
    trainer.model.zero_grad()
    logits = trainer.model(**batch).logits[:, :-1]
    loss = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in trained_parameters(trainer.model).items()}
    trainer.model.zero_grad()
    return loss.item(), gradients


def make_trainer_batch(trainer, rows, packing: str):
    collator = type(trainer.data_collator)(trainer.data_collator.encoder, packing=packing)
    return collator(list(make_dataset(rows)))


@pytest.mark.parametrize("packing", ["none", "packed", "shared_prefix"])
@pytest.mark.parametrize("chosen", [ROWS, ROWS[2:3] * 2, ROWS[:2]], ids=["mixed", "text", "pictures"])
def test_loss_and_gradients_are_those_of_full_logits_on_the_padded_batch(tiny_vlm, tmp_path, packing, chosen):
    pictures = any(row["images"] for row in chosen)
    modules = ["vision_model", "connector"] if pictures else None
    trainer = make_trainer(tiny_vlm, tmp_path, chosen, packing=packing, lora_modules_to_save=modules)
    trainer.model.train()
    loss, gradients = reference(trainer, chosen)
    batch = make_trainer_batch(trainer, chosen, packing)
    assert (batch.get("segment_bounds", [0])[0] > 0) == (packing == "shared_prefix")
    ours = trainer.compute_loss(trainer.model, batch)
    ours.backward()
    assert ours.item() == pytest.approx(loss, rel=SAME)
    found = {name: p.grad for name, p in trained_parameters(trainer.model).items()}
    assert any("lora_A" in name for name in found) and any("lora_B" in name for name in found)
    assert pictures == any("connector" in name for name in found)
    # A key's bias shifts all scores of a query alike, so its true gradient is zero and what is found is rounding.
    without_noise = [name for name in gradients if "vision" not in name or "k_proj.bias" not in name]
    tolerance = SAME_SHARED if packing == "shared_prefix" else SAME
    assert_same({n: gradients[n] for n in without_noise}, {n: found[n] for n in without_noise}, tolerance)


def test_gradient_accumulation_weighs_tokens_and_not_batches(tiny_vlm, tmp_path):
    """Two batches of two rows are one batch of four, although their numbers of produced tokens differ."""
    for name, recipe in {
        "whole": {"per_device_train_batch_size": 4, "packing": "none"},
        "halves": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "packing": "none"},
        "shared": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
    }.items():
        kept = KeepGradients()
        trainer = make_trainer(tiny_vlm, tmp_path / name, ROWS, callbacks=[kept], **recipe)
        trainer.args.max_grad_norm = 0.0  # unclipped
        loss, gradients = reference(trainer, ROWS)
        trainer.train()
        assert len(kept.steps) == 1
        assert_same(gradients, kept.steps[0], SAME_SHARED if name == "shared" else SAME)
        logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        assert logged == [pytest.approx(loss, rel=SAME)]


@pytest.mark.parametrize("packing", ["none", "shared_prefix"])
def test_weights_scale_the_loss_of_their_steps(tiny_vlm, tmp_path, packing):
    rows = [make_row(1, attached=0, brought=[0]), make_row(2, attached=0, brought=[0])]
    trainer = make_trainer(tiny_vlm, tmp_path, rows, packing=packing, lora_modules_to_save=None)
    losses = []
    for weights in ([1, 1], [1, 0], [1, 3]):
        batch = trainer.data_collator([{**row, "step_weights": weights} for row in make_dataset(rows)])
        losses.append(trainer.compute_loss(trainer.model, batch, num_items_in_batch=100).item())
    both, first, scaled = losses
    assert scaled == pytest.approx(first + 3 * (both - first), rel=SAME)


def test_a_head_at_some_positions_gives_their_logits(tiny_vlm):
    model = transformers.AutoModelForImageTextToText.from_pretrained(tiny_vlm, dtype=torch.float64)
    ids = torch.arange(3, 23).reshape(2, 10)
    positions = torch.zeros(2, 10, dtype=torch.bool)
    positions[0, 3:5] = positions[1, 9] = True
    with torch.no_grad():
        full = model(input_ids=ids).logits
        with head_at(model.get_output_embeddings(), positions):
            some = model(input_ids=ids).logits
        after = model(input_ids=ids).logits
    assert some.shape == (3, full.shape[-1])
    torch.testing.assert_close(some, full[positions])
    assert torch.equal(after, full)


# The kernels, against a mask over the whole square


def whole_mask(bounds: list[int]) -> torch.Tensor:
    """Which key (column) each token (row) of a packed row may see, written out from the definition."""
    mask = torch.zeros(bounds[-1], bounds[-1], dtype=torch.bool)
    for start, end in zip([0, *bounds[:-1]], bounds, strict=True):
        for token in range(start, end):
            mask[token, : bounds[0]] = True
            mask[token, start : token + 1] = True
            mask[token, token + 1 :] = False
    return mask


BOUNDS = [[5, 9, 10, 23], [0, 7, 20], [100, 300, 600, 601]]


def packed_inputs(bounds: list[int], device: str = "cpu") -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(1, heads, bounds[-1], 16, generator=generator, dtype=torch.float64) for heads in (4, 2, 2)]
    return [tensor.to(device).requires_grad_() for tensor in made]


def by_whole_mask(query, key, value, bounds, scaling):
    mask = whole_mask(bounds).to(query.device)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling, enable_gqa=True)


@pytest.mark.parametrize(
    ("attend", "backward"),
    [
        pytest.param(attention_by_segment, True, id="segment"),
        pytest.param(lambda *a: attention_by_part(*a)[0], True, id="part"),
        pytest.param(attention_by_blocks, False, id="blocks as far as a CPU can run what runs on a GPU"),
    ],
)
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_attention_by_segment_is_that_of_the_whole_mask(bounds, attend, backward):
    first, second = packed_inputs(bounds), packed_inputs(bounds)
    if not backward:
        first, second = ([tensor.detach() for tensor in inputs] for inputs in (first, second))
    found, expected = attend(*first, bounds, 0.3), by_whole_mask(*second, bounds, 0.3)
    torch.testing.assert_close(found, expected, rtol=SAME, atol=SAME)
    if not backward:
        return
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    for output in (found, expected):
        (output * weights).sum().backward()
    for ours, reference in zip(first, second, strict=True):
        torch.testing.assert_close(ours.grad, reference.grad, rtol=SAME, atol=SAME)


def test_attention_by_part_in_half_precision():
    bounds = [100, 300, 600, 601]
    first, second = packed_inputs(bounds), packed_inputs(bounds)
    half = [tensor.detach().bfloat16().requires_grad_() for tensor in first]
    found, expected = attention_by_part(*half, bounds, 0.3)[0], by_whole_mask(*second, bounds, 0.3)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=3e-2, atol=3e-2)
    for output in (found, expected):
        output.float().square().sum().backward()
    for ours, reference in zip(half, second, strict=True):
        error = (ours.grad.float() - reference.grad).norm() / reference.grad.norm()
        assert ours.grad.dtype == torch.bfloat16 and error < 3e-2


def test_checkpointing_does_not_compute_attention_twice(tiny_vlm, tmp_path):
    rows = [make_row(number, attached=0, brought=[0]) for number in range(4)]
    calls = {}
    for checkpointing in (False, True):
        recipe = {"packing_strategy": "shared_prefix", "gradient_checkpointing": checkpointing}
        trainer = make_trainer(tiny_vlm, tmp_path / str(checkpointing), rows, **recipe)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            trainer.train()
        counts = {event.key: event.count for event in profile.key_averages()}
        calls[checkpointing] = counts["aten::_scaled_dot_product_flash_attention_for_cpu"]
        assert trainer.model.is_gradient_checkpointing == checkpointing
    assert calls[True] == calls[False] > 0


@pytest.mark.parametrize("bounds", [*BOUNDS, [128, 256, 400, 800], [300, 301, 1024], [0, 640], [0, 129]], ids=str)
def test_blocks_are_those_that_torch_finds_in_the_whole_mask(bounds):
    whole = whole_mask(bounds)
    expected = create_block_mask(lambda b, h, q, k: whole[q, k], None, None, bounds[-1], bounds[-1], device="cpu")
    found = segment_block_mask(tuple(bounds), torch.device("cpu"))
    places = torch.arange(bounds[-1])
    assert torch.equal(found.mask_mod(None, None, places[:, None], places[None]), whole)
    assert torch.equal(found.to_dense(), expected.to_dense())
    for name in "kv_num_blocks kv_indices full_kv_num_blocks full_kv_indices q_num_blocks full_q_num_blocks".split():
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch compiles with it")
def test_attention_by_blocks_is_compiled_once_for_packs_of_all_lengths():
    """As on a GPU, as far as a CPU can: the compiled forward pass."""
    torch._dynamo.reset()
    before = counters["stats"]["unique_graphs"]
    for bounds in ([100, 300, 600], [50, 200, 700, 900], [0, 500, 800], [130, 400, 1000, 1100]):
        exact = [tensor.detach() for tensor in packed_inputs(bounds)]
        inputs = [tensor.float() for tensor in exact]  # the compiled kernel has no double precision
        mask = segment_block_mask(tuple(bounds), inputs[0].device)
        found = compiled_flex_attention()(*inputs, block_mask=mask, scale=0.3, enable_gqa=True)
        expected = attention_by_segment(*exact, bounds, 0.3)
        noise = (attention_by_segment(*inputs, bounds, 0.3) - expected).abs().max()
        assert (found - expected).abs().max() < 100 * noise
    assert counters["stats"]["unique_graphs"] == before + 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernel has a backward pass on a GPU only")
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_gradients_by_blocks_are_those_of_the_whole_mask(bounds):
    exact = packed_inputs(bounds, "cuda")
    single, plain = ([tensor.detach().float().requires_grad_() for tensor in exact] for _ in range(2))
    for attend, inputs in ((by_whole_mask, exact), (by_whole_mask, plain), (attention_by_blocks, single)):
        attend(*inputs, bounds, 0.3).square().sum().backward()
    for wanted, other, ours in zip(exact, plain, single, strict=True):
        noise = (other.grad - wanted.grad).norm() + 1e-3 * wanted.grad.norm()  # the blocks' kernel may use TF32
        assert (ours.grad - wanted.grad).norm() < 10 * noise


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("Gemma3Text", {"layer_types": ["sliding_attention", "full_attention"], "head_dim": 8}),
        ("Mistral", {"sliding_window": 8}),
    ],
)
def test_sliding_windows_are_refused(family, settings):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "vocab_size": 32}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = getattr(transformers, f"{family}Config")(**sizes, **heads, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert reason_against_continuous_batching(model) == f"{type(model).__name__} has layers without full attention"
