import io
import os
import re
import sys

import pytest
from rich.cells import cell_len

from mlx_serve_gateway.cli.exit_codes import CommandFailed
from mlx_serve_gateway.cli.output import announce, emit, emit_json, emit_table, note

LONG_KOREAN = "한국어-임베딩-모델-KoSimCSE-roberta-multitask-v2-아주-긴-이름-4bit"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_wide_names_align_and_are_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("bge-m3", "embedding", "1.2 GB"), (LONG_KOREAN, "reranker", "87 MB")]
    emit_table(("NAME", "TYPE", "SIZE"), rows, right="SIZE")

    lines = capsys.readouterr().out.splitlines()
    assert LONG_KOREAN in lines[2]
    assert len({cell_len(line) for line in lines}) == 1  # the last column is aligned to the right
    starts = {
        cell_len(line[: line.index(kind)])
        for line, kind in zip(lines, ("TYPE", "embedding", "reranker"), strict=True)
    }
    assert len(starts) == 1


def test_a_table_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal)
    emit_table(("NAME", "TYPE", "SIZE"), [(LONG_KOREAN * 2, "embedding", "1.2 GB")])

    lines = re.sub(r"\x1b\[\d*m", "", terminal.getvalue()).splitlines()
    assert max(map(cell_len, lines)) <= 80
    shown = "".join(line.split()[0] for line in lines[1:])
    assert shown == LONG_KOREAN * 2


def test_headers_are_whole_where_room_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal)
    columns = ("NAME", "TYPE", "STATE", "MEMORY", "PROCESSOR", "INFLIGHT/QUEUED", "UNTIL")
    row = (LONG_KOREAN, "embedding", "ready", "29 MB", "fake", "0/0", "in 29m 59s")
    emit_table(columns, [row])

    lines = re.sub(r"\x1b\[\d*m", "", terminal.getvalue()).splitlines()
    assert lines[0].split() == list(columns)
    assert max(map(cell_len, lines)) <= 80


def test_a_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    emit_table(("NAME",), [("a\x1b[31m\nb[red]c[/red]:smile:",)])
    assert capsys.readouterr().out == "NAME\na\\x1b[31m\\nb[red]c[/red]:smile:\n"


def test_json_is_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"name": "한국어", "size": None})
    assert capsys.readouterr().out == '{"name":"한국어","size":null}\n'


def test_a_reader_who_leaves_costs_nothing_but_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        emit("nobody reads this")
        emit("nor this")


def test_a_result_that_a_full_disk_did_not_take_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(CommandFailed, match="No space left"):
            emit("the result")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(CommandFailed, match="No space left"):
            emit_table(("NAME",), [("m",)])
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        announce("it runs")


def test_streams_closed_by_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    emit("nowhere")
    note("nowhere")
