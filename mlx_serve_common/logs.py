"""Logging: one record, one line, as text for people or JSON for machines.

Invariants: whatever a message, an exception or a field holds, it stays on its line, cannot steer
a terminal, and is bounded; writing a record never raises. The ids of the request being served and
of its trace travel in ``request_id`` and ``trace_id`` and need no argument.
"""

import io
import json
import logging
import re
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)
"""Of the trace that the request belongs to, where its client has said so."""

MAX_MESSAGE = 4_000
MAX_EXCEPTION = 16_000
MAX_FIELD = 500

_OWN_PACKAGES = "mlx_serve_"
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

# C0 and C1 controls, the Unicode line separators, what reorders text on a screen, and halves of
# surrogate pairs, which no stream can encode.
_UNSAFE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)


def escape(text: str) -> str:
    """The text without anything that breaks a line or steers a terminal."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def configure(
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    format: Literal["text", "json"],
    stream: TextIO | None = None,
) -> None:
    """Send all logging to the stream (stderr); called again, it replaces what it set up before."""
    stream = stream or sys.stderr
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    handler = _LineHandler(stream)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    for earlier in [each for each in root.handlers if isinstance(each, _LineHandler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(level)


class _LineHandler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """A closed pipe or a full disk costs the record, never the server or a traceback."""


class TextFormatter(logging.Formatter):
    """``2026-11-21 10:00:00 INFO  gateway.pool loaded m in 0.21 s key=value [req-1]``"""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M:%S")
        logger = record.name.removeprefix(_OWN_PACKAGES)
        parts = [f"{moment} {record.levelname:<5} {logger} {_message(record)}"]
        parts += [f"{name}={value}" for name, value in _extra(record).items()]
        current = _request_id(record)
        if current:
            parts.append(f"[{current}]")
        if trace := trace_id.get():
            parts.append(f"[trace {trace}]")
        folded = _exception(record)
        if folded:
            parts.append(f"| {folded}")
        return escape(" ".join(parts))


class JsonFormatter(logging.Formatter):
    """One object per line: ts, level, logger, message, the ids, exception, extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "ts": moment.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        current = _request_id(record)
        if current:
            line["request_id"] = current
        if trace := trace_id.get():
            line["trace_id"] = trace
        folded = _exception(record)
        if folded:
            line["exception"] = folded
        for name, value in _extra(record).items():
            line[f"extra_{name}" if name in line else name] = value
        # ASCII only: no reader of the stream can then see a control or an encoding error.
        return json.dumps(line)


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:
        # A wrong format string is a bug of ours; the record must still be seen.
        text = f"{_text(record.msg)} {_text(record.args)}"
    return _bounded(text, MAX_MESSAGE)


def _request_id(record: logging.LogRecord) -> str | None:
    given = getattr(record, "request_id", None) or request_id.get()
    return None if given is None else _bounded(_text(given), MAX_FIELD)


def _exception(record: logging.LogRecord) -> str | None:
    """Traceback and stack of the record; of a long one the middle is left out."""
    parts = []
    if record.exc_info and record.exc_info[1] is not None:
        parts.append("".join(traceback.format_exception(record.exc_info[1])).rstrip())
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    text = "\n".join(parts)
    if len(text) > MAX_EXCEPTION:
        half = MAX_EXCEPTION // 2
        text = f"{text[:half]} …({len(text) - 2 * half} characters left out)… {text[-half:]}"
    return text or None


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    fields = record.__dict__.items()
    return {
        name: _plain(value)
        for name, value in fields
        if name not in _STANDARD and name != "request_id"
    }


def _plain(value: Any) -> Any:
    """Numbers, booleans and null as they are, all else as bounded text."""
    if value is None or isinstance(value, bool | int):
        return value
    # JSON has no infinity and no NaN.
    if isinstance(value, float) and abs(value) <= sys.float_info.max:
        return value
    return _bounded(_text(value), MAX_FIELD)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _bounded(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…({len(text) - limit} characters more)"
