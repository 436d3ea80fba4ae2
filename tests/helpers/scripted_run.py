"""A run that falls silent, in a process of its own that tests end.

`python -m tests.helpers.scripted_run OUTPUT NUM_TASKS TURNS WORKERS`
"""

from __future__ import annotations

import sys
import time
from itertools import count

from t3_agents.agent.agent import T3Agent
from t3_agents.evaluation.run import run_tasks
from t3_agents.models.scripted import ScriptedModel
from t3_agents.task import Task
from tests.helpers.tiny_vlm import turn


def make_tasks(number: int) -> list[Task]:
    return [Task(id=f"task-{i}", query=f"What is {i}?", ground_truth="7") for i in range(number)]


class EndlessModel(ScriptedModel):
    """Says the same at every turn."""

    def __init__(self):
        super().__init__([])

    def generate(self, messages, stop_sequences=None, **kwargs):
        self.outputs.append(turn("final_answer(7)"))
        return super().generate(messages, stop_sequences, **kwargs)


class FallingSilent(EndlessModel):
    """Says that a number of times, all of its kind together, and then nothing."""

    told = count()

    def __init__(self, turns: int):
        super().__init__()
        self.turns = turns

    def generate(self, messages, stop_sequences=None, **kwargs):
        if next(self.told) >= self.turns:
            time.sleep(3600)
        return super().generate(messages, stop_sequences, **kwargs)


if __name__ == "__main__":
    output, number, turns, workers = sys.argv[1], *map(int, sys.argv[2:])
    run_tasks(
        lambda: T3Agent(tools=[], model=FallingSilent(turns), prompt="compact"), make_tasks(number), output, workers
    )
