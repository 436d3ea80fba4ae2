"""The program inside the sandbox: runs code steps of a model and hands tool calls to the parent.

It is started as a file of its own with a few light modules of the standard library: every import adds to the time
until a sandbox is ready (`inspect`, `socket` and `linecache` would double it). Nothing here protects the host: the
code of the model can change all of it. What holds is around this process (namespaces, limits, seccomp) and in what the
parent accepts from it.

Frames in both directions are a length of 4 bytes (big-endian) and a JSON object.
"""

from __future__ import annotations

import ast
import builtins
import json
import math
import os
import resource
import signal
import struct
import sys
import threading
import types


MAX_FRAME = 4 * 2**20
SHOWN_FILES = 20
_LARGEST_INT = 10**4000
NOT_READY = 90
"""Exit status of a process that could not be set up, so that no code has run in it."""
_IMAGES = "outputs"


class TimeUp(BaseException):
    """Raised in the main thread when the step has used its time; no handler for `Exception` catches it."""


class FinalAnswer(BaseException):
    """Ends the step when `final_answer` is called."""


class ToolError(Exception):
    """What a tool raised, with its message."""


class Channel:
    """Frames to and from the parent.

    Args:
        handle (`int`): the child's end of a pair of sockets.
    """

    def __init__(self, handle: int):
        self.handle = handle
        self.lock = threading.Lock()
        # Kept between reads, so that a read that is interrupted by the end of a step loses nothing.
        self.buffer = bytearray()
        self.calls = 0

    def send(self, message: dict) -> None:
        data = json.dumps(message, allow_nan=False).encode()
        if len(data) > MAX_FRAME:
            raise ValueError(f"{len(data)} characters are too much to hand over: write a file and pass its path")
        data = struct.pack(">I", len(data)) + data
        while data:
            data = data[os.write(self.handle, data) :]

    def receive(self) -> dict:
        self._fill(4)
        (size,) = struct.unpack_from(">I", self.buffer)
        self._fill(4 + size)
        message = json.loads(bytes(self.buffer[4 : 4 + size]))
        del self.buffer[: 4 + size]
        return message

    def _fill(self, size: int) -> None:
        while len(self.buffer) < size:
            part = os.read(self.handle, 2**16)
            if not part:
                os._exit(0)  # the parent is gone
            self.buffer += part

    def call(self, name: str, arguments: dict) -> dict:
        """Ask the parent for a tool and wait for its reply; threads take turns."""
        with self.lock:
            self.calls += 1
            number = self.calls
            self.send({"call": name, "arguments": arguments, "number": number})
            while True:
                message = self.receive()
                if message.get("number") == number:  # others answer calls that the end of a step cut off
                    return message


def is_image(value: object) -> bool:
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def save_image(image) -> str:
    """Write a picture under `outputs/` and return its path."""
    os.makedirs(_IMAGES, exist_ok=True)
    number = 1
    while os.path.lexists(f"{_IMAGES}/image_{number}.png"):
        number += 1
    path = f"{_IMAGES}/image_{number}.png"
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode in ("F", "I", "I;16B", "I;16L"):
        path = f"{path.removesuffix('png')}tiff"  # PNG has no such numbers
    elif image.mode not in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"):
        image = image.convert("RGBA" if image.mode.endswith("a") else "RGB")
    image.save(path)
    return path


def is_plain(value: object, depth: int = 0) -> bool:
    """Whether JSON gives the value back as it is."""
    kind = type(value)
    if value is None or kind in (bool, str):
        return True
    if kind is int:
        return -_LARGEST_INT < value < _LARGEST_INT
    if kind is float:
        return math.isfinite(value)
    if depth < 50 and kind is list:
        return all(is_plain(item, depth + 1) for item in value)
    if depth < 50 and kind is dict:
        return all(type(key) is str and is_plain(item, depth + 1) for key, item in value.items())
    return False


def outgoing(value: object, limit: int) -> object:
    """What the parent gets of a result: a JSON value, the path of a picture, or the text of anything else."""
    if is_image(value):
        return save_image(value)
    if is_plain(value):
        if not isinstance(value, (str, list, dict)) or len(json.dumps(value)) < MAX_FRAME // 2:
            return value
    text = str(value)
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n[{len(text) - 2 * half} characters left out]\n{text[-half:]}"
    return text


