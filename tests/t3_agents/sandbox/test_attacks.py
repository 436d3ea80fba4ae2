"""Hostile code in the sandbox: what it tries has no effect outside, and the next step works."""

import os
import platform
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from smolagents import tool
from smolagents.default_tools import FinalAnswerTool
from smolagents.local_python_executor import ExecutionTimeoutError, InterpreterError

from t3_agents.agent.agent import T3Agent
from t3_agents.errors import InputError
from t3_agents.models.scripted import ScriptedModel
from t3_agents.sandbox import SandboxExecutor, SandboxLimits
from t3_agents.task import File, Task
from t3_agents.tools.base import WorkspaceTool
from t3_agents.workspace import Workspace
from tests.attack import attack, tools_with_paths
from tests.helpers import ROOT, in_threads
from tests.helpers.tiny_vlm import turn


LIMITS = SandboxLimits(
    memory_mb=512,
    time_limit=99,
    cpu_time_limit=99,
    threads=24,
    open_files=64,
    file_mb=8,
    disk_mb=24,
    num_files=300,
    tmp_mb=8,
)
"""Times that no step reaches on a slow machine; what is ended by its time has limits of its own."""
CHANNEL = """
import json, os, socket, struct
def channel():
    for number in range(3, 64):
        try:
            return socket.socket(fileno=os.dup(number))
        except OSError:
            pass
def send(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    channel().sendall(struct.pack(">I", len(data)) + data)
"""


@tool
def lookup(name: str) -> str:
    """Looks a name up.

    Args:
        name: the name.
    """
    return f"{name} is 42"


class ReadFile(WorkspaceTool):
    name = "read_file"
    description = "Reads a file."
    inputs = {"path": {"type": "string", "description": "The file."}}
    output_type = "string"

    def forward(self, path: str) -> str:
        return self.find_file(path).read_text(errors="replace")


class Draw(WorkspaceTool):
    name = "draw"
    description = "Draws a picture."
    inputs = {}
    output_type = "string"

    def forward(self) -> str:
        return self.save_image(Image.new("RGB", (8, 8), "red"), "drawn")


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "run").mkdir()
    with Workspace(tmp_path / "run") as workspace:
        yield workspace
        workspace.keep_only({})


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("top secret")
    return path


@pytest.fixture
def executor(workspace):
    tools = [lookup, ReadFile(), Draw(), FinalAnswerTool()]
    for each in tools:
        if isinstance(each, WorkspaceTool):
            each.workspace = workspace
    executor = SandboxExecutor(["*"], workspace, LIMITS)
    executor.send_tools({each.name: each for each in tools})
    yield executor
    check_alive(executor)
    executor.cleanup()


def outcome(executor, code):
    """Output of a step, or the text of its error."""
    try:
        result = executor(textwrap.dedent(code))
    except (InterpreterError, ExecutionTimeoutError) as error:
        return str(error)
    return result.output if result.output is not None else result.logs


def check_alive(executor):
    assert executor("1 + 1").output == 2
    assert executor("lookup('Ann')").output == "Ann is 42"
    assert executor("print('a')").logs == "a\n"


def are_gone(pids):
    """Whether these processes end."""
    end = time.monotonic() + 120
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


class TestFilesOutside:
    @pytest.mark.parametrize(
        "code",
        [
            "open('{path}').read()",
            "import numpy as np\nbytes(np.fromfile('{path}', dtype='uint8'))",
            "import pandas as pd\npd.read_csv('{path}')",
            "import os\nos.open('{path}', os.O_RDONLY)",
            "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.open(b'{path}', 0)",
            "import os\nos.symlink('{path}', 'link')\nopen('link').read()",
            "import os\nos.link('{path}', 'link')\nopen('link').read()",
            "import shutil\nshutil.copy('{path}', 'copy')",
            "open('/workspace/../../..{path}').read()",
            "import os\nos.chroot('/')\nopen('{path}').read()",
        ],
        ids=["open", "numpy", "pandas", "os", "ctypes", "symlink", "hard link", "copy", "dots", "chroot"],
    )
    def test_reading(self, executor, secret, code):
        for path in (secret, "/etc/passwd", "/etc/shadow", "/proc/1/environ", "/proc/self/mem"):
            text = str(outcome(executor, code.format(path=path)))
            assert "top secret" not in text and "root:" not in text
            assert any(word in text for word in ("Error", "-1", "Exception")), text

    def test_writing(self, executor, secret, tmp_path):
        for target in ("/usr/x", "/x", "/etc/x", sys.base_prefix + "/x", os.__file__, "/dev/x", "/run/child.py"):
            assert "Error" in outcome(executor, f"open({str(target)!r}, 'w').write('x')")
        for target in (secret, tmp_path / "new.txt"):  # below /tmp there is a folder of its own inside
            outcome(executor, f"open({str(target)!r}, 'w').write('x')")
        assert secret.read_text() == "top secret" and not (tmp_path / "new.txt").exists()

    def test_programs_of_the_system_are_not_there(self, executor):
        places = ["/usr/bin/env", "/bin/sh", "/usr/sbin", "/usr/share/doc", "/usr/include", "/usr/src", "/etc/passwd"]
        assert outcome(executor, f"import os\nstr([path for path in {places} if os.path.exists(path)])") == "[]"

    def test_private_files_of_the_user_are_not_there(self, executor):
        private = [os.path.expanduser(f"{home}/{name}") for home in ("~", "~root") for name in (".ssh", ".cache")]
        private.append("/home")
        text = outcome(executor, f"import os\nstr([path for path in {private} if os.path.exists(path)])")
        assert text == "[]"
        repository = str(ROOT)
        assert outcome(executor, f"import os\nos.path.exists({repository!r} + '/setup.cfg')") is False

    def test_devices(self, executor):
        code = """
            import os
            found = []
            for name in ("sda", "vda", "mem", "kmsg", "tty", "ptmx", "fuse", "kvm", "shm", "pts"):
                found += [name] if os.path.exists(f"/dev/{name}") else []
            try:
                os.mknod("disk", 0o60600, os.makedev(254, 0))
                found.append("mknod")
            except OSError:
                pass
            str(found)
        """
        assert outcome(executor, code) == "[]"


