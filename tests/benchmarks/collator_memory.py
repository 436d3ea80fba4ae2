"""Memory of tuning on a large dataset: resident memory after few and after many batches.

    python tests/benchmarks/collator_memory.py

The collator is driven alone, in the order of a training run, with rows of the offline teacher: a few are made for
real, and copied into Parquet with a picture and an id of its own for each. It is done with the collator's own cache
of pixels, which fills up at first, and with a small one. The last line is JSON; `results/collator_memory.json` holds
it with the command, the machine and the versions.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from _report import machine, make_parser, write_record


FAMILIES = ["look_shapes", "invoice_key", "shop_sales"]
PACKAGES = ("torch", "transformers", "datasets", "pyarrow", "t3-agents")
EARLY = 100


def parse(argv: list[str]) -> argparse.Namespace:
    parser = make_parser(__doc__, controller=True)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=5_000, help="batches of four rows")
    parser.add_argument("--seeds", type=int, default=16, help="rows that are made for real, of each family")
    parser.add_argument("--caches", type=int, nargs="+", default=[512, 16], help="sizes of the pixel cache in MiB")
    return parser.parse_args(argv)


def write_rows(folder: Path, rows: int, seeds: int) -> None:
    """A dataset of copies in shards of a thousand rows; each picture differs from all others in a few pixels."""
    from datasets import Dataset

    from dataset_builder.build import BuildConfig, build_dataset
    from trainers.loading import load_rows

    with tempfile.TemporaryDirectory() as scratch:
        config = BuildConfig(families=FAMILIES, train=seeds, validation=0, test=0)
        real = load_rows(str(build_dataset(config, Path(scratch, "seeds"))), "train")
        originals = list(real)
        features = real.features

    def copies(start: int, end: int) -> Iterator[dict[str, Any]]:
        for number in range(start, end):
            row = dict(originals[number % len(originals)])
            row["id"] = f"{number:016x}"
            row["images"] = [{"bytes": marked(image, number), "path": None} for image in row["images"]]
            yield row

    (folder / "data").mkdir()
    for start in range(0, rows, 1000):
        shard = Dataset.from_list(list(copies(start, min(start + 1000, rows))), features=features)
        shard.to_parquet(folder / "data" / f"train-{start // 1000:05}.parquet")


def marked(image: Any, number: int) -> bytes:
    """A picture with a number in its first pixels, as PNG."""
    image = image.convert("RGB")
    for place in range(3):
        image.putpixel((place, 0), ((number >> (8 * place)) % 256, 0, 0))
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def memory() -> dict[str, float]:
    """Resident memory of this process in MiB: all of it, its own, and pages of files (the dataset is mapped)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    fields = {"rss_mb": "VmRSS", "own_mb": "RssAnon", "file_mb": "RssFile"}
    return {name: round(int(lines[field].split()[0]) / 1024, 1) for name, field in fields.items()}


def drive(folder: Path, controller: str, steps: int, cache_mb: int) -> dict[int, dict[str, float]]:
    """Collate batch after batch, and note the memory after some of them."""
    from accelerate.data_loader import SeedableRandomSampler
    from torch.utils.data import DataLoader

    from t3_agents.models.vlm import VLMModel
    from trainers.collators import TrajectoryCollator
    from trainers.loading import load_rows

    encoder = VLMModel.from_pretrained(controller, device="cpu").encoder
    collator = TrajectoryCollator(encoder, 1024, "shared_prefix", pixel_cache_mb=cache_mb)
    dataset = load_rows(str(folder), "train")
    loader = DataLoader(
        dataset, batch_size=4, sampler=SeedableRandomSampler(dataset, data_seed=0), collate_fn=collator
    )
    found: dict[int, dict[str, float]] = {}
    step, start = 0, time.perf_counter()
    while step < steps:
        for _ in islice(loader, steps - step):
            step += 1
            if step in (EARLY, steps) or step % 500 == 0:
                found[step] = memory()
                print(
                    f"cache {cache_mb} MiB, step {step}: {found[step]}, {time.perf_counter() - start:.0f} s",
                    flush=True,
                )
    return found


def main(argv: list[str]) -> int:
    options = parse(argv)
    before = machine()
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HF_DATASETS_CACHE"] = scratch  # before `datasets` is imported
        folder = Path(scratch, "dataset")
        folder.mkdir()
        write_rows(folder, options.rows, options.seeds)
        for cache_mb in options.caches:
            # Each in a process of its own, which has seen nothing yet.
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                found[cache_mb] = pool.submit(drive, folder, options.controller, options.steps, cache_mb).result()
    first = found[options.caches[0]]
    summary = {f"rss_mb_{step}": first[step]["rss_mb"] for step in (EARLY, options.steps)}
    details = {
        "rows": options.rows,
        "by_cache_mb_and_step": found,
    }
    return write_record(options.output, argv, summary, details, before, PACKAGES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
