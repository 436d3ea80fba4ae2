"""Speed of tuning: TRL's own vision training, the padded rows of this project, and its shared prefix.

    python tests/benchmarks/packing.py

One pass forward and backward over the same batches, collation included, with the same adapter and the same supervised
tokens. The variants take turns in one process, so that a busy machine slows all of them. The last line is JSON;
`results/packing.json` holds it with the command, the machine and the versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml


ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "packing.json"
RECIPE = ROOT / "trainers" / "recipes" / "embedded.yaml"
# Tables, documents and pictures that are made and solved without OCR.
TEXT_FAMILIES = ["invoice_key", "clinic_letter", "order_delivery", "match_scores", "shop_sales", "device_record"]
PICTURE_FAMILIES = ["look_shapes"]
PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "t3-agents")
TOLERANCE = 1e-3

Step = Callable[[list[dict[str, Any]]], Any]


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--controller", default="embedded", help="name or folder of the model")
    parser.add_argument("--batch-size", type=int, default=8, help="rows of a batch")
    parser.add_argument("--batches", type=int, default=2, help="batches; every second one has pictures")
    parser.add_argument("--rounds", type=int, default=3, help="times that every batch is measured")
    parser.add_argument("--seconds", type=float, default=180, help="time for the rounds; the first one always runs")
    parser.add_argument("--threads", type=int, help="torch threads; the fastest number by default")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def make_batches(number: int, size: int) -> list[list[dict[str, Any]]]:
    """Rows of the offline teacher, by batch. All rows of a batch have pictures or none has: stock TRL cannot find the
    assistant tokens of a mixed one (transformers 5.23)."""
    from dataset_builder.build import BuildConfig, build_dataset
    from trainers.sft import load_rows

    batches = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind, families in enumerate((TEXT_FAMILIES, PICTURE_FAMILIES)):
            wanted = size * len(range(kind, number, 2))
            if not wanted:
                continue
            config = BuildConfig(families=families, train=-(-wanted // len(families)), validation=0, test=0)
            dataset = load_rows(str(build_dataset(config, Path(scratch, str(kind)))), "train")
            rows = [dataset[index] for index in range(wanted)]
            batches += [(2 * i + kind, rows[i * size : (i + 1) * size]) for i in range(wanted // size)]
    return [rows for _, rows in sorted(batches, key=lambda batch: batch[0])]


def make_steps(controller: str, rows: list[dict[str, Any]], folder: str) -> dict[str, Step]:
    """One pass forward and backward for each variant; gives the loss and the number of supervised tokens."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from t3_agents.models import VLMModel
    from trainers.collator import TrajectoryCollator
    from trainers.sft import TrainConfig, build_trainer

    recipe = yaml.safe_load(RECIPE.read_text())
    config = TrainConfig(**{**recipe, "dataset": "rows", "output": f"{folder}/ours", "controller": controller})
    model = VLMModel.from_pretrained(controller, device="cpu")
    dataset = Dataset.from_list([{key: rows[0][key] for key in ("messages", "images")}])
    ours = build_trainer(config, model.model, model.processor, dataset)
    stock = SFTTrainer(
        VLMModel.from_pretrained(controller, device="cpu").model,
        SFTConfig(
            output_dir=f"{folder}/stock",
            max_length=None,
            assistant_only_loss=True,
            gradient_checkpointing=False,
            bf16=False,
            seed=config.seed,
            report_to="none",
            remove_unused_columns=False,
        ),
        train_dataset=dataset,
        processing_class=model.processor,
        peft_config=LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            target_modules=config.lora_targets,
            modules_to_save=config.modules_to_save,
            task_type="CAUSAL_LM",
        ),
    )

    def step(trainer: SFTTrainer, collator: Any) -> Step:
        trainer.model.train()

        def run(batch: list[dict[str, Any]]) -> tuple[float, int]:
            inputs = collator([dict(row) for row in batch])
            tokens = int((inputs["labels"] != -100).sum())
            loss = trainer.compute_loss(trainer.model, dict(inputs))
            loss.backward()
            trainer.model.zero_grad()
            return loss.item(), tokens

        return run

    encoder = ours.data_collator.encoder
    return {
        "trl": step(stock, stock.data_collator),
        "none": step(ours, TrajectoryCollator(encoder)),
        "shared_prefix": step(ours, TrajectoryCollator(encoder, share_prefix=True)),
    }


