"""Speed and memory of tuning: TRL's own vision training against packed rows, without and with a shared prefix.

    python tests/benchmarks/packing.py

Passes forward and backward over the same rows, collation included, with the same adapter, the same supervised tokens
and TRL's default of gradient checkpointing: stock TRL with padded batches of two, the same with rows sorted by length,
packs, packs that share a prefix. It is done twice: with rows of the released MM-Traj data (their prompt is most of a
row; their pictures are not part of the sample), and with rows of the offline teacher, half of them with pictures. The
figure is supervised tokens per second. A batch of long rows takes minutes on a CPU, so of the released rows each
variant runs `--batches` batches only, from the middle of its list; the variants take turns batch by batch in one
process, so that a busy machine slows all of them. The peak of memory is that of the process, with blocks that go back
to the system as soon as they are freed, for all variants (`return_freed_memory`). The last line is JSON;
`results/packing.json` holds it with the command, the machine and the versions.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from _report import ROOT, machine, make_parser, peak_bytes, reset_peak, rounds_of, use_threads, write_record


RECIPE = ROOT / "trainers" / "recipes" / "embedded.yaml"
# Tables, documents and pictures that are made and solved without OCR.
TEXT_FAMILIES = ["invoice_key", "clinic_letter", "order_delivery", "match_scores", "shop_sales", "device_record"]
PICTURE_FAMILIES = ["look_shapes"]
PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "t3-agents")
TOLERANCE = 1e-3

RELEASED = ROOT / "tests" / "data" / "mat_released_sample.json"
ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}

Row = dict[str, Any]
Step = Callable[[list[Row]], tuple[float, int]]
Plan = dict[str, tuple[Step, list[list[Row]]]]
"""For each variant, what runs a batch and the batches."""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = make_parser(__doc__, controller=True, rounds="all batches are", threads=True)
    parser.set_defaults(seconds=240)
    parser.add_argument("--rows", type=int, default=8, help="released rows; twice as many of the offline teacher")
    parser.add_argument("--batches", type=int, default=1, help="batches of released rows that a variant runs")
    parser.add_argument(
        "--pack-length", type=int, default=16384, help="tokens of a pack, in less memory than TRL's batch"
    )
    return parser.parse_args(argv)


def released_rows(number: int) -> list[Row]:
    """Rows of the released sample as text, spread evenly over its order."""
    records = json.loads(RELEASED.read_text(encoding="utf-8"))
    chosen = records[:: max(1, len(records) // number)][:number]
    return [
        {
            "id": str(record["id"]),
            "images": [],
            "messages": [
                {"role": ROLES[turn["from"]], "content": [{"type": "text", "text": turn["value"]}]}
                for turn in record["conversations"]
            ],
        }
        for record in chosen
    ]


def scenario_rows(number: int) -> list[Row]:
    """Rows of the offline teacher, the second half with pictures."""
    from dataset_builder.build import BuildConfig, build_dataset
    from trainers.loading import load_rows

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for families, wanted in ((TEXT_FAMILIES, number - number // 2), (PICTURE_FAMILIES, number // 2)):
            config = BuildConfig(families=families, train=-(-wanted // len(families)), validation=0, test=0)
            dataset = load_rows(str(build_dataset(config, Path(scratch, families[0]))), "train")
            rows += [dataset[index] for index in range(wanted)]
    return rows


def make_plan(controller: str, rows: list[Row], pack_length: int, folder: str) -> Plan:
    """What every variant runs. Batches of stock TRL have pictures in all rows or in none: it cannot find the assistant
    tokens of a mixed batch (transformers 5.23)."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from t3_agents.models.vlm import VLMModel
    from trainers.attention import keep_attention
    from trainers.checks import measure_rows, pack_rows
    from trainers.collators import TrajectoryCollator
    from trainers.config import TrajectoryConfig
    from trainers.sft import build_trainer

    recipe = yaml.safe_load(RECIPE.read_text())
    config = TrajectoryConfig(
        **{
            **recipe,
            "output_dir": f"{folder}/ours",
            "model_name_or_path": controller,
            "max_length": pack_length,
            "gradient_checkpointing": True,
        }
    )
    model = VLMModel.from_pretrained(controller, device="cpu")
    dataset = Dataset.from_list([{key: rows[0][key] for key in ("messages", "images")}])
    ours = build_trainer(config, model.model, model.processor, dataset)
    stock = SFTTrainer(
        VLMModel.from_pretrained(controller, device="cpu").model,
        SFTConfig(
            output_dir=f"{folder}/stock",
            max_length=None,
            assistant_only_loss=True,
            bf16=False,
            seed=config.seed,
            report_to="none",
            remove_unused_columns=False,
        ),
        train_dataset=dataset,
        processing_class=model.processor,
        peft_config=LoraConfig(
            r=config.lora_r,
            lora_alpha=config.lora_alpha,
            target_modules=config.lora_target_modules,
            modules_to_save=config.lora_modules_to_save,
            task_type="CAUSAL_LM",
        ),
    )

    def step(trainer: SFTTrainer, collator: Any) -> Step:
        trainer.model.train()
        # `train` would do this.
        kept = {"context_fn": keep_attention} if trainer is ours else {}
        trainer.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False, **kept})

        def run(batch: list[dict[str, Any]]) -> tuple[float, int]:
            inputs = collator([dict(row) for row in batch])
            tokens = int((inputs["labels"] != -100).sum())
            loss = trainer.compute_loss(trainer.model, dict(inputs))
            loss.backward()
            trainer.model.zero_grad()
            return loss.item(), tokens

        return run

    encoder = ours.data_collator.encoder
    dataset = Dataset.from_list([{key: row[key] for key in ("id", "messages", "images")} for row in rows])
    index = measure_rows(dataset, TrajectoryCollator(encoder))
    halves = [[i for i, row in enumerate(rows) if bool(row["images"]) == pictures] for pictures in (False, True)]
    by_length = [sorted(half, key=lambda i: -index.lengths[i]) for half in halves]
    stock_step = step(stock, stock.data_collator)
    numbers = {
        "trl": (stock_step, [half[i : i + 2] for half in halves for i in range(0, len(half), 2)]),
        "trl_grouped": (stock_step, [half[i : i + 2] for half in by_length for i in range(0, len(half), 2)]),
        "packed": (step(ours, TrajectoryCollator(encoder, packing="packed")), pack_rows(index, pack_length, False)),
        "shared_prefix": (
            step(ours, TrajectoryCollator(encoder, packing="shared_prefix")),
            pack_rows(index, pack_length, True),
        ),
    }
    return {name: (run, [[rows[i] for i in batch] for batch in batches]) for name, (run, batches) in numbers.items()}


