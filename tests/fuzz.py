"""Read mutated pictures and documents: each gives a result or one sentence, within the limits of time.

`python -m tests.fuzz pictures --number 250000` and `python -m tests.fuzz documents --number 20000`; a failure names
the seed that makes the file again.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from t3_agents.errors import InputError
from t3_agents.media import decode_image
from tests.helpers.mutations import documents, mutated, pictures


def read_picture(data: bytes, name: str) -> str:
    """`read` or `refused`; whatever else is raised is the fault that is looked for."""
    try:
        decode_image(data, name, 2**25)
    except InputError as error:
        return "refused" if "\n" not in str(error) else "more than a sentence"
    return "read"


def read_document(data: bytes, name: str) -> str:
    """The same by the tool `inspect_file_as_text`."""
    from t3_agents.tools.inspect_file_as_text import InspectFileAsText

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        tool = InspectFileAsText()
        tool.save_image = lambda image, stem: f"{stem}.png"
        try:
            tool(str(path))
        except InputError:
            return "refused"
    return "read"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("pictures", "documents"))
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    samples = pictures() if options.what == "pictures" else documents()
    read = read_picture if options.what == "pictures" else read_document
    names, counts, faults, slowest = sorted(samples), Counter(), 0, (0.0, 0)
    for seed in range(options.first_seed, options.first_seed + options.number):
        rng = random.Random(seed)
        name = rng.choice(names)
        start = time.perf_counter()
        try:
            counts[read(mutated(samples[name], rng), name)] += 1
        except Exception as error:
            faults += 1
            print(f"seed {seed}, {name}: {type(error).__name__}: {str(error)[:200]}", flush=True)
        slowest = max(slowest, (time.perf_counter() - start, seed))
        if (seed + 1) % 10_000 == 0:
            print(f"{seed + 1} {dict(counts)}", flush=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{options.number} {options.what}: {dict(counts)}, {faults} faults, {memory} MB", end=", ")
    print(f"slowest {slowest[0]:.1f} s (seed {slowest[1]})")
    return 1 if faults or counts["more than a sentence"] else 0


if __name__ == "__main__":
    sys.exit(main())