def measure(
    steps: dict[str, Step], batches: list[list[dict[str, Any]]], options: argparse.Namespace
) -> dict[str, Any]:
    """Seconds by variant and batch, supervised tokens by batch, and the peak of memory by variant."""
    names = list(steps)
    seconds: dict[str, list[list[float]]] = {name: [[] for _ in batches] for name in names}
    peak = dict.fromkeys(names, 0)
    tokens = [0] * len(batches)
    for name in names:  # the first pass allocates
        steps[name](batches[0][:1])
    start = time.perf_counter()
    rounds = 0
    # A round is started when it can be expected to end in time.
    while not rounds or (
        rounds < options.rounds and (time.perf_counter() - start) * (rounds + 1) / rounds <= options.seconds
    ):
        for number, batch in enumerate(batches):
            losses = {}
            # Each variant is the first one of a turn equally often.
            shift = (rounds * len(batches) + number) % len(names)
            for name in names[shift:] + names[:shift]:
                reset_peak()
                begin = time.perf_counter()
                losses[name], tokens[number] = steps[name](batch)
                seconds[name][number].append(time.perf_counter() - begin)
                peak[name] = max(peak[name], peak_bytes())
            worst = max(abs(losses[name] / losses["trl"] - 1) for name in names)
            if worst > TOLERANCE:
                raise SystemExit(f"The losses of batch {number} differ, so the work is not the same: {losses}")
        rounds += 1
        print(f"round {rounds}: " + ", ".join(f"{n} {sum(s[-1] for s in seconds[n]):.1f} s" for n in names))
    return {"seconds": seconds, "peak": peak, "tokens": tokens, "rounds": rounds}


def reset_peak() -> None:
    """Let Linux start a new maximum of the resident memory."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def summarise(measured: dict[str, Any]) -> dict[str, Any]:
    """Ratios against stock TRL (above 1 is faster) and speeds, from the median time of every batch."""
    medians = {name: [statistics.median(s) for s in by_batch] for name, by_batch in measured["seconds"].items()}
    total = {name: sum(values) for name, values in medians.items()}
    speed = {name: sum(measured["tokens"]) / value for name, value in total.items()}
    return {
        "shared_prefix_vs_trl": round(total["trl"] / total["shared_prefix"], 3),
        "none_vs_trl": round(total["trl"] / total["none"], 3),
        "shared_prefix_vs_none": round(total["none"] / total["shared_prefix"], 3),
        "supervised_tokens_per_second": {name: round(value, 2) for name, value in speed.items()},
        "peak_rss_mib": {name: round(value / 2**20) for name, value in measured["peak"].items()},
    }


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def main(argv: list[str]) -> int:
    options = parse(argv)
    from t3_agents.models import use_fastest_num_threads

    if options.threads:
        torch.set_num_threads(options.threads)
    else:
        use_fastest_num_threads()
    before = machine()
    batches = make_batches(options.batches, options.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(make_steps(options.controller, batches[0], folder), batches, options)
    summary = summarise(measured)
    sizes = {"batches": len(batches), "batch_size": options.batch_size, "rounds": measured["rounds"]}
    record = {
        **summary,
        "sizes": {**sizes, "supervised_tokens": sum(measured["tokens"])},
        "seconds": {n: [[round(v, 3) for v in s] for s in by] for n, by in measured["seconds"].items()},
        "command": " ".join(["python", str(Path(__file__).relative_to(ROOT)), *argv]),
        "machine": {**before, "load_after": [round(value, 2) for value in os.getloadavg()]},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
