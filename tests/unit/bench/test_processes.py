"""A server that is measured, as a process."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.processes import Server
from tests.waiting import until

_WORKED_S = 0.1
_WORKING = f"""
import threading, time

def work():
    while time.thread_time() < {_WORKED_S}:
        pass

thread = threading.Thread(target=work)
thread.start()
thread.join()
print("done", flush=True)
time.sleep(600)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    log = tmp_path / "log"
    with Server([sys.executable, "-c", _WORKING], 1, "/", dict(os.environ), log) as server:
        until(lambda: "done" in log.read_text())
        yield server


def test_what_threads_have_computed_counts_when_they_have_ended(server: Server) -> None:
    assert server.cpu_seconds() >= _WORKED_S
