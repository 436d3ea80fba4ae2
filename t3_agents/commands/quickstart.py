"""The whole way once, offline: build a dataset, measure the controller, tune it, measure it again, write a report."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt

from ..cli import main as main_command
from ..cli import parse
from ..errors import InputError, T3Error
from ..models.device import num_cores
from ..models.embedded import EMBEDDED
from ..options import check_options
from ..storage import RunFolder, write_atomic


# The last three are kept out of training.
FAMILIES = """receipt_tip rain_chart medicine_label device_record invoice_key clinic_letter project_slides
    concert_poster match_scores shop_sales look_slip look_people look_shapes
    boarding_pass rent_contract energy_readings""".split()
PACKAGES = "t3-agents torch transformers smolagents trl peft datasets evaluate huggingface_hub".split()


@dataclass
class QuickstartConfig:
    """The whole way once, offline: build data, measure, tune, measure again, report.

    Args:
        output (`str`, *optional*, defaults to `"runs/quickstart"`): folder of the run. The same command on it resumes
            a stopped run.
        controller (`str`, *optional*, defaults to `"embedded"`): folder or Hub id of the vision-language model to
            tune.
        recipe (`str`, *optional*, defaults to `"embedded"`): recipe of the tuning, a name or a YAML file.
        families (`list[str]`, *optional*): scenario families; a mix of seen and unseen ones.
        train (`int`, *optional*, defaults to 13): training tasks per family.
        test (`int`, *optional*, defaults to 4): held-out tasks per family.
        max_new_tokens (`int`, *optional*, defaults to 96): tokens per turn in both evaluations.
        num_workers (`int`, *optional*, defaults to 2): processes that build the data.
        seed (`int`, *optional*, defaults to 0): of data and tuning.
    """

    output: str = "runs/quickstart"
    controller: str = EMBEDDED
    recipe: str = "embedded"
    families: list[str] = field(default_factory=lambda: list(FAMILIES))
    train: PositiveInt = 13
    test: PositiveInt = 4
    max_new_tokens: PositiveInt = 96
    num_workers: PositiveInt = 2
    seed: int = 0

    def check(self) -> None:
        """Find mistakes that would otherwise come up only after minutes of work.

        Raises:
            InputError: when the controller or the recipe is a path that does not lead to one.
        """
        check_options(self)
        controller, recipe = Path(self.controller), Path(self.recipe)
        local = controller.is_absolute() or controller.exists() or self.controller.startswith(".")
        if self.controller != EMBEDDED and local and not (controller / "config.json").is_file():
            raise InputError(f"{controller} holds no model (no config.json): name a model folder or a Hub id.")
        if recipe.suffix in (".yaml", ".yml") and not recipe.is_file():
            raise InputError(f"There is no recipe {recipe}.")

    def settings(self) -> dict[str, Any]:
        """What decides the result of a run."""
        return {name: value for name, value in asdict(self).items() if name not in ("output", "num_workers")}


class Stages:
    """Stages of a run and the seconds that they took, kept on disk so that a stopped run adds up.

    Args:
        path (`Path`): JSON file with the seconds by stage.
    """

    def __init__(self, path: Path):
        self.path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[None]:
        from rich.console import Console

        Console().rule(f"[bold]{title}", align="left")
        start = time.perf_counter()
        try:
            yield
        finally:
            self._add(name, time.perf_counter() - start)

    def _add(self, name: str, seconds: float) -> None:
        with self._lock:
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            write_atomic(self.path, json.dumps(self.seconds, indent=2) + "\n")

    @contextmanager
    def beside(self, name: str, command: str, options: dict[str, Any], result: Path, log: Path) -> Iterator[None]:
        """A stage in a process of its own while the block runs, each with half of the CPU cores.

        A small model gains little from a second thread and much from a second process. With an accelerator the command
        runs before the block: two models may not fit.

        Args:
            name (`str`): name of the stage.
            command (`str`), options (`dict`), result (`Path`): the command that runs, as in [`_call`].
            log (`Path`): file for what it prints.

        Raises:
            T3Error: when the command failed; the message ends with the last line it printed.
        """
        if result.is_file():
            yield
            return
        import torch

        if torch.cuda.is_available():
            with self.stage(name, f"Stage {name}"):
                _call(command, options, result)
            yield
            return
        threads = str(max(1, num_cores() // 2))
        start, before = time.perf_counter(), os.environ.get("OMP_NUM_THREADS")
        os.environ.setdefault("OMP_NUM_THREADS", threads)
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", f"import {__name__} as q; q.run_beside()", *_argv(command, options)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        watch = threading.Thread(target=lambda: (process.wait(), self._add(name, time.perf_counter() - start)))
        watch.start()
        try:
            yield
            watch.join()
        finally:
            process.kill()
            watch.join()
            process.stdin.close()
            if before is None:
                del os.environ["OMP_NUM_THREADS"]
        if process.returncode:
            said = log.read_text(errors="replace").strip().splitlines()
            raise T3Error(f"The stage `{name}` failed: {said[-1] if said else 'it printed nothing'} (see {log}).")


def main(config: QuickstartConfig) -> int:
    """`t3 quickstart`: run all stages; the report is `<output>/report.md`."""
    from ..evaluation.results import RESULTS_FILE
    from ..evaluation.scenarios import load_tasks
    from ..hub.repos import AGENT_FILE

    config.check()
    folder = Path(config.output)
    with RunFolder(folder, {"command": "quickstart", **config.settings()}):
        stages = Stages(folder / "stages.json")
        if config.controller == EMBEDDED:
            with stages.stage("controller", "Embedded controller"):
                from ..models.embedded import embedded_controller

                print(f"SmolLM2-135M with a vision tower, in the cache folder {embedded_controller().name}")
        with stages.stage("data", "Dataset: tasks, programs that solve them, verified trajectories"):
            options = {"output": folder / "build", "families": config.families, "train": config.train, "validation": 0}
            options |= {"test": config.test, "seed": config.seed, "num_workers": config.num_workers}
            _call("build", options, folder / "dataset" / "README.md")
            dataset = _publish(folder / "build" / "dataset", folder / "dataset")
        agent = folder / "train" / "agent"
        untuned = _evaluation(config, folder, config.controller, "untuned")
        result = folder / "untuned" / RESULTS_FILE
        with stages.beside("untuned", "eval scenarios", untuned, result, folder / "untuned.log"):
            with stages.stage("train", "Trajectory tuning, and beside it the evaluation of the untuned controller"):
                options = {"config": config.recipe, "dataset_name": dataset, "output_dir": folder / "train"}
                options |= {"seed": config.seed, "model_name_or_path": config.controller}
                _call("train", options, agent / AGENT_FILE)
        blanked = {**_evaluation(config, folder, agent, "blanked"), "subset": "vision", "blank": True}
        looks = any(task.origin.get("vision_only") for task in load_tasks(dataset))
        result, log = folder / "blanked" / RESULTS_FILE, folder / "blanked.log"
        beside = stages.beside("vision", "eval scenarios", blanked, result, log) if looks else nullcontext()
        with beside, stages.stage("tuned", "Evaluation of the tuned agent, and beside it with every picture blanked"):
            _call("eval scenarios", _evaluation(config, folder, agent, "tuned"), folder / "tuned" / RESULTS_FILE)
        with stages.stage("report", "Report"):
            _report(config, folder, stages)
    return 0


def _argv(command: str, options: dict[str, Any]) -> list[str]:
    """The command line; options are texts, numbers, lists, or true."""
    argv = command.split()
    for name, value in options.items():
        values = value if isinstance(value, list) else [] if value is True else [value]
        argv += [f"--{name}", *map(str, values)]
    return argv


def _call(command: str, options: dict[str, Any], result: Path) -> None:
    """Run a command as the shell would, unless what it writes last is there."""
    if result.is_file():
        return
    status = parse(_argv(command, options))()
    if status:
        raise T3Error(f"A stage ended with status {status}; its message is above.")


def run_beside() -> None:
    """What the process of [`Stages.beside`] does: run a command, and end with its parent, even after `kill -9`."""

    def wait_for_parent() -> None:
        sys.stdin.read()  # the parent's end of the pipe closes when it is gone
        os._exit(1)

    threading.Thread(target=wait_for_parent, daemon=True).start()
    sys.exit(main_command(sys.argv[1:]))


def _evaluation(config: QuickstartConfig, folder: Path, agent: Any, name: str) -> dict[str, Any]:
    return {
        "agent": agent,
        "dataset": folder / "dataset",
        "output": folder / name,
        "max_new_tokens": config.max_new_tokens,
        "max_consecutive_errors": 2,
    }


def _publish(source: Path, target: Path) -> Path:
    """Copy the finished dataset to where people look for it."""
    if not target.is_dir():
        scratch = target.with_name(f".{target.name}")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(source, scratch)
        card = scratch / "README.md"
        card.write_text(card.read_text("utf-8").replace(source.as_posix(), target.as_posix()), "utf-8")
        scratch.rename(target)
    return target


def _report(config: QuickstartConfig, folder: Path, stages: Stages) -> None:
    from ..evaluation.run import TRAJECTORIES_FILE
    from ..reports import TRAINING_FILE
    from ..reports.quickstart import build_results, print_table, write_report
    from ..storage import BlobStore, read_rows
    from ..trajectory import Trajectory

    def read(name: str) -> list[Trajectory]:
        path = folder / name / TRAJECTORIES_FILE
        rows = read_rows(path) if path.is_file() else []  # families without pictures have no blanked run
        trajectories = [Trajectory.from_dict(row, BlobStore(folder / name / "blobs")) for row in rows]
        return sorted(trajectories, key=lambda t: (str(t.task.origin.get("family")), t.task.id))

    runs: dict[str, dict[str, list[Trajectory]]] = {}
    for name in ("untuned", "tuned"):
        runs[name] = {"seen": [], "unseen": []}
        for trajectory in read(name):
            runs[name]["unseen" if trajectory.task.origin.get("unseen") else "seen"].append(trajectory)
    vision = {"images": [t for t in read("tuned") if t.task.origin.get("vision_only")], "blanked": read("blanked")}
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    results = build_results(runs, vision, stages.seconds, config.seed, versions)
    trained = json.loads((folder / "train" / TRAINING_FILE).read_text())["summary"]
    controller = Path(config.controller).name if Path(config.controller).is_dir() else config.controller
    description = (
        f"The controller ({controller}) was tuned on {trained['rows']} verified trajectories of the offline teacher "
        "and measured before and after on tasks that training did not see: new tasks of the same families, and "
        "families that were kept out. Both evaluations have the same limits."
    )
    write_report(folder, results, runs, description)
    print_table(results)
    print(f"\nReport: {folder / 'report.md'}   Agent: {folder / 'train' / 'agent'}   Dataset: {folder / 'dataset'}")
