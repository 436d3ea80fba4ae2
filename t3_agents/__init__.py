"""Turn a vision-language model into an agent that uses tools."""

from typing import TYPE_CHECKING

from .lazy import lazy_names


if TYPE_CHECKING:
    from .agent.agent import T3Agent as T3Agent
    from .agent.agent import load_agent as load_agent
    from .agent.config import T3AgentConfig as T3AgentConfig
    from .agent.rollout import rollout as rollout
    from .errors import InputError as InputError
    from .errors import T3Error as T3Error
    from .evaluation.benchmark import Benchmark as Benchmark
    from .evaluation.run import evaluate as evaluate
    from .examples import example_file as example_file
    from .models.scripted import ScriptedModel as ScriptedModel
    from .models.server import ServerModel as ServerModel
    from .models.vlm import VLMModel as VLMModel
    from .sandbox.executor import SandboxExecutor as SandboxExecutor
    from .sandbox.process import SandboxLimits as SandboxLimits
    from .task import File as File
    from .task import Task as Task
    from .tools.base import WorkspaceTool as WorkspaceTool
    from .tools.toolbox import make_toolbox as make_toolbox
    from .trajectory import Trajectory as Trajectory
    from .turns import Step as Step
    from .workspace import Workspace as Workspace


__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "agent.agent": ["T3Agent", "load_agent"],
        "agent.config": ["T3AgentConfig"],
        "agent.rollout": ["rollout"],
        "errors": ["InputError", "T3Error"],
        "evaluation.benchmark": ["Benchmark"],
        "evaluation.run": ["evaluate"],
        "examples": ["example_file"],
        "models.server": ["ServerModel"],
        "models.scripted": ["ScriptedModel"],
        "models.vlm": ["VLMModel"],
        "sandbox.executor": ["SandboxExecutor"],
        "sandbox.process": ["SandboxLimits"],
        "task": ["File", "Task"],
        "tools.base": ["WorkspaceTool"],
        "tools.toolbox": ["make_toolbox"],
        "trajectory": ["Trajectory"],
        "turns": ["Step"],
        "workspace": ["Workspace"],
    },
)
