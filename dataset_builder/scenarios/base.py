"""The contract of the offline teacher: tasks with programs that solve them and answers that are known."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from t3_agents.answers import answers_match
from t3_agents.errors import InputError
from t3_agents.media import check_form
from t3_agents.storage import sha256_of
from t3_agents.task import File, Task
from t3_agents.turns import called_tools, parse_python, write_turn
from t3_agents.verifiers import final_expression

from .. import DOMAINS


TOOL_NAMES = (
    "ask_search_agent",
    "visualizer",
    "inspect_file_as_text",
    "objectlocation",
    "facedetection",
    "segmentation",
    "image_generator",
    "image_edit",
)
"""Tools of the released data, without `final_answer`."""

_PATH = re.compile(r"(?:files|outputs)/\S+")
_NAMES = tuple("IMG scan file new copy upload DSC doc page my".split())
_MAX_MOVES = 8
"""Steps of the longest trajectories of the paper."""
_MAKERS = {"image_edit", "image_generator", "segmentation", "inspect_file_as_text"}
"""Tools that write into `outputs/`; the last one saves frames of a video."""
# What a last move may compute with: enough for sums, differences and ratios of observed values.
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (round, sum, max, min, abs, len, str, int, float)
}


@dataclass(frozen=True)
class ProgramStep:
    """One turn of a program.

    Args:
        thought (`str`): one short sentence.
        code (`str`): Python, one to three lines.
    """

    thought: str
    code: str

    def text(self) -> str:
        """The assistant turn as a controller would write it."""
        return write_turn(self.thought, self.code)


@dataclass(frozen=True)
class ScenarioTask:
    """A task and the program that solves it.

    Args:
        task ([`~t3_agents.task.Task`]): with a known answer and the expected tools.
        program (`tuple[ProgramStep, ...]`): the moves; the last one calls `final_answer`.
    """

    task: Task
    program: tuple[ProgramStep, ...]


class Scenario(ABC):
    """A family of tasks, or what several families share.

    What a class leaves open is given when it is called, so that families of one shape differ in their words only.

    Args:
        words: values of attributes that the class declares.

    Attributes:
        name (`str`): stable name; the random numbers of a task follow from it.
        domain (`str`): one of `dataset_builder.DOMAINS`.
        unseen (`bool`): the whole family is kept out of training.
        split (`str`): where its rows go when whole families are parted, see [`split_of`]; `validation` and `test`
            families are never trained on.
        vision_only (`bool`): only the look of the picture tells which tool is right.
        phrasings (`tuple[str, ...]`): queries with `{slots}`.
        paths (`tuple[str, ...]`): workspace paths that its file may have.
    """

    name: ClassVar[str]
    domain: ClassVar[str]
    phrasings: ClassVar[tuple[str, ...]]
    paths: ClassVar[tuple[str, ...]] = ()
    unseen: ClassVar[bool] = False
    split: ClassVar[str] = "train"
    vision_only: ClassVar[bool] = False

    def __init__(self, **words: Any):
        declared = {name for shape in type(self).__mro__ for name in inspect.get_annotations(shape)}
        if unknown := sorted(words.keys() - declared):
            raise TypeError(f"{type(self).__name__} has no attribute {', '.join(unknown)}.")
        vars(self).update(words)

    @abstractmethod
    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        """Draw one task and write its files.

        Args:
            rng (`random.Random`): the only source of chance.
            folder (`Path`): an existing folder for the files.
        """

    def path(self, rng: random.Random) -> str:
        """One of the paths, half of the time with a name that does not say what the file is."""
        path, name = PurePosixPath(rng.choice(self.paths)), f"{rng.choice(_NAMES)}_{rng.randint(1, 9999)}"
        return str(rng.choice((path, path.with_stem(name))))

    def phrasing(self, rng: random.Random) -> str:
        """One of the phrasings; tasks of [`make_task`] take turns, so that even a few of them have every kind."""
        if not isinstance(rng, TaskRandom):
            return rng.choice(self.phrasings)
        return rng.order.sample(self.phrasings, len(self.phrasings))[rng.index % len(self.phrasings)]

    def phrase(self, rng: random.Random, **slots: Any) -> str:
        """One of the phrasings with its slots filled."""
        return self.phrasing(rng).format(**slots)

    def build(self, query: str, files: Sequence[File], answer: str, *moves: tuple[str, str]) -> ScenarioTask:
        """A task of this family, its expected tools read from the program.

        Args:
            query (`str`): the user's words.
            files (`Sequence[File]`): attachments.
            answer (`str`): the known answer.
            moves (`tuple[str, str]`): thought and code of every turn.
        """
        program = tuple(ProgramStep(thought, code) for thought, code in moves)
        tools = tuple(tool for move in program for tool in called_tools(move.code, TOOL_NAMES))
        task = Task.create(query, files, ground_truth=answer, tools=tools, domain=self.domain)
        return ScenarioTask(task, program)

    def build_lookup(self, query: str, file: File, key: str, value: str) -> ScenarioTask:
        """A task of this family that is solved by reading one value.

        Args:
            query (`str`): the user's words.
            file ([`~t3_agents.task.File`]): the attachment, a picture or a document.
            key (`str`): what is asked for.
            value (`str`): what stands there.
        """
        tool, place = ("visualizer", "picture") if file.is_image else ("inspect_file_as_text", "file")
        return self.build(
            query,
            [file],
            value,
            (f"I read the {key} in the {place}.", f'print({tool}("{file.path}", "{key}"))'),
            (f"The {key} is {value}.", f"final_answer({quote(value)})"),
        )


def split_of(scenario: Scenario) -> str:
    """The one split of a family when families never straddle splits: a family kept unseen is for the test."""
    return "test" if scenario.unseen else scenario.split


def make_task(scenario: Scenario, seed: int, index: int, folder: str | Path) -> ScenarioTask:
    """Task number `index` of a family; the same arguments give the same bytes in every process.

    Args:
        scenario ([`Scenario`]): the family.
        seed (`int`): seed of the whole collection.
        index (`int`): number of the task in its family.
        folder (`str` or `Path`): where its files are written; made when missing. One folder per task.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = scenario.make(TaskRandom(f"{scenario.name}/{seed}", index), folder)
    flags = {"unseen": scenario.unseen, "vision_only": scenario.vision_only}
    origin = {"family": scenario.name, "seed": seed, "index": index, **flags}
    return replace(made, task=replace(made.task, origin=origin))