class TestWhatToolsRead:
    @pytest.mark.parametrize("link", ["symlink", "folder", "chain"])
    def test_a_link_out(self, executor, secret, link):
        make = {
            "symlink": f"os.symlink({str(secret)!r}, 'x.txt'); path = 'x.txt'",
            "folder": f"os.symlink({str(secret.parent)!r}, 'x'); path = 'x/secret.txt'",
            "chain": f"os.symlink({str(secret)!r}, 'y'); os.symlink('y', 'x'); path = 'x'",
        }[link]
        text = outcome(executor, f"import os\n{make}\nread_file(path)")
        assert "leads out of the workspace" in text and "top secret" not in text

    def test_a_link_that_is_swapped_during_the_call(self, executor, secret):
        code = f"""
            import os, threading
            open("good.txt", "w").write("good")
            def swap():
                while True:
                    try:
                        os.symlink({str(secret)!r}, "t"); os.replace("t", "x.txt")
                        os.symlink("good.txt", "t"); os.replace("t", "x.txt")
                    except OSError:
                        pass
            threading.Thread(target=swap, daemon=True).start()
            seen = set()
            for _ in range(60):
                try:
                    seen.add(read_file("x.txt"))
                except Exception as error:
                    seen.add("refused" if "leads out" in str(error) else "other")
            str("top secret" in seen), sorted(seen)
        """
        text = outcome(executor, code)
        assert text.startswith("('False'") and "good" in text, text

    def test_a_pipe_where_a_file_is_expected(self, executor):
        assert "no file `x.txt`" in outcome(executor, "import os\nos.mkfifo('x.txt')\nread_file('x.txt')")

    def test_a_lease_that_keeps_readers_waiting(self, executor):
        code = """
            import fcntl
            stream = open("a.txt", "w"); stream.write("x"); stream.flush()
            fcntl.fcntl(stream, 1024, 1)
        """
        assert "Operation not permitted" in outcome(executor, code)
        assert executor("read_file('a.txt')").output == "x"

    def test_folders_that_are_links_are_not_written_to(self, executor, tmp_path):
        (tmp_path / "outside").mkdir()
        code = f"import os\nos.rmdir('outputs'); os.symlink({str(tmp_path / 'outside')!r}, 'outputs')\ndraw()"
        assert "is a link" in outcome(executor, code)
        assert list((tmp_path / "outside").iterdir()) == []

    def test_a_dangling_link_is_not_written_through(self, executor, tmp_path):
        target = tmp_path / "made.png"
        code = f"import os\nos.symlink({str(target)!r}, 'outputs/drawn_1.png')\ndraw()"
        assert outcome(executor, code) == "outputs/drawn_2.png" and not target.exists()

    def test_an_attachment_does_not_follow_a_planted_link(self, executor, workspace, secret):
        executor(f"import os\nos.mkdir('files'); os.symlink({str(secret)!r}, 'files/a.txt')")
        executor(f"os.symlink({str(secret.parent)!r}, 'folder')")
        workspace.add(File.from_bytes(b"mine", "files/a.txt"))
        with pytest.raises(InputError, match="is a link"):
            workspace.add(File.from_bytes(b"mine", "folder/secret.txt"))
        assert secret.read_text() == "top secret" and workspace.read_bytes("files/a.txt") == b"mine"

    def test_an_attachment_that_is_overwritten(self, executor, workspace, secret):
        file = File.from_path(secret)
        workspace.add(file)
        executor("open('files/secret.txt', 'w').write('gone')\nimport os\nos.remove('files/secret.txt')")
        assert file.read_bytes() == b"top secret"

    def test_outputs_are_copied_without_links(self, executor, workspace, secret, tmp_path):
        executor(f"import os\nos.symlink({str(secret)!r}, 'outputs/a.txt'); os.mkfifo('outputs/b.txt')")
        executor(f"os.symlink({str(secret.parent)!r}, 'outputs/c'); open('outputs/d.txt', 'w').write('d')")
        assert workspace.copy_outputs(tmp_path / "copy") == ["d.txt"]

    def test_pictures_that_are_none(self, executor, workspace):
        code = """
            import os, struct, zlib
            os.mkfifo("pipe.png"); os.symlink("/dev/zero", "zero.png"); os.symlink("loop.png", "loop.png")
            os.mkdir("folder.png"); open("words.png", "w").write("words"); open("-rf.png", "w").write("x")
            open("new\\nline.png", "w").write("x"); open(b"\\xff\\xfe.png", "w").write("x")
            open("script.png", "w").write("%!PS-Adobe-3.0 EPSF-3.0\\n%%BoundingBox: 0 0 9 9\\n%%EndComments\\n")
            def chunk(kind, data):
                return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            head = struct.pack(">IIBBBBB", 12000, 12000, 8, 2, 0, 0, 0)
            data = zlib.compress(bytes(36001) * 200)
            open("bomb.png", "wb").write(b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data))
            with open("sparse.png", "wb") as stream:
                stream.truncate(8 * 2**20)
            from PIL import Image
            Image.new("RGB", (4, 4)).save("good.png")
        """
        executor(textwrap.dedent(code))
        assert [file.path for file in workspace.new_images()] == ["good.png"]

    def test_deep_folders(self, executor, workspace):
        code = "import os\nfor n in range(3000):\n    os.mkdir('d'); os.chdir('d')\nopen('x', 'w').write('x')"
        assert "nested folders deeper" in outcome(executor, code)
        assert workspace.list() == []

    def test_folders_without_permission(self, executor, workspace):
        outcome(executor, "import os\nos.makedirs('a/b'); open('a/b/c', 'w'); os.chmod('a/b', 0); os.chmod('a', 0)")
        workspace.keep_only({})
        assert list(workspace.root.iterdir()) == []