def measure(plan: Plan, options: argparse.Namespace, batches: int | None = None) -> dict[str, Any]:
    """Supervised tokens per second by variant and round, and the peak of memory by variant.

    Args:
        plan: what every variant runs.
        options: of the command.
        batches: number of batches that a variant runs, from the middle of its list; all of them by default.
    """
    if batches is not None:
        plan = {name: (run, middle(every, batches)) for name, (run, every) in plan.items()}
    turns = sorted(
        ((number + 0.5) / len(every), name, number)
        for name, (_, every) in plan.items()
        for number in range(len(every))
    )
    rates: dict[str, list[float]] = {name: [] for name in plan}
    seconds: dict[str, list[float]] = {name: [] for name in plan}
    peak = dict.fromkeys(plan, 0)
    for number in rounds_of(options):
        took, tokens, losses = dict.fromkeys(plan, 0.0), dict.fromkeys(plan, 0), dict.fromkeys(plan, 0.0)
        for _, name, batch in turns:
            run, every = plan[name]
            gc.collect()
            base = reset_peak()
            begin = time.perf_counter()
            loss, count = run(every[batch])
            took[name] += time.perf_counter() - begin
            peak[name] = max(peak[name], peak_bytes() - base)
            tokens[name] += count
            losses[name] += loss * count
            print(f"round {number + 1}: {name} batch {batch + 1} {took[name]:.1f} s", flush=True)
        if len(set(tokens.values())) == 1 and max(abs(losses[n] / losses["trl"] - 1) for n in plan) > TOLERANCE:
            raise SystemExit(f"The losses differ, so the work is not the same: {losses}")
        for name in plan:
            rates[name].append(tokens[name] / took[name])
            seconds[name].append(took[name])
    return {"rates": rates, "seconds": seconds, "peak": peak, "tokens": tokens}


def middle(batches: list[list[Row]], number: int) -> list[list[Row]]:
    """Some batches from the middle of a list."""
    first = max(0, (len(batches) - number) // 2)
    return batches[first : first + number]


def summarize(measured: dict[str, Any], suffix: str) -> dict[str, Any]:
    """Ratios against stock TRL from the median rate of the rounds: speed above 1 is faster, memory below 1 is less."""
    rate = {name: statistics.median(values) for name, values in measured["rates"].items()}
    return {
        f"shared_prefix_vs_trl{suffix}": round(rate["shared_prefix"] / rate["trl"], 3),
        f"packed_vs_trl{suffix}": round(rate["packed"] / rate["trl"], 3),
        f"trl_grouped_vs_trl{suffix}": round(rate["trl_grouped"] / rate["trl"], 3),
        f"peak_memory_vs_trl{suffix}": round(measured["peak"]["shared_prefix"] / measured["peak"]["trl"], 3),
    }


def main(argv: list[str]) -> int:
    options = parse(argv)
    use_threads(options.threads)
    before = machine(threads=torch.get_num_threads())
    summary: dict[str, Any] = {}
    details: dict[str, Any] = {}
    sets = (
        ("", released_rows(options.rows), options.batches),
        ("_scenarios", scenario_rows(2 * options.rows), None),
    )
    for suffix, rows, batches in sets:
        with tempfile.TemporaryDirectory() as folder:
            plan = make_plan(options.controller, rows, options.pack_length, folder)
            measured = measure(plan, options, batches)
        summary |= summarize(measured, suffix)
        details[suffix.removeprefix("_") or "released"] = {
            "rows": len(rows),
            "supervised_tokens": measured["tokens"],
            "seconds": {name: [round(value, 2) for value in values] for name, values in measured["seconds"].items()},
            "supervised_tokens_per_second": {
                name: round(statistics.median(values), 2) for name, values in measured["rates"].items()
            },
            "peak_mib_above_start": {name: round(value / 2**20) for name, value in measured["peak"].items()},
            "batches": {name: len(every) for name, (_, every) in plan.items()},
            "batches_run": batches or "all",
        }
    return write_record(options.output, argv, summary, details, before, PACKAGES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
