"""What a tuning run begins with, resumes from and leaves: rows, the agent that is tuned, checkpoints."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import PartialState
from smolagents.utils import BASE_BUILTIN_MODULES
from transformers import TrainerCallback

from hub_cards.model_card import make_model_card, read_run
from t3_agents.agent.agent import T3Agent
from t3_agents.agent.config import AgentOptions, load_prompt
from t3_agents.agent.scope import scope_of
from t3_agents.errors import InputError, MissingExtraError, T3Error
from t3_agents.hub.repos import AGENT_FILE
from t3_agents.models.device import best_device
from t3_agents.models.embedded import EMBEDDED
from t3_agents.models.scripted import ScriptedModel
from t3_agents.models.vlm import VLMModel
from t3_agents.progress import WorkProgress
from t3_agents.storage import RunFolder, write_atomic
from t3_agents.tools.toolbox import make_toolbox
from t3_agents.turns import CODE_CLOSE, CODE_OPEN, parse_python, parse_turn

from .config import TrajectoryConfig, TuningConfig
from .distributed import is_sharded


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import BitsAndBytesConfig, PreTrainedModel, Trainer

COMPLETE = "complete.json"
"""Written last into a checkpoint folder: one without it was being written when the process was killed."""

AGENT_FOLDER = "agent"
"""Where in the folder of a run the tuned agent is saved."""

ROWS_PROMPT = "rows"
"""What the prompt of an agent is called that is the system turn of its rows."""

NOT_QUANTIZED = ["lm_head", r".*(vision|visual|connector|projector)[^.]*"]
"""Modules, by name or expression, that keep their weights: what families call the parts for pictures."""


# The folder of a run


def tune(
    command: str,
    config: TuningConfig,
    prepare: Callable[[], tuple[T3Agent, Trainer]],
    write_report: Callable[[Any, Path], None],
) -> Path:
    """Tune and save an agent; a run that was stopped resumes from its last checkpoint, one that is complete is kept.

    Args:
        command (`str`): which of the methods it is.
        config ([`TuningConfig`]): the recipe.
        prepare (`Callable`): loads the agent, and makes a trainer of its controller.
        write_report (`Callable`): called with the trainer after the training, and the folder.

    Returns:
        `Path`: the tuned agent, `<output_dir>/agent`.
    """
    with training_run(command, config) as folder:
        if not (folder / AGENT_FOLDER / AGENT_FILE).is_file():
            agent, trainer = prepare()
            with PartialState().main_process_first():  # which deletes torn ones
                checkpoint = last_checkpoint(folder)
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            write_report(trainer, folder)
            save_tuned(agent, trainer, config)
    return folder / AGENT_FOLDER


@contextmanager
def training_run(command: str, config: TuningConfig) -> Iterator[Path]:
    """The output folder of a run, which belongs to its processes alone.

    Raises:
        InputError: when the disk is full.
        RunFolderError: when the folder holds another run.
    """
    folder, processes = Path(config.output_dir), PartialState()
    settings = {"command": command, **config.settings(), "processes": processes.num_processes}
    with RunFolder(folder, settings) if processes.is_main_process else nullcontext(), clear_disk_errors(folder):
        processes.wait_for_everyone()
        yield folder
        processes.wait_for_everyone()


@contextmanager
def clear_disk_errors(folder: Path) -> Iterator[None]:
    """Say in a sentence that the disk was full: the libraries that write weights raise their own kinds of errors."""
    try:
        yield
    except Exception as error:
        # The last two are how torch.save says it.
        signs = ("No space left", "PytorchStreamWriter", "inline_container.cc")
        if not any(sign in str(error) for sign in signs) or isinstance(error, T3Error):
            raise
        raise InputError(
            f"The disk of {folder} is full: free some space and start again, the run resumes from its last checkpoint."
        ) from error


def last_checkpoint(folder: str | Path) -> Path | None:
    """The newest complete checkpoint; torn ones are deleted."""
    complete = []
    for checkpoint in Path(folder).glob("checkpoint-*"):
        if (checkpoint / COMPLETE).is_file():
            complete.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max(complete, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)


class MarkComplete(TrainerCallback):
    """Marks a checkpoint folder once everything in it is written, by every process."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        processes = PartialState()
        processes.wait_for_everyone()
        if processes.is_main_process:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_atomic(folder / COMPLETE, json.dumps({"step": state.global_step}) + "\n")