class Careless(WorkspaceTool):
    """Reads by a path that it has looked at before."""

    name, description = "careless", "Reads a file."
    inputs = {"file_path": {"type": "string", "description": "path"}}
    output_type = "string"

    def forward(self, file_path: str) -> str:
        path = self.workspace.root / file_path
        return path.read_text() if path.resolve().is_relative_to(self.workspace.root) else ""


@pytest.mark.slow
def test_a_folder_that_is_swapped_leads_no_tool_out():
    calls = attack(20, tools_with_paths())
    assert min(calls["done"], calls["refused"]) > 0 and len(calls) > 20
    with pytest.raises(AssertionError, match="careless: PLANTED"):
        attack(120, [Careless()])


class TestNetworkAndKernel:
    @pytest.mark.parametrize(
        "code",
        [
            "import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)",
            "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0t3')",
            "import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
            "import socket\nsocket.socket(socket.AF_NETLINK)",
            "import socket\nsocket.getaddrinfo('localhost', 80)",
            "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}/', timeout=2)",
            "import pandas as pd\npd.read_csv('http://127.0.0.1:{port}/a.csv')",
        ],
        ids=["tcp", "abstract", "packet", "netlink", "names", "urllib", "pandas"],
    )
    def test_sockets(self, executor, code):
        import socket

        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.2)
            assert "rror" in str(outcome(executor, code.format(port=server.getsockname()[1])))
            with pytest.raises(TimeoutError):
                server.accept()

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the calls are those of x86_64")
    def test_system_calls(self, executor):
        # ptrace, process_vm_readv, mount, unshare(user), setns, bpf, perf_event_open, userfaultfd, keyctl, add_key,
        # io_uring_setup, kexec_load, memfd_create, shmget, inotify_init1, prctl(PDEATHSIG), fork, vfork, clone3,
        # and calls with the bit of another architecture
        calls = [101, 310, 165, 272, 308, 321, 298, 323, 250, 248, 425, 246, 319, 29, 294, 157, 57, 58, 435]
        code = f"""
            import ctypes
            libc = ctypes.CDLL(None, use_errno=True)
            results = []
            for number in {calls} + [0x40000000 + 39]:
                first = {{272: 0x10000000, 157: 1}}.get(number, 0)
                results.append((libc.syscall(number, first, 0, 0, 0, 0), ctypes.get_errno()))
            [number for number, result in zip({calls} + ["x32"], results) if result not in ((-1, 1), (-1, 38))]
        """
        assert outcome(executor, code) == []

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine code of x86_64")
    def test_calls_of_the_32_bit_interface(self, executor):
        # int 0x80 with eax = 2 (fork): another architecture ends the process.
        code = """
            import ctypes, mmap
            page = mmap.mmap(-1, 4096, prot=7)
            page.write(bytes.fromhex("b802000000cd80c3"))
            ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
        """
        assert "it was ended by SIGSYS" in outcome(executor, code)

    @pytest.mark.parametrize("call", ["setuid(0)", "setgid(0)", "setgroups([0])", "nice(-5)", "sethostname('x')"])
    def test_privileges(self, executor, call):
        module = "socket" if "hostname" in call else "os"
        assert "Error" in outcome(executor, f"import {module}\n{module}.{call}")

    def test_a_setuid_program_gains_nothing(self, executor):
        assert "Error" in outcome(executor, "import os\nos.chmod('/usr/bin/env', 0o4755)")
        # The program takes the place of the process and cannot talk to the agent.
        text = outcome(executor, "import os\nos.execv('/usr/bin/su', ['su', '-c', 'id'])")
        assert "process of the code is gone" in text or "Error" in text


