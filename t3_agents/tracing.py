"""OpenTelemetry spans of runs, steps and model calls, with the attribute names of OpenInference that smolagents' own
instrumentation uses. Nothing is recorded, and nothing imported, before [`start_tracing`]."""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError, needs_extra
from .redaction import Redactor


if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

# https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md
KIND = "openinference.span.kind"
INPUT, OUTPUT = "input.value", "output.value"
MODEL, PARAMETERS = "llm.model_name", "llm.invocation_parameters"
PROMPT_TOKENS, COMPLETION_TOKENS, TOTAL_TOKENS = (
    "llm.token_count.prompt",
    "llm.token_count.completion",
    "llm.token_count.total",
)
CACHED_TOKENS = "llm.token_count.prompt_details.cache_read"
BATCH_SIZE = "t3.batch_size"
"""Requests that ran together with a model call at most, itself included; OpenInference has no name for it."""

_provider: Any = None


def start_tracing(target: str | Path | SpanExporter) -> None:
    """Record spans from now on, in this process.

    Args:
        target (`str`, `Path` or `SpanExporter`): a file that gets a line of JSON per span, the URL of an OTLP
            collector such as `http://localhost:4318/v1/traces`, or an exporter.

    Raises:
        InputError: when spans are recorded already.
        MissingExtraError: when OpenTelemetry is not installed.
    """
    global _provider
    _redactor.cache_clear()  # variables of the environment may have come since
    with needs_extra("opentelemetry-sdk", "telemetry", "Tracing"):
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
    if _provider is not None:
        raise InputError("Spans are recorded already: call `stop_tracing` first.")
    provider = TracerProvider()
    if isinstance(target, str) and target.startswith(("http://", "https://")):
        with needs_extra("opentelemetry-exporter-otlp-proto-http", "telemetry", "A collector"):
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(target)))
    elif isinstance(target, (str, Path)):
        provider.add_span_processor(SimpleSpanProcessor(_file_exporter(Path(target))))
    else:
        provider.add_span_processor(SimpleSpanProcessor(target))
    _provider = provider


def stop_tracing() -> None:
    """Send what is left, and record no more."""
    global _provider
    if _provider is not None:
        _provider.shutdown()
        _provider = None


class Span:
    """A span, or nothing while tracing is off."""

    def __init__(self, recording: Any = None):
        self.recording = recording

    def set(self, attributes: dict[str, Any]) -> None:
        """Add attributes; those that are `None` are left out."""
        if self.recording is not None:
            clean = _redactor().record({name: value for name, value in attributes.items() if value is not None})
            self.recording.set_attributes(clean)


@functools.cache
def _redactor() -> Redactor:
    return Redactor(personal=False)


@contextmanager
def span(kind: str, name: str, attributes: dict[str, Any] | None = None, is_leaf: bool = False) -> Iterator[Span]:
    """A span around a block, below the one that this thread is in; an exception is recorded in it.

    Args:
        kind (`str`): `AGENT`, `CHAIN` or `LLM`.
        name (`str`): its name.
        attributes (`dict`, *optional*): what is known at its start.
        is_leaf (`bool`, *optional*, defaults to `False`): no span comes below it, so that the block may be one of a
            generator that hands out values in between.
    """
    provider = _provider
    if provider is None:
        yield Span()
        return
    tracer = provider.get_tracer("t3_agents")
    with nullcontext(tracer.start_span(name)) if is_leaf else tracer.start_as_current_span(name) as recording:
        opened = Span(recording)
        opened.set({KIND: kind, **(attributes or {})})
        if not is_leaf:
            yield opened
            return
        with recording:  # its end, and the exception that ended it
            yield opened


def model_call(model_id: str | None, settings: dict[str, Any]) -> Any:
    """The span of a model call; [`record_usage`] adds what is known at its end."""
    about = {MODEL: model_id, PARAMETERS: json.dumps(settings, default=str)}
    return span("LLM", "generate", about, is_leaf=True)


def record_usage(
    opened: Span,
    text: str,
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int | None = None,
    batch_size: int | None = None,
) -> None:
    """Tokens of a model call: how many it read, wrote, and found kept; and how many calls ran together."""
    opened.set(
        {
            OUTPUT: text,
            PROMPT_TOKENS: input_tokens,
            COMPLETION_TOKENS: output_tokens,
            TOTAL_TOKENS: input_tokens + output_tokens,
            CACHED_TOKENS: cached_tokens,
            BATCH_SIZE: batch_size,
        }
    )


def _file_exporter(path: Path) -> SpanExporter:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class FileExporter(SpanExporter):
        """Appends a line of JSON per span."""

        def __init__(self) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Prompts and answers are nobody's but the user's.
            self.file = open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8")
            self.lock = threading.Lock()

        def export(self, spans: list[ReadableSpan]) -> SpanExportResult:
            with self.lock:
                self.file.writelines(recorded.to_json(indent=None) + "\n" for recorded in spans)
                self.file.flush()
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            self.file.close()

    return FileExporter()
