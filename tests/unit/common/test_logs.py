"""Logs: one record is one line, whatever it holds, and carries the request's id."""

import io
import json
import logging
import re
from collections.abc import Iterator
from contextvars import copy_context
from datetime import datetime
from typing import Any, Literal

import pytest

from mlx_serve_common import logs

HOSTILE = [
    "two\nlines",
    "carriage\rreturn",
    "\x1b[2J\x1b]0;title\x07 erased",
    "\x9b2J c1",
    "next\x85line \u2028 \u2029 separators",
    "\u202egnitirw desrever",
    "half \ud800 surrogate",
    "nul \0 del \x7f",
    "${jndi:ldap://x} 100% {0} %s",
]


@pytest.fixture(autouse=True)
def restored_root() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]


class Log:
    """A configured stream and the lines on it."""

    def __init__(self, format: Literal["text", "json"]) -> None:
        self._stream = io.StringIO()
        logs.configure("INFO", format, self._stream)

    def lines(self) -> list[str]:
        text = self._stream.getvalue()
        assert text == "" or text.endswith("\n")
        return text.splitlines()

    def line(self) -> str:
        (line,) = self.lines()
        return line

    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.line())
        return fields


pool = logging.getLogger("mlx_serve_gateway.pool")


def test_text_is_compact() -> None:
    log = Log("text")
    pool.info("loaded %s in %.2f s", "all-MiniLM-L6-v2", 0.21)
    pattern = (
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO  gateway\.pool loaded all-MiniLM-L6-v2 in 0\.21 s"
    )
    assert re.fullmatch(pattern, log.line())


def test_json_fields() -> None:
    log = Log("json")
    pool.warning("loaded %s", "m", extra={"model": "m", "seconds": 0.21, "pinned": True})
    fields = log.fields()
    moment = datetime.fromisoformat(fields.pop("ts"))
    assert moment.tzinfo is not None
    assert abs((datetime.now(moment.tzinfo) - moment).total_seconds()) < 60
    assert fields == {
        "level": "WARNING",
        "logger": "mlx_serve_gateway.pool",
        "message": "loaded m",
        "model": "m",
        "seconds": 0.21,
        "pinned": True,
    }


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_one_printable_line(text: str, format: Literal["text", "json"]) -> None:
    log = Log(format)
    pool.info("message %s", text, extra={"model": text})
    line = log.line()
    assert line.isprintable()
    if format == "json":
        assert json.loads(line)["model"] == text


def test_readable_text_is_left_alone() -> None:
    log = Log("text")
    pool.info("모델 준비 👩‍💻 C:\\models")
    assert log.line().endswith("모델 준비 👩‍💻 C:\\models")


@pytest.mark.parametrize("format", ["text", "json"])
def test_long_texts_are_cut_and_say_so(format: Literal["text", "json"]) -> None:
    log = Log(format)
    pool.info("x" * 1_000_000, extra={"agent": "y" * 1_000_000})
    assert len(log.line()) < logs.MAX_MESSAGE + logs.MAX_FIELD + 300
    assert "characters more" in log.line()


@pytest.mark.parametrize("format", ["text", "json"])
def test_the_ids_of_request_and_trace_follow_the_context(format: Literal["text", "json"]) -> None:
    log = Log(format)

    def serve() -> None:
        logs.request_id.set("req-1")
        logs.trace_id.set("4bf9")
        pool.info("inside")

    copy_context().run(serve)
    pool.info("outside")
    inside, outside = log.lines()
    if format == "json":
        assert json.loads(inside)["request_id"] == "req-1"
        assert json.loads(inside)["trace_id"] == "4bf9"
        assert not {"request_id", "trace_id"} & json.loads(outside).keys()
    else:
        assert inside.endswith("inside [req-1] [trace 4bf9]")
        assert outside.endswith("outside")


def test_request_id_can_be_given_and_is_not_trusted() -> None:
    log = Log("text")
    pool.info("done", extra={"request_id": "a\nb" + "c" * 10_000})
    assert "[a\\nb" in log.line()
    assert len(log.line()) < 1_000


@pytest.mark.parametrize("format", ["text", "json"])
def test_exceptions_fold_into_the_line(format: Literal["text", "json"]) -> None:
    log = Log(format)
    try:
        raise ValueError("broken\nthing")
    except ValueError:
        pool.exception("load failed")
    line = log.line()
    assert "load failed" in line
    folded = json.loads(line)["exception"] if format == "json" else line
    assert folded.index("Traceback") < folded.index("ValueError: broken")


def test_long_exceptions_keep_both_ends() -> None:
    log = Log("json")
    try:
        raise ValueError("x" * 100_000 + " the end")
    except ValueError:
        pool.exception("failed")
    folded = log.fields()["exception"]
    assert folded.startswith("Traceback")
    assert folded.endswith("the end")
    assert len(folded) < logs.MAX_EXCEPTION + 100


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("format", ["text", "json"])
def test_records_that_cannot_be_formatted_are_not_lost(
    format: Literal["text", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    # pytest's own handlers raise for what is tested here.
    logging.getLogger().handlers.clear()
    log = Log(format)
    pool.info("%d items", "many")
    pool.info("value %s", Unshowable(), extra={"field": Unshowable()})
    wrong_type, unshowable = log.lines()
    assert "%d items" in wrong_type
    assert "many" in wrong_type
    assert "Unshowable that cannot be shown" in unshowable
    assert capsys.readouterr().err == ""


def test_json_stays_json_for_odd_values() -> None:
    log = Log("json")
    odd = {"rate": float("nan"), "top": float("inf"), "path": b"\xff", "items": ["a\n"], "ts": 1}
    pool.info("odd", extra=odd)

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    fields = json.loads(log.line(), parse_constant=no_constant)
    assert fields["rate"] == "nan"
    assert fields["items"] == "['a\\n']"
    assert fields["extra_ts"] == 1
    assert fields["ts"] != 1


def test_level_is_obeyed() -> None:
    log = Log("text")
    pool.debug("hidden")
    pool.info("shown")
    assert log.line().endswith("shown")


def test_configuring_again_replaces_the_first_time_and_nothing_else() -> None:
    foreign = logging.NullHandler()
    logging.getLogger().addHandler(foreign)
    first, second = Log("text"), Log("json")
    pool.info("once")
    assert first.lines() == []
    assert second.fields()["message"] == "once"
    assert foreign in logging.getLogger().handlers


def test_a_closed_stream_does_not_hurt(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    logs.configure("INFO", "text", stream)
    stream.close()
    pool.info("into the void")
    assert capsys.readouterr().err == ""


def test_a_stream_without_unicode_gets_escapes() -> None:
    raw = io.BytesIO()
    logs.configure("INFO", "text", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    pool.info("모델")
    assert raw.getvalue().endswith(b"\\ubaa8\\ub378\n")