TYPE = "__type__"
"""Key of a record that stands for a value which JSON has no form for."""
_OF_TEXT = {"float": "builtins", "complex": "builtins", "Decimal": "decimal", "Fraction": "fractions"}
_TIMES = ("datetime", "date", "time")
_NUMBERS = {f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)} | {"bool"}


def encode(value: object, save_picture, strict: bool = False, depth: int = 0) -> object:
    """A value as JSON that [`decode`] reads; used on both sides.

    Args:
        value: the value. What has no form goes as its text.
        save_picture (`Callable`): writes a picture and returns its path.
        strict (`bool`): refuse what has no form.

    Raises:
        TypeError: when it has no form.
    """

    def inner(item: object) -> object:
        return encode(item, save_picture, strict, depth + 1)

    kind, module = type(value).__name__, type(value).__module__.partition(".")[0]
    if is_plain(value, 50):
        return value
    if is_image(value):
        return save_picture(value)
    if depth >= 50:
        return str(value)
    if isinstance(value, dict):
        if all(type(key) is str for key in value) and TYPE not in value:
            return {key: inner(item) for key, item in value.items()}
        return {TYPE: "dict", "value": [[inner(key), inner(item)] for key, item in value.items()]}
    if isinstance(value, (list, range)):
        return [inner(item) for item in value]
    if isinstance(value, (tuple, set, frozenset)):
        kind = "tuple" if isinstance(value, tuple) else kind
        return {TYPE: kind, "value": [inner(item) for item in value]}
    if module == "numpy" and kind == "ndarray":
        return {TYPE: kind, "dtype": str(value.dtype), "value": inner(value.tolist())}
    if module == "numpy" and hasattr(value, "dtype"):
        # A short float would get digits that it does not have.
        return float(str(value)) if value.dtype.kind == "f" and value.dtype.itemsize < 8 else inner(value.item())
    if module == "pandas" and kind == "DataFrame":
        columns = [inner(value.iloc[:, place].tolist()) for place in range(value.shape[1])]
        names, index = inner(value.columns.tolist()), inner(value.index.tolist())
        dtypes = [str(dtype) for dtype in value.dtypes]
        return {TYPE: kind, "names": names, "index": index, "dtypes": dtypes, "value": columns}
    if module == "pandas" and kind == "Series":
        index, dtypes = inner(value.index.tolist()), [str(value.dtype)]
        names, columns = [inner(value.name)], [inner(value.tolist())]
        return {TYPE: kind, "names": names, "index": index, "dtypes": dtypes, "value": columns}
    if kind in ("NaTType", "NAType"):
        return None
    if kind in _OF_TEXT:
        return {TYPE: kind, "value": str(value)}
    if kind == "bytes":
        return {TYPE: kind, "value": value.decode("latin-1")}
    if kind in (*_TIMES, "Timestamp") and hasattr(value, "isoformat"):
        return {TYPE: "datetime" if kind == "Timestamp" else kind, "value": value.isoformat()}
    if kind in ("timedelta", "Timedelta"):
        return {TYPE: "timedelta", "value": value.total_seconds()}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # a tensor, an index
        return inner(value.tolist())
    if strict:
        raise TypeError(f"a {kind}")
    return str(value)


