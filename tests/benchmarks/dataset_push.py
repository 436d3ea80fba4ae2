"""Rate and memory of pushing a dataset of 2,000 rows with pictures, and what travels after 200 more rows.

    python tests/benchmarks/dataset_push.py [ROWS] [MORE]

The Hub is the server of the tests, on loopback.
"""

from __future__ import annotations

import io
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image


sys.path.insert(0, str(Path(__file__).parents[2]))

from t3_agents.storage import BlobStore  # noqa: E402
from tests.helpers.hub_server import HubServer, client_environment  # noqa: E402
from tests.helpers.run_samples import make_trajectory  # noqa: E402


def picture(seed: int) -> bytes:
    """A PNG of about 75 kB: coarse noise, which compresses about as well as a photo."""
    noise = random.Random(seed).randbytes(160 * 120 * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (160, 120), noise).resize((320, 240)).quantize(64).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def write_rows(run: Path, name: str, first: int, number: int, scratch: Path) -> None:
    """Rows with one attached picture each, written the way a run writes them."""
    blobs = BlobStore(run / "blobs")
    path = run / "shards" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:  # not a Shard: 2,000 syncs are not what is measured
        for n in range(first, first + number):
            trajectory = make_trajectory(scratch, n)
            digest = blobs.put(picture(n))
            record = trajectory.stored_in(blobs).to_dict()
            text = json.dumps(record).replace(record["task"]["files"][0]["sha256"], digest)
            stream.write(text + "\n")


def push(run: Path, server: HubServer, home: Path) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a `t3 push dataset` in a process of its own."""
    command = [sys.executable, "-m", "t3_agents.cli", "push", "dataset", str(run), "user/mm-traj"]
    start = time.perf_counter()
    done = subprocess.Popen(
        command, env=client_environment(server.url, home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    output, errors = done.communicate()
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(errors)
    print(output.strip())
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000


def main(rows: int = 2000, more: int = 200) -> None:
    with tempfile.TemporaryDirectory() as place, HubServer() as server:
        folder = Path(place)
        run = folder / "run"
        write_rows(run, "train-a", 0, rows, folder / "files")
        for label, number in (("first push", rows), ("second push", more)):
            if label == "second push":
                write_rows(run, "train-b", rows, more, folder / "files")
            before = len(server.requests)
            seconds, memory = push(run, server, folder / label)
            sent = sum(len(r.body) for r in server.requests[before:])
            parquet = sum(len(r.body) for r in server.requests[before:] if r.method == "PUT" and len(r.body) > 10**6)
            print(
                f"{label}: {number:,} new rows, {seconds:.1f} s ({number / seconds:.0f} rows/s, "
                f"{sent / 1e6 / seconds:.1f} MB/s), {sent / 1e6:.1f} MB sent ({parquet / 1e6:.1f} MB in large files), "
                f"peak {memory:.0f} MB"
            )
        files = server.files("user/mm-traj", "datasets")
        print({path: len(data) for path, data in files.items() if path.endswith(".parquet")})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
