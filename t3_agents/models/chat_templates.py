"""Chat templates in bounded time and memory: they come with a model, and a loop or a product in one can take any.

Transformers renders them in jinja2's sandbox, which keeps them from the machine but not from its processor. The
environment here counts what a template evaluates and the characters that it makes, and looks at an operation's size
before it is done.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jinja2 import Template, TemplateRuntimeError, TemplateSyntaxError, nodes
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer


MAX_SOURCE = 500_000
"""Characters of a template; the longest known have 20,000."""
MAX_STEPS = 10_000_000
"""Nodes that a rendering evaluates: some seconds. A conversation of 1,000 turns takes 500,000."""
MAX_CHARACTERS = 128_000_000
"""Characters that a rendering makes, those of its parts included, and entries of lists."""
MAX_SECONDS = 60
MAX_WIDTH = 10_000

_CALL = 20  # what a call costs beside its nodes
_PADS = frozenset("center ljust rjust zfill expandtabs indent round truncate tojson".split())
_FILTERS = frozenset(
    "abs attr capitalize center count d default dictsort e escape first float groupby indent int items join last "
    "length list lower map max min reject rejectattr replace round safe select selectattr sort string title tojson "
    "trim truncate unique upper".split()
)
_WIDE_FORMAT = re.compile(r"\d{5}|\{[^}]*\{")


class _Budget(threading.local):
    steps = characters = deadline = 0


class _Bounded(Template):
    def render(self, *args: Any, **kwargs: Any) -> str:
        self.environment.begin()
        return super().render(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Iterator[str]:
        self.environment.begin()
        return super().generate(*args, **kwargs)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox with bounds of time and memory; a template that passes them raises `TemplateRuntimeError`."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))
    template_class = _Bounded

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._budget = _Budget()
        self.finalize = self._written
        self._macro_cost = _CALL
        self.filters = _Filters(self, {name: self.filters[name] for name in _FILTERS})
        # Those that count are not to be counted.
        dict.update(self.filters, t3_steps=self._steps, t3_concat=self.concat)
        self.globals.pop("lipsum", None)

    def begin(self) -> None:
        """Start to count anew."""
        self._budget.steps, self._budget.characters = MAX_STEPS, MAX_CHARACTERS
        self._budget.deadline = time.monotonic() + MAX_SECONDS

    def _spend(self, steps: int, characters: int = 0) -> None:
        budget = self._budget
        budget.steps -= steps
        budget.characters -= characters
        if budget.steps < 0 or budget.characters < 0 or time.monotonic() > budget.deadline:
            raise TemplateRuntimeError("it takes too much time or memory")

    def _made(self, value: Any) -> Any:
        self._spend(_CALL, len(value) if isinstance(value, (str, list, tuple, dict)) else 0)
        return value

    def _length(self, value: Any) -> int:
        """Characters of a value as text, at least; lists may hold one another many times."""
        length, level = 0, [value]
        while level:
            value = level.pop()
            self._spend(1)
            if isinstance(value, str):
                length += len(value)
            elif isinstance(value, dict):
                level += [*value.keys(), *value.values()]
            elif isinstance(value, (list, tuple)):
                level += value
            if length + len(level) > MAX_CHARACTERS:
                break
        return length

    def _check(self, name: str, value: Any, values: list[Any]) -> None:
        """Look at what a filter or a method of strings is given: its result may be much longer."""
        if name in _PADS and any(isinstance(each, int) and abs(each) > MAX_WIDTH for each in values):
            raise TemplateRuntimeError(f"`{name}` gets a number over {MAX_WIDTH}")
        length = self._length([value, *values])
        if name == "replace" and len(values) > 1:
            length += (str(value).count(str(values[0])) + 1) * len(str(values[1]))
        elif name == "join" and values:
            length += len(value) * len(str(values[0]))
        self._spend(1, length)

    def _written(self, value: Any) -> Any:
        """What a template writes of a value."""
        if not isinstance(value, str):
            self._spend(1, self._length(value))
        return value

    # What jinja2 calls

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        costs = [len(list(macro.find_all(nodes.Node))) for macro in source.find_all((nodes.Macro, nodes.CallBlock))]
        self._macro_cost = max(self._macro_cost, _CALL + max(costs, default=0))
        return super()._generate(_Counted().visit(source), *args, **kwargs)

    def _parse(self, source: str, *args: Any) -> nodes.Template:
        if len(source) > MAX_SOURCE:
            raise TemplateSyntaxError(f"it has more than {MAX_SOURCE:,} characters", 1)
        return super()._parse(source, *args)

    def concat(self, parts: Iterable[Any]) -> str:
        """Join what a template or a part of it writes."""
        texts = []
        for part in parts:
            texts.append(str(self._written(part)))
            self._spend(1, len(texts[-1]))
        return "".join(texts)

    def _steps(self, values: Iterable[Any], cost: int) -> Iterator[Any]:
        """What a loop goes through, at the cost of its body."""
        for value in values:
            self._spend(cost)
            yield value

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 as in jinja2
        self, owner, name = __self, getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(__obj, LoopContext):  # a recursive loop
            args = (self._steps(args[0], self._macro_cost), *args[1:])
        if isinstance(owner, str):
            values = [*args, *kwargs.values()]
            if name == "join" and values:
                values[0] = values[0] if isinstance(values[0], (list, tuple, str, dict)) else list(values[0])
                args = values
                self._check(name, values[0], [owner])
            else:
                self._check(name, owner, values)
            if name == "translate":
                raise TemplateRuntimeError("it calls `translate`")
        self._spend(self._macro_cost if isinstance(__obj, Macro) else 0)
        return self._made(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None and _WIDE_FORMAT.search(value.__self__):
            raise TemplateRuntimeError(f"it calls `format` with a width over {MAX_WIDTH}")
        return wrapped

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(value) for value in (left, right) if isinstance(value, (str, list, tuple))]
        numbers = [value for value in (left, right) if isinstance(value, int)]
        if operator == "*" and sizes and numbers:
            self._spend(1, sizes[0] * max(0, numbers[0]))
        elif operator == "+":
            self._spend(1, sum(sizes))
        elif (operator == "%" and sizes) or (operator == "**" and numbers[1:] and abs(right) > 64):
            raise TemplateRuntimeError(f"it uses `{operator}`")
        if operator in ("*", "**") and sum(value.bit_length() for value in numbers) > 1024:
            raise TemplateRuntimeError("it makes too large a number")
        return super().call_binop(context, operator, left, right)


class _Filters(dict):
    """Filters that look at what they are given and count what they give."""

    def __init__(self, environment: BoundedEnvironment, filters: dict[str, Callable]):
        super().__init__()
        self.environment = environment
        for name, function in filters.items():
            self[name] = function

    def __setitem__(self, name: str, function: Callable) -> None:
        environment = self.environment

        @functools.wraps(function)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            first, *values = args[1:] if hasattr(function, "jinja_pass_arg") else args
            if name in ("join", "string", "tojson", "map") and isinstance(first, (range, Iterator)):
                # What is not yet a list cannot be looked at.
                at = len(args) - len(values) - 1
                first = list(self.environment._steps(first, 1))
                args = (*args[:at], first, *args[at + 1 :])
            environment._check(name, first, [*values, *kwargs.values()])
            return environment._made(function(*args, **kwargs))

        super().__setitem__(name, bounded)


class _Counted(NodeTransformer):
    """Sends loops and `~` through filters that count."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 as in jinja2
        self.generic_visit(node)
        cost = nodes.Const(_CALL // 2 + sum(1 for _ in node.find_all(nodes.Node)))
        node.iter = nodes.Filter(node.iter, "t3_steps", [cost], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 as in jinja2
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "t3_concat", [], [], None, None, lineno=node.lineno)


def bound_chat_templates() -> None:
    """Let transformers render chat templates in [`BoundedEnvironment`], in this process."""
    from transformers.utils import chat_template_utils

    chat_template_utils.ImmutableSandboxedEnvironment = BoundedEnvironment
