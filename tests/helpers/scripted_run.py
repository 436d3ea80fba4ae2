"""A run in a process of its own, for tests that kill it: `python scripted_run.py OUTPUT NUM_TASKS SECONDS WORKERS`."""

import sys
import time

from t3_agents.agent.agent import T3Agent
from t3_agents.evaluation.run import run_tasks
from t3_agents.models.scripted import ScriptedModel
from t3_agents.task import Task


def turn(code: str) -> str:
    return f"Thought: think\nCode:\n```py\n{code}\n```<end_action>"


def make_tasks(number: int) -> list[Task]:
    return [Task(id=f"task-{i}", query=f"What is {i}?", ground_truth="7") for i in range(number)]


class PatientModel(ScriptedModel):
    """Takes its time for a turn, and says the same every time."""

    def __init__(self, seconds: float):
        super().__init__([])
        self.seconds = seconds

    def generate(self, messages, stop_sequences=None, **kwargs):
        time.sleep(self.seconds)
        self.outputs.append(turn("final_answer(7)"))
        return super().generate(messages, stop_sequences, **kwargs)


if __name__ == "__main__":
    output, number, seconds, workers = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    run_tasks(
        lambda: T3Agent(tools=[], model=PatientModel(seconds), prompt="compact"),
        make_tasks(number),
        output,
        workers,
        on_progress=lambda done, total, trajectory: print(done, flush=True),
    )
