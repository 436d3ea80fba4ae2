"""How many files of the project one passes on three ways, for somebody who follows the code.

    python tests/benchmarks/files_on_the_way.py
    python tests/benchmarks/files_on_the_way.py --tree /path/of/a/checkout --files

A file is on the way when at least one of its functions is called on it, in any thread of the main process. Code at the
top of modules and of classes does not count, nor what is called while a module is imported: that is how the program is
put together, not what it does. Processes that are started (sandbox, teacher) do not count either.

- run: `t3 run` with a model behind a server that says two turns, one that prints and one that answers, and with the
  executor `local`.
- loss: one batch, from a row with a picture over [`TrajectoryCollator`] to the loss of the trainer.
- row: a query of `t3 synth` and what follows until its row is kept, with a scripted teacher on loopback.

The last line is JSON with the three numbers. `--tree` counts another checkout, also one of the time when all modules
of `t3_agents` lay in one folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any


PACKAGES = ("t3_agents", "dataset_builder", "trainers", "hub_cards")
FUNCTION = 0x1
"""The flag `CO_OPTIMIZED` of code, which that of modules and classes does not have."""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[2], help="checkout to count in")
    parser.add_argument("--files", action="store_true", help="name the files")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def first(*names: str) -> Any:
    """The first of some attributes, `module:name`, that this checkout has."""
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"This checkout has none of {', '.join(names)}.")


def take_along(name: str) -> None:
    """Give an older checkout a helper of this one."""
    file = Path(__file__).parents[2].joinpath(*name.split(".")).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


class Footsteps:
    """Notes the files whose functions are called."""

    def __init__(self, tree: Path):
        self.roots = tuple(f"{tree.resolve() / package}{os.sep}" for package in PACKAGES)
        self.tree = tree.resolve()
        self.files: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or code.co_filename in self.files or not code.co_filename.startswith(self.roots):
            return
        caller: FrameType | None = frame
        while caller is not None:
            if not caller.f_code.co_flags & FUNCTION and caller.f_code.co_filename.startswith(self.roots):
                return  # in the middle of an import
            caller = caller.f_back
        self.files.add(code.co_filename)

    @contextmanager
    def noted(self) -> Iterator[None]:
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def names(self) -> list[str]:
        return sorted(str(Path(file).relative_to(self.tree)) for file in self.files)


def run(steps: Footsteps, folder: Path) -> None:
    from tests.helpers.chat_server import ChatServer

    turns = [f"Thought: think\nCode:\n```py\n{code}\n```<end_action>" for code in ("print(1)", "final_answer('1')")]
    argv = ["How much is it?", "--agent", "some-model", "--executor", "local"]
    if (steps.tree / "t3_agents" / "run.py").is_file():
        # The command line looked its commands up in what is installed, which is this checkout.
        steps.files.add(str(steps.tree / "t3_agents" / "cli.py"))
        command = first("t3_agents.run:main")
    else:
        command, argv = first("t3_agents.cli:main"), ["run", *argv]
    with ChatServer(turns) as server, steps.noted():
        assert command([*argv, "--api_base", server.url]) == 0


def loss(steps: Footsteps, folder: Path) -> None:
    from datasets import Dataset
    from PIL import Image

    make_tiny_vlm = first(
        "tests.helpers.tiny_vlm:make_tiny_vlm", "tests.tiny_vlm:make_tiny_vlm", "tiny_vlm:make_tiny_vlm"
    )
    model_class = first("t3_agents.models.vlm:VLMModel", "t3_agents.models:VLMModel")
    build_trainer = first("trainers.sft:build_trainer")
    config_class = first("trainers.config:TrajectoryConfig", "trainers.config:TrainConfig")
    names = {"output_dir", "dataset_name"} if hasattr(config_class, "output_dir") else {"output", "dataset"}
    config = config_class(**{name: str(folder / name) for name in names}, report_to="none")
    controller = model_class.from_pretrained(make_tiny_vlm(folder / "model"), device="cpu")
    texts = [("system", "Be brief."), ("user", "What is it?"), ("assistant", "red")]
    row = {
        "messages": [{"role": role, "content": text} for role, text in texts],
        "images": [Image.new("RGB", (40, 30))],
    }
    trainer = build_trainer(config, controller.model, controller.processor, Dataset.from_list([row] * 2))
    trainer.model.train()
    with steps.noted():
        batch = trainer.data_collator([row, row])
        assert trainer.compute_loss(trainer.model, batch).item() > 0


def row(steps: Footsteps, folder: Path) -> None:
    config_class = first("dataset_builder.synthesis.config:SynthConfig")
    assembly = "dataset_builder.synthesis.stages.assembly", "dataset_builder.synthesis.assembly"
    endpoint_teacher = first(*(f"{name}:endpoint_teacher" for name in assembly))
    make_pipeline = first(*(f"{name}:make_pipeline" for name in assembly))
    ledger = first(*(f"dataset_builder.synthesis.{name}:Ledger" for name in ("progress", "usage")))
    teacher_server = first("tests.helpers.teacher_server:teacher_server", "tests.teacher_server:teacher_server")
    with teacher_server("--plain") as url:
        flavor = "flavor" if hasattr(config_class, "flavor") else "flavour"
        config = config_class(
            output=str(folder),
            teacher=url,
            model="scripted-teacher",
            num_tasks=4,
            **{flavor: "gaia"},
            embedding="words",
            concurrency=1,
        )
        teacher = endpoint_teacher(config, ledger())
        pipeline = make_pipeline(config, folder, teacher)
        with steps.noted():
            pipeline.run()
        teacher.endpoint.close()
    assert pipeline.progress.finished_by.get("kept"), dict(pipeline.progress.finished_by)


WAYS: dict[str, Callable[[Footsteps, Path], None]] = {"run": run, "loss": loss, "row": row}


def main(argv: list[str]) -> int:
    options = parse(argv)
    if options.one:
        sys.path.insert(0, str(options.tree))
        if not (options.tree / "tests" / "helpers" / "chat_server.py").is_file():
            take_along("tests.helpers.chat_server")
        steps = Footsteps(options.tree)
        with tempfile.TemporaryDirectory() as folder:
            WAYS[options.one](steps, Path(folder))
        print(json.dumps(steps.names()))
        return 0
    numbers = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--tree", str(options.tree), "--one", way]
        environment = {**os.environ, "PYTHONPATH": str(options.tree), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        files = json.loads(done.stdout.splitlines()[-1])
        numbers[way] = len(files)
        if options.files:
            print(f"{way}: {len(files)}", *files, sep="\n  ")
    print(json.dumps(numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
