"""Throughput of a synthesis against a scripted teacher that takes its time, and how flat its memory is.

    python tests/benchmarks/synthesis.py

Each run is a process of its own; the scripted teacher is another one. The last line is JSON: `efficiency`, the ideal
time (calls x latency / concurrency) over the time that the run took; `vs_sequential`, how many times faster it is than
the same stages one task after the other, as the paper's scripts work; `rss_mb_100` and `rss_mb_1000`, peak memory of
the process with that many tasks.

A task also costs processor time: two fresh sandboxes (some 60 ms each) and what the stages compute. Two cores have 43
ms for a task in the ideal time, so it is the cores that bound a whole run there, not the latency; `--kinds all` adds
documents whose libraries take up to a second to import. `results/synthesis.json` therefore has `calls_only` too, the
efficiency of as many structured requests without the rest of the stages, and for each run the processor's milliseconds
for a call and a task in the process itself, without its sandboxes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _report import ROOT, machine, make_parser, write_record


sys.path.insert(0, str(ROOT))
PACKAGES = ("smolagents", "pydantic", "urllib3", "t3-agents")


def parse(argv: list[str]) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", type=int, default=1000, help="tasks of the long run")
    parser.add_argument("--short", type=int, default=100, help="tasks of the short and of the sequential run")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds before each reply of the teacher")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--flavor", default="gaia")
    parser.add_argument("--kinds", choices=("plain", "all"), default="plain", help="documents of the tasks")
    parser.add_argument("--one", choices=("run", "calls"), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def measure(work: Any, num_calls: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Time and resources of this process for `work`."""
    cpu, begun = time.process_time(), time.perf_counter()
    work()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    calls = num_calls()
    return {
        "seconds": round(seconds, 2),
        "calls": calls,
        "efficiency": round(calls * options.latency / options.concurrency / seconds, 3),
        "cpu_ms_per_call": round(1000 * cpu / calls, 2),
        "cpu_seconds": round(cpu, 2),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def run_once(url: str, options: argparse.Namespace) -> dict[str, Any]:
    """A whole synthesis in this process."""
    from dataset_builder.synthesis.config import SynthConfig
    from dataset_builder.synthesis.progress import Ledger
    from dataset_builder.synthesis.stages.assembly import endpoint_teacher, make_pipeline
    from tests.helpers.teacher_server import MODEL

    with tempfile.TemporaryDirectory() as folder:
        config = SynthConfig(
            output=folder,
            teacher=url,
            model=MODEL,
            num_tasks=options.tasks,
            flavor=options.flavor,
            embedding="words",
            concurrency=options.concurrency,
        )
        teacher = endpoint_teacher(config, Ledger())
        pipeline = make_pipeline(config, Path(folder), teacher)
        found = measure(pipeline.run, lambda: teacher.ledger.total().calls, options)
        outcomes = dict(pipeline.progress.finished_by)
        teacher.endpoint.close()
    return {**found, "cpu_ms_per_task": round(1000 * found["cpu_seconds"] / options.tasks, 1), "outcomes": outcomes}


def call_only(url: str, options: argparse.Namespace) -> dict[str, Any]:
    """Plans of files, asked for by as many threads, and nothing else: what teacher and connection cost."""
    from dataset_builder.synthesis.candidate import Candidate
    from dataset_builder.synthesis.config import SynthConfig
    from dataset_builder.synthesis.progress import Ledger
    from dataset_builder.synthesis.stages.assembly import endpoint_teacher
    from dataset_builder.synthesis.stages.planning import plan_files
    from tests.helpers.teacher_server import MODEL

    config = SynthConfig(teacher=url, model=MODEL, concurrency=options.concurrency)
    teacher = endpoint_teacher(config, Ledger())
    words = "Our club measures rain. Which place in the rain diary of May {} had the highest rainfall?"
    candidates = [Candidate(f"gaia-0-{n}", "gaia", words.format(n), ("inspect_file_as_text",)) for n in range(8)]

    def plan(number: int) -> None:
        plan_files(candidates[number % len(candidates)], teacher)

    with ThreadPoolExecutor(options.concurrency) as pool:
        found = measure(
            lambda: list(pool.map(plan, range(5 * options.tasks))), lambda: teacher.ledger.total().calls, options
        )
    teacher.endpoint.close()
    return found


def in_process(kind: str, tasks: int, concurrency: int, options: argparse.Namespace) -> dict[str, Any]:
    """One measurement in a process of its own."""
    arguments = ["--one", kind, "--tasks", tasks, "--concurrency", concurrency]
    arguments += ["--latency", options.latency, "--flavor", options.flavor, "--kinds", options.kinds]
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    print(kind, tasks, concurrency, done.stdout.strip(), file=sys.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str]) -> int:
    options = parse(argv)
    if options.one:
        from tests.helpers.teacher_server import teacher_server

        plain = ["--plain"] if options.kinds == "plain" else []
        with teacher_server("--latency", str(options.latency), *plain) as url:
            print(json.dumps(run_once(url, options) if options.one == "run" else call_only(url, options)))
        return 0
    before = machine()
    long = in_process("run", options.tasks, options.concurrency, options)
    short = in_process("run", options.short, options.concurrency, options)
    sequential = in_process("run", options.short, 1, options)
    calls = in_process("calls", options.tasks, options.concurrency, options)
    summary = {
        "efficiency": long["efficiency"],
        "vs_sequential": round(sequential["seconds"] / short["seconds"], 1),
        f"rss_mb_{options.short}": short["rss_mb"],
        f"rss_mb_{options.tasks}": long["rss_mb"],
    }
    details = {
        "calls_only": calls,
        "runs": {"long": long, "short": short, "sequential": sequential},
    }
    return write_record(options.output, argv, summary, details, before, PACKAGES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