def decode(value: object) -> object:
    """The value of what [`encode`] gave; what cannot be made here stays as it came."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if TYPE not in value:
        return {key: decode(item) for key, item in value.items()}
    try:
        return _typed(value[TYPE], {key: decode(item) for key, item in value.items() if key != TYPE})
    except Exception:  # it lacks a part, or a package is not here
        return value


def _typed(kind: str, record: dict) -> object:
    value = record["value"]
    if kind in ("tuple", "set", "frozenset", "dict"):
        return getattr(builtins, kind)(value)
    if kind in _OF_TEXT:
        return getattr(__import__(_OF_TEXT[kind]), kind)(value)
    if kind == "bytes":
        return value.encode("latin-1")
    if kind == "timedelta" or kind in _TIMES:
        import datetime

        if kind == "timedelta":
            return datetime.timedelta(seconds=value)
        return getattr(datetime, kind).fromisoformat(value)
    if kind == "ndarray":
        import numpy

        return numpy.array(value, dtype=record["dtype"] if record["dtype"] in _NUMBERS else None)
    if kind not in ("DataFrame", "Series"):
        raise TypeError(kind)
    import pandas

    columns = [
        pandas.Series(column, index=record["index"], dtype=dtype if dtype in _NUMBERS else None)
        for column, dtype in zip(value, record["dtypes"], strict=True)
    ]
    if kind == "Series":
        return columns[0].rename(record["names"][0])
    frame = pandas.concat(columns, axis=1) if columns else pandas.DataFrame(index=record["index"])
    return frame.set_axis(record["names"], axis=1)


def argument(value: object, name: str) -> object:
    """An argument of a tool as JSON: pictures go as files, numpy values as numbers and lists."""
    if is_image(value):
        return save_image(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return argument(value.item(), name)
    if numpy is not None and isinstance(value, numpy.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [argument(item, name) for item in value]
    if isinstance(value, dict):
        return {str(key): argument(item, name) for key, item in value.items()}
    if is_plain(value):
        return value
    if isinstance(value, float):
        return str(value)
    try:
        return encode(value, save_image, strict=True)
    except TypeError:
        raise TypeError(
            f"`{name}` is a {type(value).__name__}; a tool takes numbers, strings, lists, dicts, tables, pictures and "
            "paths"
        ) from None


def bind(spec: dict, args: tuple, kwargs: dict) -> dict:
    """Arguments of a call by name.

    Raises:
        TypeError: when they do not fit; the message shows how the tool is called.
    """
    names = [parameter["name"] for parameter in spec["parameters"]]
    given = dict(zip(names, args, strict=False))
    missing = [p["name"] for p in spec["parameters"] if "default" not in p and p["name"] not in {**given, **kwargs}]
    unknown = [] if spec["more"] else [name for name in kwargs if name not in names]
    problem = None
    if len(args) > len(names):
        problem = f"{len(args)} positional arguments were given"
    elif unknown:
        problem = f"there is no argument `{unknown[0]}`"
    elif missing:
        problem = f"the argument `{missing[0]}` is missing"
    elif set(given) & set(kwargs):
        problem = f"`{min(set(given) & set(kwargs))}` was given twice"
    if problem:
        raise TypeError(f"{problem}; call it as {describe(spec)}")
    return {**given, **kwargs}


def describe(spec: dict) -> str:
    """`name(first, second=3)`."""
    parts = [p["name"] + (f"={p['default']!r}" if "default" in p else "") for p in spec["parameters"]]
    return f"{spec['name']}({', '.join(parts + ['**kwargs'] * spec['more'])})"


def make_tool(channel: Channel, spec: dict) -> types.FunctionType:
    """A function that is called as the tool is and calls it in the parent."""
    name = spec["name"]

    def raw(*args, **kwargs):
        given = bind(spec, args, kwargs)
        sys.stdout.flush()
        reply = channel.call(name, {key: argument(item, key) for key, item in given.items()})
        if "error" in reply:
            raise ToolError(reply["error"])
        return reply["value"]

    def tool(*args, **kwargs):
        return decode(raw(*args, **kwargs))

    tool.raw = raw
    tool.__name__ = tool.__qualname__ = name
    tool.__doc__ = f"{describe(spec)}\n\n{spec['description']}"
    return tool


def is_allowed(name: str, allowed: list[str]) -> bool:
    """Whether code may import a module: it is listed, or within a listed one, or the parent of one."""
    for entry in allowed:
        root = entry.removesuffix(".*")
        if entry == "*" or name == root or name.startswith(f"{root}.") or root.startswith(f"{name}."):
            return True
    return False


class ImportGuard(ast.NodeTransformer):
    """Puts a check before each import of the code. What modules import while they work is none of the code's and not
    checked, not even by C, which imports in the name of the function that called it."""

    check, dynamic = "__check_imports__", "__checked_import__"

    def checked(self, node: ast.stmt, names: list[str]) -> list[ast.stmt]:
        call = ast.Call(ast.Name(self.check, ast.Load()), [ast.Constant(name) for name in names], [])
        return [ast.copy_location(ast.Expr(call), node), node]

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        return self.checked(node, [alias.name for alias in node.names])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> object:
        return node if node.level or node.module == "__future__" else self.checked(node, [node.module])

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.copy_location(ast.Name(self.dynamic, node.ctx), node) if node.id == "__import__" else node


def check_imports(names: tuple[str, ...], allowed: list[str]) -> None:
    """
    Raises:
        ImportError: when code may not import a module.
    """
    for name in names:
        if not is_allowed(name, allowed):
            raise ImportError(f"Import of `{name}` is not allowed. You may import: {', '.join(allowed)}")


def refuse_tool_names(tree: ast.AST, tools: object) -> None:
    """
    Raises:
        NameError: when code assigns to the name of a tool.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in tools:
            raise NameError(
                f"Cannot assign to name '{node.id}': doing this would erase the existing tool! "
                f"Use another name in line {node.lineno}."
            )