class ShowProgress(TrainerCallback):
    """Progress over optimizer steps, with the loss."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress = WorkProgress(disable=not state.is_world_process_zero)
        self.bar = self.progress.add_task("Steps", total=state.max_steps, completed=state.global_step)
        self.progress.start()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        loss = {"note": f"loss {float(logs['loss']):.3f}"} if logs and "loss" in logs else {}
        self.progress.update(self.bar, completed=state.global_step, **loss)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.stop()


# Rows


def load_rows(dataset: str | None, split: str) -> Dataset:
    """Rows of a dataset folder or Hub repo, with pictures as bytes: `datasets` would open any path that a row names.

    Raises:
        InputError: when there is no such dataset or split.
    """
    from datasets import Image, List, load_dataset

    if not dataset:
        raise InputError("Name the folder or Hub id of a dataset with `dataset_name`.")
    folder = Path(dataset)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{dataset} is a file: name the folder of a built dataset.")
    try:
        with PartialState().main_process_first():
            # A relative folder would be taken for a Hub id.
            rows = load_dataset(str(folder.resolve()) if folder.exists() else dataset, split=split)
    except (ValueError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"`{dataset}` with split `{split}` cannot be loaded as a dataset: {reason}") from error
    for name, feature in rows.features.items():
        if isinstance(feature, List) and isinstance(feature.feature, Image):
            rows = rows.cast_column(name, List(Image(decode=False)))
        elif isinstance(feature, Image):
            rows = rows.cast_column(name, Image(decode=False))
    return rows


# The agent before


def new_agent(config: TrajectoryConfig, rows: Dataset) -> T3Agent:
    """An agent with the controller of a recipe, and prompt, toolbox, tags and imports of the rows.

    Where no prompt of the package gives the system turn of the rows, theirs is the agent's, word for word.

    Args:
        config ([`TrajectoryConfig`]): the recipe; its `prompt` and `toolbox` must give what the rows have.
        rows ([`~datasets.Dataset`]): what it is tuned on.

    Raises:
        InputError: when there is no such controller, it cannot be had as the recipe wants it, or prompt or toolbox are
            not those of the rows.
        MissingExtraError: when a package for it is not installed.
    """
    text, makers = system_prompt_of(rows), _makers_of(rows)
    made = {name: _only(name, makers) for name in ("prompt", "toolbox_name", "code_block_tags")}
    toolbox = config.toolbox or made["toolbox_name"] or AgentOptions.bare[0]
    settings: dict[str, Any] = {
        "prompt": config.prompt or made["prompt"] or AgentOptions.bare[1],
        "code_block_tags": tuple(made["code_block_tags"] or _tags_of(rows)),
        "additional_authorized_imports": _imports_of(rows, makers),
        "executor_type": "local",  # nothing runs here, and it is not saved
    }
    tools = make_toolbox(toolbox)

    def make(**changes: Any) -> T3Agent:
        with warnings.catch_warnings():  # that code which runs there has no boundary
            warnings.simplefilter("ignore")
            return T3Agent(tools=tools, model=ScriptedModel([]), **{**settings, **changes})

    agent = make()
    if text not in (None, agent.initialize_system_prompt()):
        if config.prompt or config.toolbox:
            made_with = f" They were made with the prompt `{made['prompt']}`." if made["prompt"] else ""
            raise InputError(
                f"Prompt `{settings['prompt']}` with toolbox `{toolbox}` is not what the rows begin with.{made_with} "
                "Leave `prompt` and `toolbox` out to have those of the rows, or build rows with `t3 build --prompt`."
            )
        # As a string inside the template: whatever it holds is text.
        literal = {"system_prompt": f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"}
        agent = make(prompt=ROWS_PROMPT, prompt_templates=load_prompt(AgentOptions.bare[1]) | literal)
    agent.tuned_for = scope_of(_tasks_of(rows))
    agent.model = load_controller(config, max_new_tokens=config.max_new_tokens)
    return agent


def saved_agent(config: TuningConfig, rows: Dataset) -> T3Agent:
    """The saved agent that a recipe names, which keeps all but its weights.

    Args:
        config ([`TuningConfig`]): the recipe.
        rows ([`~datasets.Dataset`]): what it is tuned on.

    Raises:
        InputError: when it is no saved agent, the recipe is for a controller, or the rows are those of another agent.
    """
    for name in ("load_in_4bit", "use_liger_kernel"):
        if getattr(config, name):
            raise InputError(f"`{name}` is for controllers, not for saved agents: leave it out.")
    # Without its weights, which may take long to load.
    light = T3Agent.from_pretrained(config.model_name_or_path, model=ScriptedModel([]), **_origin(config))
    if system_prompt_of(rows) not in (None, light.initialize_system_prompt()):
        raise InputError(
            f"The rows are not those of {config.model_name_or_path}: they begin with another system prompt than it "
            "has. Take rows of this agent, such as `t3 improve` leaves them, or the agent that made the rows."
        )
    agent = T3Agent.from_pretrained(config.model_name_or_path, **_origin(config), **_place(config))
    agent.model = merge_adapter(agent.model)
    return agent


def _tasks_of(rows: Dataset) -> Iterator[tuple[str, str]]:
    """The first user turn of each row, and the family of its task, where the row names one."""
    families = _column(rows, "provenance")
    for messages in _column(rows, "messages"):
        origin = _record(next(families, None)).get("origin") or {}
        yield (
            _text(next((turn for turn in messages if turn["role"] == "user"), {"content": ""})),
            origin.get("family") or "",
        )


def _record(value: Any) -> dict[str, Any]:
    """A value of a JSON column, which older releases of `datasets` hold as text."""
    return (json.loads(value) if isinstance(value, str) else value) or {}


def system_prompt_of(rows: Dataset) -> str | None:
    """The system turn that all rows begin with; empty when they have none, `None` for rows without conversations.

    Raises:
        InputError: when they begin with several ones.
    """
    found = {_system_text(row) for row in _column(rows, "messages", "prompt") if row}
    if len(found) > 1:
        raise InputError(
            f"The rows begin with {len(found)} different system prompts, and an agent has one: choose rows of one "
            "prompt and one toolbox."
        )
    return found.pop() if found else None


def _column(rows: Dataset, *names: str) -> Iterator[Any]:
    """The values of the first of these columns that there is."""
    name = next((name for name in names if name in rows.column_names), None)
    for batch in rows.select_columns([name]).iter(1000) if name else ():
        yield from batch[name]


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)


def _system_text(messages: list[dict[str, Any]]) -> str:
    return _text(messages[0]) if messages[0]["role"] == "system" else ""


def _makers_of(rows: Dataset) -> list[dict[str, Any]]:
    """What the rows say of the agents that made them, each once."""
    values = map(_record, _column(rows, "provenance"))
    names = ("prompt", "toolbox_name", "code_block_tags", "imports")
    kinds = {json.dumps({name: value.get(name) for name in names}) for value in values if value}
    return [json.loads(kind) for kind in sorted(kinds)]


def _only(name: str, makers: list[dict[str, Any]]) -> Any:
    """What all makers have, where it is known.

    Raises:
        InputError: when they differ in it.
    """
    values = {json.dumps(maker[name]) for maker in makers if maker[name] is not None}
    if len(values) > 1:
        words = " and ".join(sorted(values))
        raise InputError(f"The rows were made with {words} as `{name}`, and an agent has one: choose rows of one.")
    return json.loads(values.pop()) if values else None


def _tags_of(rows: Dataset) -> tuple[str, str]:
    """The tags around the code of the rows' turns."""
    turns = (_text(turn) for row in _column(rows, "messages") for turn in row if turn["role"] == "assistant")
    for text in turns:
        for tags in ((CODE_OPEN, CODE_CLOSE), ("<code>", "</code>")):
            if parse_turn(text, tags)[1]:
                return tags
    return CODE_OPEN, CODE_CLOSE