class TestProcesses:
    @pytest.mark.parametrize(
        "code",
        [
            "import os\nwhile True:\n    os.fork()",
            "import subprocess\nsubprocess.run(['sleep', '100'])",
            "import multiprocessing\nmultiprocessing.Process(target=print).start()",
            "import os\nos.posix_spawn('/bin/sleep', ['sleep', '100'], {})",
            "import os, pty\npty.fork()",
        ],
        ids=["fork bomb", "subprocess", "multiprocessing", "spawn", "pty"],
    )
    def test_new_processes(self, executor, code):
        assert "Error" in outcome(executor, code)

    def test_a_bomb_of_threads(self, executor):
        code = "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(100,)).start()"
        text = outcome(executor, code)
        assert "threads" in text or "can't start new thread" in text or "MemoryError" in text

    def test_other_processes_cannot_be_seen_or_killed(self, executor):
        code = f"""
            import os, signal
            errors = 0
            for pid in (1, {os.getpid()}, {os.getppid()}):
                for number in (9, 15, 19):
                    try:
                        os.kill(pid, number)
                    except OSError:
                        errors += 1
            os.listdir("/proc") if os.path.exists("/proc") else errors
        """
        assert outcome(executor, code) == 6  # the first process of the namespace ignores what its own children send

    def test_a_signal_to_everything(self, executor):
        outcome(executor, "import os\nos.kill(-1, 9)")
        check_alive(executor)
        assert "ended by SIGKILL" in outcome(executor, "import os\nos.kill(os.getpid(), 9)")

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("import os\nos._exit(0)", "exited with status 0"),
            ("import os\nos.abort()", "ended by SIGABRT"),
            ("import ctypes\nctypes.string_at(0)", "ended by SIGSEGV"),
            ("import sys\nsys.setrecursionlimit(10**9)\ndef f(): return f()\nf()", "gone"),
            ("import os, sys\nos.execv(sys.executable, ['python', '-c', ''])", "exited with status 0"),
        ],
        ids=["exit", "abort", "segfault", "stack", "exec"],
    )
    def test_a_crash_says_what_was_lost(self, executor, code, reason):
        executor("kept = 1")
        text = outcome(executor, code)
        assert reason in text or "RecursionError" in text
        if "gone" in text:
            assert "these names are gone: kept" in text
            assert "name 'kept' is not defined" in outcome(executor, "kept")

    def test_threads_stand_still_between_steps(self, executor, workspace):
        code = """
            import threading
            def work():
                while True:
                    with open("count.txt", "a") as stream:
                        stream.write("x")
            threading.Thread(target=work, daemon=True).start()
        """
        executor(textwrap.dedent(code))
        size = (workspace.root / "count.txt").stat().st_size
        time.sleep(0.3)
        assert (workspace.root / "count.txt").stat().st_size == size
        executor(f"import os, time\nwhile os.path.getsize('count.txt') <= {size}:\n    time.sleep(0.01)")

    def test_nothing_outlives_a_killed_parent(self, tmp_path):
        program = """
            import os, signal, sys
            from pathlib import Path
            from t3_agents.sandbox import SandboxExecutor
            from t3_agents.workspace import Workspace
            executor = SandboxExecutor(["*"], Workspace(sys.argv[1]))
            executor("import ctypes\\nctypes.CDLL(None).prctl(1, 0)")
            print(executor._sandbox._pid, executor._sandbox._process.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """
        command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "run")]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        pids = result.stdout.split()
        assert len(pids) == 2, result.stderr
        assert are_gone(pids)

    def test_nothing_is_left_after_cleanup(self, executor):
        executor("import threading, time\nthreading.Thread(target=time.sleep, args=(100,)).start()")
        pids = [executor._sandbox._pid, executor._sandbox._process.pid]
        executor.cleanup()
        assert are_gone(pids)