def places_of(error: BaseException, sources: dict[str, list[str]], current: str) -> list[str]:
    """Lines of the steps that led to an error, outermost first."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file in sources and trace.tb_lineno <= len(sources[file]):
            where = "" if file == current else f" of {file[1:-1]}"
            source = sources[file][trace.tb_lineno - 1].strip()[:120]
            lines.append(f"line {trace.tb_lineno}{where}: {source}")
        trace = trace.tb_next
    return lines


def show_last_value(body: list[ast.stmt], name: str) -> None:
    """Rewrite the last statement so that its value, or the value that it assigns, is kept under `name`."""
    if not body:
        return
    last = body[-1]
    target = ast.Name(name, ast.Store())
    if isinstance(last, ast.Expr):
        body[-1] = ast.copy_location(ast.Assign([target], last.value), last)
    elif isinstance(last, ast.Assign):
        last.targets.insert(0, target)
    elif isinstance(last, (ast.AugAssign, ast.AnnAssign)) and isinstance(last.target, ast.Name):
        if isinstance(last, ast.AugAssign) or last.value is not None:
            value = ast.Name(last.target.id, ast.Load())
            body.append(ast.copy_location(ast.Assign([target], value), last))
    elif isinstance(last, (ast.If, ast.For, ast.While, ast.With)):
        show_last_value(last.body, name)
        if not isinstance(last, ast.With):
            show_last_value(last.orelse, name)


class Runner:
    """Runs the steps in one namespace.

    Args:
        channel ([`Channel`]): to the parent.
        settings (`dict`): the first frame of the parent.
    """

    VALUE = "__last_value__"

    def __init__(self, channel: Channel, settings: dict):
        self.channel = channel
        self.output_chars = settings["output_chars"]
        self.imports = settings["imports"]
        self.hidden = settings["hidden"]
        self.tools: dict[str, types.FunctionType] = {}
        self.step = 0
        self.answers: list[object] = []
        self.sources: dict[str, list[str]] = {}
        self.interruptible = False
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        self.namespace = module.__dict__
        code_builtins = dict(vars(builtins))
        code_builtins[ImportGuard.check] = lambda *names: check_imports(names, self.imports)
        code_builtins[ImportGuard.dynamic] = self._import
        code_builtins["open"] = open_file
        self.namespace["__builtins__"] = code_builtins
        # smolagents' interpreter has these without an import.
        for name in "ceil floor log exp sin cos tan asin acos atan atan2 degrees radians sqrt".split():
            self.namespace[name] = getattr(math, name)
        self.given = set(self.namespace)

    def _import(self, name, *args, **kwargs):
        check_imports((name,), self.imports)
        return builtins.__import__(name, *args, **kwargs)

    def set_tools(self, specs: list[dict]) -> None:
        for name in self.tools:
            self.namespace.pop(name, None)
        self.tools = {spec["name"]: make_tool(self.channel, spec) for spec in specs}
        if "final_answer" in self.tools:
            self.tools["final_answer"] = self._ending(self.tools["final_answer"])

    def _ending(self, tool: types.FunctionType) -> types.FunctionType:
        def final_answer(*args, **kwargs):
            shown = [self._answer(value) for value in args]
            self.answers.append(tool.raw(*shown, **{name: self._answer(value) for name, value in kwargs.items()}))
            raise FinalAnswer

        final_answer.__doc__ = tool.__doc__
        return final_answer

    def _answer(self, value: object) -> object:
        """What the parent gets of an answer; one that is too large goes as a part of its text."""
        encoded = encode(value, save_image)
        small = not isinstance(encoded, (str, list, dict)) or len(json.dumps(encoded)) < MAX_FRAME // 2
        return encoded if small else outgoing(str(value), self.output_chars)

    def set_variables(self, variables: dict, images: dict) -> None:
        self.namespace.update({name: decode(value) for name, value in variables.items()})
        for name, path in images.items():
            from PIL import Image

            self.namespace[name] = Image.open(path)

    def run(self, code: str) -> dict:
        """Run a step; the result is a frame for the parent."""
        self.step += 1
        self.answers.clear()
        self.namespace.pop(self.VALUE, None)
        self.namespace.update(self.tools)
        try:
            self.interruptible = True
            result = self._result(code, f"<step {self.step}>")
            self.interruptible = False
        except TimeUp:
            result = {"timeout": True}
        sys.stdout.flush()
        return {"result": result, "names": self._names()}

    def time_is_up(self, *_) -> None:
        """Handler of the signal that the parent sends; only the first one within a step counts."""
        if self.interruptible:
            self.interruptible = False
            raise TimeUp

    def _result(self, code: str, file: str) -> dict:
        self.sources[file] = code.splitlines()
        try:
            exec(self._compile(code, file), self.namespace)
            result = {"output": outgoing(self.namespace.pop(self.VALUE, None), self.output_chars)}
        except TimeUp:
            raise
        except FinalAnswer:
            result = {}
        except BaseException as error:
            result = {"error": self._explain(error)}
        # An answer counts also when a handler of the code kept it from ending the step.
        return {"output": self.answers[0], "final": True} if self.answers else result

    def _compile(self, code: str, file: str) -> types.CodeType:
        tree = ast.parse(code, file)
        refuse_tool_names(tree, self.tools)
        show_last_value(tree.body, self.VALUE)
        tree = ImportGuard().visit(tree)
        return compile(ast.fix_missing_locations(tree), file, "exec")

    def _names(self) -> list[str]:
        """Names that the steps defined, without modules: what a fresh child would lack."""
        names = [
            name
            for name, value in self.namespace.items()
            if not name.startswith("__")
            and name not in self.given
            and name not in self.tools
            and not isinstance(value, types.ModuleType)
        ]
        return names[:100]

    def _explain(self, error: BaseException) -> str:
        """One or two lines: the error as Python words it, and the lines of the code that led to it."""
        try:
            text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        except BaseException as second:
            text = f"{type(error).__name__} (its message cannot be shown: {type(second).__name__})"
        text = text.removeprefix("ToolError: ")
        for path in self.hidden:
            text = text.replace(path, "<python>")
        if len(text) > 2000:
            text = f"{text[:1000]}\n[{len(text) - 2000} characters left out]\n{text[-1000:]}"
        if isinstance(error, FileNotFoundError) and isinstance(error.filename, str):
            text += f". Files here: {list_files()}"
        lines = places_of(error, self.sources, f"<step {self.step}>")
        if not lines:
            return text
        places = [lines[0]] if len(lines) == 1 else [lines[0], lines[-1]]
        return f"{text}\n(in {', in '.join(places)})"


def open_file(file, mode="r", *args, **kwargs):
    """`open` that makes the folder of a file that is written."""
    if isinstance(file, (str, os.PathLike)) and any(letter in mode for letter in "wxa"):
        os.makedirs(os.path.dirname(os.fspath(file)) or ".", exist_ok=True)
    return open(file, mode, *args, **kwargs)


def list_files() -> str:
    """Some files of the workspace, for a message."""
    found = []
    for folder, folders, files in os.walk("/workspace"):
        folders[:] = sorted(folders)[:SHOWN_FILES]
        found += [os.path.relpath(os.path.join(folder, file), "/workspace") for file in files]
        if len(found) > SHOWN_FILES:
            break
    return ", ".join(sorted(found)[:SHOWN_FILES]) or "none"


def limit_process(limits: dict) -> None:
    """Set resource limits that this process cannot lift again."""
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))


def main() -> None:
    channel = Channel(os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    # The kernel adds the process id as the parent sees it, see `Sandbox` there.
    channel.send({"hello": sys.version_info[:2]})
    settings = channel.receive()
    os.dup2(0, 2)
    sys.path += settings["path"]
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    try:
        limit_process(settings["limits"])
        if not os.path.lexists(_IMAGES):
            os.mkdir(_IMAGES)
    except (OSError, ValueError):  # lower limits of this machine, a full disk
        os._exit(NOT_READY)

    runner = Runner(channel, settings)
    signal.signal(signal.SIGUSR1, runner.time_is_up)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        message = channel.receive()
        if "tools" in message:
            runner.set_tools(message["tools"])
        elif "variables" in message:
            runner.set_variables(message["variables"], message["images"])
        elif "code" in message:
            channel.send({**runner.run(message["code"]), "step": message["step"]})


if __name__ == "__main__":
    main()