def random_of(name: str) -> random.Random:
    """The random numbers that belong to a name, in every process: `hash()` differs from one to the next."""
    return random.Random(_number_of(name))


def _number_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


class TaskRandom(random.Random):
    """The random numbers of one task.

    Args:
        family (`str`): names the collection of tasks that it belongs to.
        index (`int`): its number there.

    Attributes:
        order (`random.Random`): random numbers that all tasks of the collection have.
    """

    def __init__(self, family: str, index: int):
        super().__init__(_number_of(f"{family}/{index}"))
        self.index, self.order = index, random_of(family)


def quote(text: str) -> str:
    """A Python string literal with double quotes."""
    return json.dumps(text, ensure_ascii=False)


def literal(value: str) -> str:
    """A number as it is, other text as a Python string literal."""
    return value if re.fullmatch(r"-?\d+(\.\d+)?", value) else quote(value)


def program_problems(made: ScenarioTask) -> list[str]:
    """What is wrong with a task and its program, without running it.

    Args:
        made ([`ScenarioTask`]): what a family made.

    Returns:
        `list[str]`: one sentence per problem, empty when there is none.
    """
    task, program = made.task, made.program
    problems = []
    if not task.ground_truth:
        problems.append("The answer is not known.")
    if task.domain not in DOMAINS:
        problems.append(f"`{task.domain}` is none of the domains.")
    if not 2 <= len(program) <= _MAX_MOVES:
        problems.append(f"The program has {len(program)} moves; 2 to {_MAX_MOVES} are expected.")
    for file in task.files:
        problems += _file_problems(file)
    for number, move in enumerate(program, start=1):
        try:
            compile(move.code, f"move {number}", "exec")
        except SyntaxError as error:
            return [*problems, f"The code of move {number} does not compile: {error.msg}."]
        if "\n" in move.thought or not move.thought.strip():
            problems.append(f"The thought of move {number} is not one line.")
    return problems + _code_problems(task, program)


def _code_problems(task: Task, program: Sequence[ProgramStep]) -> list[str]:
    problems = []
    called = [tool for move in program for tool in called_tools(move.code, TOOL_NAMES)]
    if called != list(task.tools):
        problems.append(f"The program calls {called}, but the task expects {list(task.tools)}.")
    code = "\n".join(move.code for move in program)
    used = {path for text in string_constants(code) for path in _PATH.findall(text)}
    attached = {file.path for file in task.files}
    made = {path for path in used if path.startswith("outputs/") and _MAKERS & set(called)}
    if lost := sorted(used - attached - made):
        problems.append(f"The code uses {', '.join(lost)}, which is not attached.")
    if idle := sorted(attached - used):
        problems.append(f"The code never uses {', '.join(idle)}.")
    if any("final_answer" in move.code for move in program[:-1]):
        problems.append("A move before the last one gives the answer.")
    if not program or final_expression(program[-1].code) is None:
        return [*problems, "The last move does not call final_answer with one value."]
    answers: list[Any] = []
    # The last move must work out the answer by itself, so it runs here with arithmetic and nothing else.
    names = {"__builtins__": {}, **_ARITHMETIC, "final_answer": answers.append}
    try:
        exec(compile(program[-1].code, "last move", "exec"), names)
    except (NameError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        return [*problems, f"The last move does not work out the answer by itself: {error}."]
    answer = answers[0] if answers else None
    if not answers_match(str(answer), task.ground_truth or ""):
        problems.append(f"The program answers {answer!r}, but {task.ground_truth!r} is known to be right.")
    return problems


def string_constants(code: str) -> list[str]:
    """Every string literal of a piece of code."""
    return [n.value for n in ast.walk(parse_python(code)) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def _file_problems(file: File) -> list[str]:
    """Why a file is not what its name says: each kind is opened as that kind."""
    try:
        data = file.read_bytes()
    except (InputError, OSError):
        return [f"{file.path} is missing."]
    if not data:
        return [f"{file.path} is empty."]
    if sha256_of(data) != file.sha256:
        return [f"{file.path} was changed after it was attached."]
    try:
        check_form(data, file.path)
    except InputError as error:
        return [str(error)]
    return []