class TestExhaustion:
    @pytest.mark.parametrize(
        "code",
        [
            "'a' * 5_000_000_000",
            "x = []\nwhile True:\n    x.append('a' * 2**20)",
            "import numpy as np\nnp.ones(10**10)",
            "import mmap\nm = mmap.mmap(-1, 4 * 2**30)\nfor n in range(4096):\n    m.write(b'x' * 2**20)",
        ],
        ids=["string", "list", "numpy", "shared memory"],
    )
    def test_memory(self, executor, code):
        text = outcome(executor, code)
        assert "MemoryError" in text or "memory" in text.lower()

    @pytest.mark.parametrize(
        "code",
        [
            "while True: pass",
            "9**9**8",
            "sum(range(10**12))",
            "import re\nre.match('(a+)+$', 'a' * 64 + 'b')",
            "import time\ntime.sleep(1000)",
            "while True:\n    try:\n        while True: pass\n    except BaseException:\n        pass",
            "import signal, time\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)\ntime.sleep(1000)",
            "class A:\n    def __str__(self):\n        while True: pass\nA()",
            "import threading\nfor _ in range(4):\n    threading.Timer(0, sum, [range(10**12)]).start()\n9**9**8",
        ],
        ids=["loop", "power", "sum", "regex", "sleep", "handler", "signal", "str", "threads"],
    )
    def test_time(self, workspace, code):
        executor = SandboxExecutor(["*"], workspace, SandboxLimits(time_limit=0.7))
        executor.send_tools({"lookup": lookup})
        assert "exceeded the maximum execution time of 0.7 seconds" in outcome(executor, code)
        executor.limits = LIMITS
        check_alive(executor)
        executor.cleanup()

    def test_cpu_time(self, workspace):
        executor = SandboxExecutor(["*"], workspace, SandboxLimits(cpu_time_limit=0.5))
        assert "more than 0.5 seconds of CPU time" in outcome(executor, "while True: pass")
        assert executor("1 + 1").output == 2
        executor.cleanup()

    @pytest.mark.parametrize(
        "code",
        [
            "while True: print('spam' * 100)",
            "import os\nwhile True: os.write(1, b'x' * 65536)",
            "import sys\nwhile True: sys.stdout.write('x')",
        ],
        ids=["print", "write", "letters"],
    )
    def test_endless_print(self, workspace, code):
        import resource

        executor = SandboxExecutor(["*"], workspace, SandboxLimits(time_limit=1.5, output_chars=2000))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert "exceeded the maximum execution time" in outcome(executor, code)
        printed = executor.state["_print_outputs"]
        assert len(printed) < 3000 and "characters left out" in printed
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
        assert executor("1 + 1").output == 2
        executor.cleanup()

    def test_a_large_file(self, executor, workspace):
        text = outcome(executor, "with open('big', 'wb') as f:\n    while True:\n        f.write(bytes(2**20))")
        assert "File too large" in text
        assert "File too large" in outcome(executor, "import os\nos.truncate('big', 10**12)")

    def test_a_disk_full_of_files(self, executor, workspace):
        workspace.add(File.from_bytes(b"mine", "files/mine.txt"))
        code = "import os\nfor n in range(10**6):\n    open(f'{n}.bin', 'wb').write(os.urandom(2**20))"
        text = outcome(executor, code)
        assert "grew by more than 24 MB" in text and "were deleted" in text
        assert workspace.list() == ["files/mine.txt"]

    def test_a_disk_that_is_filled_step_by_step(self, executor, workspace):
        code = "import os\nfor n in range(5):\n    open(f'{n}-' + os.urandom(4).hex(), 'wb').write(os.urandom(2**20))"
        texts = [str(outcome(executor, code)) for _ in range(5)]
        assert "grew by more than 24 MB" in texts[4] and len(workspace.list()) == 20

    def test_a_folder_full_of_names(self, executor, workspace):
        text = outcome(executor, "for n in range(10**6):\n    open(f'n{n}', 'w').close()")
        assert "more than 300 files" in text and workspace.list() == []

    def test_the_private_folder_is_small(self, executor):
        assert "No space left" in outcome(
            executor, "for n in range(99):\n    open(f'/tmp/{n}', 'wb').write(bytes(2**20))"
        )

    def test_handles(self, executor):
        assert "Too many open files" in outcome(executor, "import os\nx = []\nwhile True: x.append(os.open('/', 0))")

    def test_watches(self, executor):
        code = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n(libc.inotify_init(), ctypes.get_errno())"
        assert outcome(executor, code) == "(-1, 1)"

    def test_limits_cannot_be_lifted(self, executor):
        for name in ("DATA", "NOFILE", "FSIZE", "NPROC"):
            code = f"import resource as r\nr.setrlimit(r.RLIMIT_{name}, (r.RLIM_INFINITY, r.RLIM_INFINITY))"
            assert "Error" in outcome(executor, code)


