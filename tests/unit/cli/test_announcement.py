import os

import pytest

from mlx_serve_gateway.cli.announcement import (
    Announcement,
    Pipe,
    heard,
    tell_json,
    tell_terminal,
)
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode

READY = Announcement(kind="ready", pid=7, url="http://127.0.0.1:8000", log="/logs/a.log")


def test_everything_up_to_the_final_word_is_heard() -> None:
    reader, writer = os.pipe()
    pipe = Pipe(writer)
    pipe.tell(Announcement(kind="note", message="a moment\nplease"))
    pipe.tell(READY)
    pipe.tell(Announcement(kind="note", message="too late"))

    assert [said.kind for said in heard(reader, 5)] == ["note", "ready"]
    os.close(reader)


def test_an_end_without_a_word_is_no_announcement() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    assert list(heard(reader, 5)) == []
    os.close(reader)


def test_waiting_has_an_end() -> None:
    reader, writer = os.pipe()
    with pytest.raises(TimeoutError):
        list(heard(reader, 0.01))
    os.close(reader)
    os.close(writer)


def test_a_waiting_command_that_left_changes_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    pipe = Pipe(writer)
    pipe.tell(Announcement(kind="note"))
    pipe.tell(READY)


def test_what_a_person_sees(capsys: pytest.CaptureFixture[str]) -> None:
    tell_terminal(READY)
    tell_terminal(Announcement(kind="already_running", pid=7, url="http://127.0.0.1:8000"))
    tell_terminal(Announcement(kind="note", message="by the way"))
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "mlx-serve is running (pid 7) at http://127.0.0.1:8000",
        "log: /logs/a.log",
        "already running (pid 7) at http://127.0.0.1:8000",
    ]
    assert err == "by the way\n"


def test_what_a_program_sees(capsys: pytest.CaptureFixture[str]) -> None:
    tell_json(Announcement(kind="logging", log="/logs/a.log"))
    tell_json(Announcement(kind="note", message="by the way"))
    tell_json(READY)
    out, err = capsys.readouterr()
    assert out == ('{"state":"ready","pid":7,"url":"http://127.0.0.1:8000","log":"/logs/a.log"}\n')
    assert err == "by the way\n"
    with pytest.raises(CommandFailed):
        tell_json(Announcement(kind="failed", message="no", code=ExitCode.UNAVAILABLE))
    assert capsys.readouterr().out == ""


def test_a_failure_becomes_the_exit_code() -> None:
    failed = Announcement(kind="failed", message="no", code=ExitCode.UNAVAILABLE)
    with pytest.raises(CommandFailed) as caught:
        tell_terminal(failed)
    assert caught.value.code is ExitCode.UNAVAILABLE