def _imports_of(rows: Dataset, makers: list[dict[str, Any]]) -> list[str]:
    """Modules that the code of the rows may import: what their makers allowed, else what they import."""
    if makers and all(maker["imports"] is not None for maker in makers):
        return sorted({module for maker in makers for module in maker["imports"]})
    code = (step.get("code") or "" for steps in _column(rows, "steps") for step in steps or ())
    return sorted({module for text in code for module in _imported(text)} - set(BASE_BUILTIN_MODULES))


def _imported(code: str) -> Iterator[str]:
    """The top-level modules that a piece of code imports; none where it is no Python."""
    try:
        nodes = list(ast.walk(parse_python(code)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def load_controller(config: TuningConfig, **generation: Any) -> VLMModel:
    """The controller of a recipe, where it is trained.

    Args:
        config ([`TuningConfig`]): the recipe.
        generation: handed to [`VLMModel`].
    """
    place = {"quantization_config": four_bits(config)} if config.load_in_4bit else _place(config)
    controller = VLMModel.from_pretrained(config.model_name_or_path, **_origin(config), **place, **generation)
    if config.use_liger_kernel:
        use_liger_kernels(controller.model)
    return merge_adapter(controller)


def _origin(config: TuningConfig) -> dict[str, Any]:
    return {"revision": config.model_revision, "trust_remote_code": config.trust_remote_code}


def _place(config: TuningConfig) -> dict[str, Any]:
    """Weights that will be split over GPUs wait in host memory."""
    if is_sharded() and best_device() != "cpu":
        return {"device": "cpu", "dtype": config.dtype or "auto"}
    return {"dtype": config.dtype}


def merge_adapter(controller: VLMModel) -> VLMModel:
    """Make a controller one model: an adapter is merged, since TRL takes no second one."""
    from peft import PeftModel

    if isinstance(controller.model, PeftModel):
        controller.model = controller.model.merge_and_unload()
        # The next adapter belongs to the merged weights, which are nowhere: the agent is then saved whole.
        controller.model.name_or_path, controller.revision = "", None
    return controller


def four_bits(config: TuningConfig) -> BitsAndBytesConfig:
    """Linear layers in 4 bits (QLoRA, arXiv 2305.14314); vision tower, connector and head as they are.

    Raises:
        InputError: when the weights are to be split over processes too.
        MissingExtraError: when bitsandbytes is not installed.
    """
    import torch
    from trl import get_quantization_config

    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "qlora", "load_in_4bit")
    if is_sharded():
        raise InputError("Quantized weights cannot be split: leave load_in_4bit out, or use `--launch ddp`.")
    quantization = get_quantization_config(config)
    quantization.bnb_4bit_compute_dtype = torch.float32 if best_device() == "cpu" else torch.bfloat16
    quantization.llm_int8_skip_modules = NOT_QUANTIZED
    return quantization


def use_liger_kernels(model: PreTrainedModel) -> None:
    """Replace norms, rotary positions and gates of a model by Liger's kernels. The loss stays: ours reads few logits.

    Raises:
        InputError: when there is no GPU, or Liger does not know the family.
        MissingExtraError: when it is not installed.
    """
    from transformers.integrations.liger import apply_liger_kernel

    if importlib.util.find_spec("liger_kernel") is None:
        raise MissingExtraError("liger-kernel", "liger", "use_liger_kernel")
    if best_device() == "cpu":
        raise InputError("Liger kernels need a GPU: set use_liger_kernel to false.")
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    if model.config.model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise InputError(f"Liger has no kernels for `{model.config.model_type}`: set use_liger_kernel to false.")
    apply_liger_kernel(model, {"fused_linear_cross_entropy": False, "cross_entropy": False})


# The agent afterwards


def save_tuned(agent: T3Agent, trainer: Trainer, config: TuningConfig) -> None:
    """Save an agent with the weights of a finished training, in the main process.

    Args:
        agent ([`T3Agent`]): whose controller was tuned.
        trainer ([`~transformers.Trainer`]): after `train`.
        config ([`TuningConfig`]): the recipe, whose `output_dir` gets the agent.
    """
    old, tuned = agent.model, _tuned_model(trainer, config, agent.model)
    if tuned is None:
        return
    agent.model = VLMModel(tuned, old.processor, model_id=old.model_id, revision=old.revision, **old.generation)
    folder = Path(config.output_dir)
    scratch = folder / ".agent"
    shutil.rmtree(scratch, ignore_errors=True)
    agent.save_pretrained(scratch)
    scratch.rename(folder / AGENT_FOLDER)
    # In the place of TRL's card, which names no base model.
    card = make_model_card(read_run(folder), None, location=(folder / AGENT_FOLDER).as_posix())
    card.save(folder / "README.md")


def _tuned_model(trainer: Trainer, config: TuningConfig, controller: VLMModel) -> PreTrainedModel | None:
    """The model with its adapter, or merged where the recipe says so; in other processes than the main one `None`.

    Weights that were split or quantized are not used: the saved adapter is put on the controller.
    """
    from peft import PeftModel

    name = config.model_name_or_path
    split = is_sharded() or config.load_in_4bit
    adapter = str(Path(config.output_dir) / "adapter")
    if split:
        trainer.save_model(adapter)
    if not trainer.accelerator.is_main_process:
        return None
    if split:
        whole = VLMModel.from_pretrained(name, **_origin(config), device="cpu", dtype=config.dtype or "auto")
        model = PeftModel.from_pretrained(merge_adapter(whole).model, adapter)
    else:
        model = trainer.accelerator.unwrap_model(trainer.model)
    if getattr(config, "merge", False):
        return model.merge_and_unload()
    if name == controller.model_id != EMBEDDED and not Path(name).exists():
        # An adapter names what it stands on by its id, not by where this machine keeps it.
        model.peft_config["default"].base_model_name_or_path = name
        model.peft_config["default"].revision = controller.revision
    return model