class TestTheChannel:
    @pytest.mark.parametrize(
        "attack",
        [
            "send(b'\\xff' * 100)",
            "send(b'[' * 100_000)",
            "send(b'{\"result\":' * 50_000)",
            'send(b\'{"result": {"output": NaN}}\')',
            'send(b\'{"result": {"output": -Infinity}}\')',
            'send(b\'{"result": {"output": 1e999}}\')',
            'send(b\'{"result": {"output": "a\\xed\\xa0\\x80b"}}\')',
            'send(b\'{"result": {"output": "\\xc0\\xaf"}}\')',
            "send(b'{\"result\": ' + b'9' * 10_000 + b'}')",
            "send([1, 2])",
            "send(b'null')",
            "channel().sendall(b'\\xff' * 8)",
        ],
        ids=[
            *("binary", "deep list", "deep dict", "nan", "infinity", "infinite number", "half a surrogate pair"),
            *("overlong", "long number", "list", "null", "too long"),
        ],
    )
    def test_frames_that_are_none(self, executor, attack):
        text = outcome(executor, f"{CHANNEL}\n{attack}\nimport time\ntime.sleep(2)")
        assert "sent something else than frames" in text

    @pytest.mark.parametrize(
        "attack",
        [
            "channel().sendall(b'\\0\\0\\1\\0' + b'x' * 9)",
            "data = json.dumps({'call': 'lookup', 'arguments': {'name': 'x' * 10**6}, 'number': 1})\n"
            "for _ in range(100):\n    send(data.encode())",
            "os.closerange(0, 64)",
        ],
        ids=["a frame without end", "replies that nobody reads", "a closed channel"],
    )
    def test_a_channel_that_stands_still(self, workspace, attack):
        executor = SandboxExecutor(["*"], workspace, replace(LIMITS, time_limit=1))
        executor.send_tools({"lookup": lookup})
        text = outcome(executor, f"{CHANNEL}\n{attack}")
        assert "exceeded the maximum" in text or "gone" in text
        executor.limits = LIMITS
        check_alive(executor)
        executor.cleanup()

    @pytest.mark.parametrize(
        "result",
        ["1", "[]", "{'error': 5}", "{'output': {'a': [1]}, 'final': 'yes'}", "{'timeout': 'x'}"],
    )
    def test_results_of_other_steps_are_passed_over(self, executor, result):
        code = f"{CHANNEL}\nsend({{'result': {result}, 'step': 'forged', 'names': [1, '; drop']}})\n'real'"
        assert outcome(executor, code) == "real"
        executor(f"{CHANNEL}\nfor _ in range(50):\n    send({{'result': {{'output': 'forged'}}, 'step': '0'}})")

    def test_calls_that_are_none(self, executor):
        code = f"""{CHANNEL}
for call in ("__class__", "missing", "lookup.__init__", "", None, 5, ["lookup"], "x" * 10**6):
    send({{"call": call, "arguments": {{}}, "number": "x"}})
for arguments in (None, [], "x", {{"name": {{}}}}, {{"self": 1}}, {{"__class__": 1}}, {{"": 1}}):
    send({{"call": "lookup", "arguments": arguments, "number": {{"a": 1}}}})
lookup("Bob")
"""
        assert outcome(executor, code) == "Bob is 42"

    def test_open_files_sent_along_are_dropped(self, executor):
        executor("import os")
        before = len(os.listdir("/proc/self/fd"))
        code = f"""{CHANNEL}
data = json.dumps({{"step": "0"}}).encode()
for _ in range(40):
    socket.send_fds(channel(), [struct.pack(">I", len(data)) + data], [os.open("/usr", 0)])
"""
        outcome(executor, code)
        check_alive(executor)
        assert len(os.listdir("/proc/self/fd")) <= before

    def test_patched_tools_stay_inside(self, executor):
        code = """
            import builtins, json, sys
            lookup.__code__ = (lambda *a: "patched").__code__ if False else lookup.__code__
            globals()["lookup"] = lambda name: "patched"
            for frame in (sys._getframe(n) for n in range(3)):
                frame.f_globals.get("Runner") and setattr(frame.f_globals["Runner"], "_import", None)
            builtins.len = None
            json.dumps = None
        """
        outcome(executor, code)
        assert lookup("Ann") == "Ann is 42" and len("abc") == 3
        executor.cleanup()

    def test_an_answer_cannot_be_given_for_a_later_step(self, executor):
        executor(f"{CHANNEL}\nsend({{'result': {{'output': 'forged', 'final': True}}, 'step': 'x'}})")
        result = executor("'mine'")
        assert (result.output, result.is_final_answer) == ("mine", False)


