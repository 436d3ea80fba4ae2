"""Small evaluations for the tests of reports: real runs of a scripted agent, with scores that are known."""

from pathlib import Path

from t3_agents.agent.agent import T3Agent
from t3_agents.evaluation.results import TaskScore, make_results, task_digest, write_results
from t3_agents.evaluation.run import run_tasks
from t3_agents.models.scripted import ScriptedModel
from t3_agents.task import File, Task
from tests.helpers import png
from tests.helpers.tiny_vlm import turn


HOSTILE = (
    "</code></pre></script><script>alert(1)</script><img src=x onerror=alert(2)> [a](javascript:alert(3)) "
    "{{ 7 * 7 }} {% raw %} ${alert(4)} \u202eevil\u2066 \x00\x1b[31m &amp; \" ' `"
)


def make_tasks(number: int, words: str = "How many?") -> list[Task]:
    """Tasks with a picture, a table and a known answer; the picture of every second one is the same."""
    return [
        Task(
            id=f"task-{i}",
            query=f"{words} ({i})",
            files=(
                File.from_bytes(png((200, 0, 20 * (i // 2)), (64, 48)), "files/photo.png"),
                File.from_bytes(f"a,b\n{i},secret-{i}\n".encode(), "files/table.csv"),
                File.from_bytes(b"%PDF-1.4 none", "files/letter.pdf"),
            ),
            ground_truth="7",
            tools=("ocr",),
            origin={"level": str(1 + i % 3)},
        )
        for i in range(number)
    ]


def script_of(index: int, right: bool, output: str = "seen") -> list[str]:
    """Two or three turns: one draws a picture, one may fail, one answers."""
    drawing = f"print({output!r})\nopen('drawing.ppm', 'w').write('P3 8 6 255 ' + '0 90 {index} ' * 48)"
    answer = turn(f"final_answer({7 if right else 8})", "I know.")
    return [turn(drawing, "I draw."), *([] if right else [turn("1 / 0", "I divide.")]), answer]


def make_run(
    folder: Path,
    right: list[bool],
    benchmark: str = "gta",
    name: str = "user/agent",
    words: str = "How many?",
    output: str = "seen",
    scored: bool = True,
    **results,
) -> Path:
    """Run a scripted agent over one task per entry of `right`, and score it as the entries say."""
    tasks = make_tasks(len(right), words)
    scripts = [script_of(index, answer, output) for index, answer in enumerate(right)]
    turns = [said for script in scripts for said in script]
    agent = T3Agent(tools=[], model=ScriptedModel(turns), prompt="compact")
    run_tasks(lambda: agent, tasks, folder)
    if scored:
        write_scores(folder, tasks, right, benchmark, name, **results)
    return folder


def write_scores(folder: Path, tasks: list[Task], right: list[bool], benchmark: str, name: str, **results) -> None:
    scores = [
        TaskScore(
            task_id=task.id,
            correct=answer,
            counts={"ans_acc": [answer, 1], "code_exec": [2, 2 if answer else 3]},
            groups={"level": task.origin["level"], "tool": list(task.tools)},
            error_type=None if answer else "wrong_summary",
            reason=None if answer else f"answered 8 to: {task.query}",
            usage={"input_tokens": 900, "output_tokens": 100, "seconds": 1.5, "cost": None},
        )
        for task, answer in zip(tasks, right, strict=True)
    ]
    description = {
        "benchmark": benchmark,
        "mode": "end_to_end",
        "scoring": "official",
        "scoring_details": {"embedding_model": "all-mpnet-base-v2", "unscored": {"open": 2}},
        "dataset": {"name": benchmark, "revision": None, "split": "test", "digest": task_digest(tasks)},
        "agent": {"name": name, "controller": "scripted", "revision": None, "toolbox": ["ocr"], "prompt": "compact"},
        "seeds": [0],
    }
    write_results(folder, {**make_results(description, scores), **results}, scores)