class TestSecrets:
    def test_the_environment(self, workspace, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_planted")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws_planted")
        executor = SandboxExecutor(["*"], workspace)
        code = """
            import glob, os
            text = str(dict(os.environ))
            for path in glob.glob("/proc/*/environ"):
                text += open(path, "rb").read().decode(errors="replace")
            text
        """
        text = outcome(executor, code)
        assert "planted" not in text and "HOME" in text
        pid = executor._sandbox._process.pid
        assert b"planted" not in Path(f"/proc/{pid}/environ").read_bytes()
        executor.cleanup()

    def test_open_files_of_the_parent(self, executor, secret):
        with secret.open() as stream:
            os.set_inheritable(stream.fileno(), True)
            executor.cleanup()
            code = """
                import os
                found = []
                for number in range(3, 64):
                    try:
                        found.append(os.read(number, 10) if os.fstat(number).st_mode & 0o170000 == 0o100000 else None)
                    except OSError:
                        pass
                [text for text in found if text]
            """
            assert outcome(executor, code) == []

    def test_no_path_of_the_machine_in_an_error(self, executor, workspace):
        for code in (
            "import json\njson.loads('{')",
            "import re\nre.compile('(')",
            "open('none')",
            "import nothing_here",
        ):
            text = outcome(executor, code)
            assert sys.prefix not in text and sys.base_prefix not in text and str(workspace.root) not in text


class TestAgents:
    def run_codes(self, codes, **settings):
        model = ScriptedModel([turn(code) for code in codes])
        settings["additional_authorized_imports"] = ["*"]
        return T3Agent([lookup], model, prompt="compact", **settings).run_task(Task.create("?"))

    def test_an_agent_lives_through_a_hostile_run(self):
        codes = [
            "import os\nos._exit(1)",
            "'a' * 5_000_000_000",
            "import os\nos.mkfifo('a.png'); os.symlink('/etc/passwd', 'b.png'); open('x\\ny.png', 'w').write('x')",
            "while True: pass",
            "final_answer('still here')",
        ]
        trajectory = self.run_codes(codes, code_time_limit=1)
        assert trajectory.answer == "still here" and trajectory.images == []
        assert [bool(step.error) for step in trajectory.steps] == [True, True, False, True, False]

    def test_hostile_agents_beside_an_honest_one(self, tmp_path):
        jobs = {
            "honest": ["x = lookup('Ann')", "import time\ntime.sleep(1)", "final_answer(x)"],
            "killer": ["import os\nos.kill(-1, 9)", "final_answer('k')"],
            "eater": ["x = []\nwhile True: x.append('a' * 2**22)", "final_answer('e')"],
            "writer": ["import os\nfor n in range(99): open(f'{n}', 'w').write('x' * 10**6)", "final_answer('w')"],
        }
        runs = in_threads([partial(self.run_codes, codes, code_time_limit=10) for codes in jobs.values()])
        assert [run.answer for run in runs] == ["Ann is 42", "k", "e", "w"]


# Ways to have the kernel send SIGCONT, which lets a stopped process go on.
WAKE = """
import ctypes, fcntl, os, signal, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
def result(value):
    return "done" if value >= 0 else os.strerror(ctypes.get_errno())
read, write = os.pipe()
left, right = socket.socketpair()
"""


class TestStandingStill:
    @pytest.mark.parametrize(
        "call",
        [
            "libc.syscall(222, 1, ctypes.create_string_buffer(struct.pack('Qii48x', 0, 18, 0)), ctypes.byref(number))",
            "libc.fcntl(1, 10, 18)",
            "libc.fcntl(read, 10, 18)",
            "libc.fcntl(read, fcntl.F_SETOWN, os.getpid())",
            "libc.fcntl(left.fileno(), 15, struct.pack('ii', 1, os.getpid()))",
            "libc.fcntl(read, fcntl.F_SETFL, fcntl.FASYNC)",
            "libc.fcntl(read, fcntl.F_SETFL, fcntl.FASYNC | os.O_NONBLOCK)",
            "libc.ioctl(left.fileno(), 0x5452, ctypes.byref(ctypes.c_int(1)))",
            "libc.ioctl(left.fileno(), 0x8901, ctypes.byref(ctypes.c_int(os.getpid())))",
            "libc.ioctl(left.fileno(), 0x8902, ctypes.byref(ctypes.c_int(os.getpid())))",
        ],
        ids=[
            *("timer", "signal of stdout", "signal of a pipe", "owner", "owner of a socket", "async"),
            *("async, more flags", "ioctl async", "ioctl owner", "ioctl group"),
        ],
    )
    @pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls of x86_64")
    def test_signals_that_would_wake_it_cannot_be_asked_for(self, executor, call):
        code = f"{WAKE}\nnumber = ctypes.c_int()\nresult({call})"
        assert outcome(executor, code) == "Operation not permitted"

    def test_what_files_are_set_to_otherwise_still_works(self, executor):
        code = """
            import fcntl, os, socket
            read, write = os.pipe()
            os.set_blocking(read, False)
            fcntl.fcntl(write, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)
            left, right = socket.socketpair()
            left.send(b"x")
            [right.recv(1), fcntl.fcntl(read, fcntl.F_GETFL) & os.O_NONBLOCK > 0, os.posix_fallocate(write, 0, 0)]
        """
        assert "Errno" in outcome(executor, code), "a pipe has no blocks"
        code = (
            "import os\nf = os.open('x', os.O_RDWR | os.O_CREAT)\nos.posix_fallocate(f, 0, 100)\nos.fstat(f).st_size"
        )
        assert outcome(executor, code) == 100

    def test_a_process_that_ran_meanwhile_is_ended_and_its_tool_result_lost(self, executor):
        executor("x = 1")

        class Wake(WorkspaceTool):
            name, description, inputs, output_type = "wake", "Lets the process run.", {}, "string"

            def forward(self):
                process = executor._sandbox
                process.signal(signal.SIGCONT)
                while process._turns() == process._standing:
                    time.sleep(0.001)
                process.signal(signal.SIGSTOP)
                return "result of the tool"

        executor.send_tools({"wake": Wake(), "lookup": lookup})
        code = """
            import threading
            def work():
                while True: pass
            threading.Thread(target=work, daemon=True).start()
            print(wake())
        """
        text = outcome(executor, code)
        assert "it ran while it was to stand still" in text and "result of the tool" not in text

    def test_a_process_that_ran_between_steps_gets_no_further_step(self, executor):
        executor(
            "import threading\ndef work():\n    while True: pass\nthreading.Thread(target=work, daemon=True).start()"
        )
        process = executor._sandbox
        process.signal(signal.SIGCONT)
        while process._turns() == process._standing:
            time.sleep(0.001)
        assert "it ran while it was to stand still" in outcome(executor, "'go on'")


class TestWhatLimitsDoNotCount:
    @pytest.mark.parametrize("place", ["-1", "os.open('/dev/zero', os.O_RDWR)"], ids=["anonymous", "dev zero"])
    def test_shared_memory_that_is_given_up(self, executor, place):
        code = f"""
            import mmap, os
            m = mmap.mmap({place}, 1536 * 2**20)
            for n in range(24):
                m[n * 2**26:(n + 1) * 2**26] = b"x" * 2**26
                m.madvise(mmap.MADV_DONTNEED, n * 2**26, 2**26)
            "done"
        """
        assert f"more than {LIMITS.memory_mb} MB of memory" in outcome(executor, code)

    def test_small_shared_memory_is_left(self, executor):
        assert outcome(executor, "import mmap\nm = mmap.mmap(-1, 2**20)\nm[:3] = b'abc'\nm[:3].decode()") == "abc"

    def test_tables_of_pages(self, executor):
        code = """
            import ctypes
            libc = ctypes.CDLL(None, use_errno=True)
            libc.mmap.restype = ctypes.c_void_p
            starts = [libc.mmap(None, ctypes.c_size_t(2**37), 1, 0x4022, -1, ctypes.c_long(0)) for _ in range(3)]
            [start == 2**64 - 1 for start in starts]
        """
        assert outcome(executor, code) == [True, True, True]

    @pytest.mark.parametrize("keep", ["handle", "mapping"])
    def test_files_that_are_deleted_and_kept_open(self, executor, keep):
        code = f"""
            import mmap, os
            kept = []
            for n in range(40):
                file = os.open("x", os.O_RDWR | os.O_CREAT)
                os.posix_fallocate(file, 0, {LIMITS.file_mb} * 2**20)
                os.unlink("x")
                if {keep!r} == "mapping":
                    kept.append(mmap.mmap(file, 4096))
                    os.close(file)
            "done"
        """
        assert f"its files grew by more than {LIMITS.disk_mb} MB" in outcome(executor, code)

    @pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls of x86_64")
    @pytest.mark.parametrize(
        "call",
        [
            "libc.fallocate(file, 1, ctypes.c_long(0), ctypes.c_long(512 * 2**20))",
            "libc.fallocate(file, 3, ctypes.c_long(0), ctypes.c_long(4096))",
            "libc.sendmsg(left.fileno(), ctypes.create_string_buffer(56), 0)",
            "libc.syscall(458, ctypes.create_string_buffer(32), ctypes.create_string_buffer(64), 8, 0)",
            "libc.syscall(457, ctypes.create_string_buffer(32), ctypes.create_string_buffer(64), 64, 0)",
        ],
        ids=["blocks beyond the end", "a hole", "files in flight", "list of mounts", "one mount"],
    )
    def test_calls_that_get_around_them(self, executor, call):
        code = f"{WAKE}\nfile = os.open('x', os.O_RDWR | os.O_CREAT)\nresult({call})"
        assert outcome(executor, code) == "Operation not permitted"
