"""What ends the server: an error in one of its own callbacks, an event loop that stands still."""

import signal
import subprocess
import sys

import pytest

from mlx_serve_gateway.faults import EXIT_FAULT
from tests.process.gateways import environment

LIMIT_S = 20

_PREPARE = """
import asyncio, logging, os, signal, sys, time, uvloop
from mlx_serve_gateway import faults

logging.basicConfig(stream=sys.stderr)

def ours(): raise ValueError("ours")
ours = type(ours)(ours.__code__, {"__name__": "mlx_serve_gateway.test", "ValueError": ValueError})

async def live():
    loop = asyncio.get_running_loop()
    faults.end_on_faults(loop)
    faults.Watch(loop, every_s=0.05, patience=4).start()
"""

_ENDS = """
    await asyncio.sleep(0.5)
    print("went on")

uvloop.run(live())
"""


def run(*lines: str) -> "subprocess.CompletedProcess[str]":
    body = "".join(f"    {line}\n" for line in lines)
    program = [sys.executable, "-P", "-c", _PREPARE + body + _ENDS]
    return subprocess.run(
        program, env=environment(), capture_output=True, text=True, timeout=LIMIT_S
    )


def test_an_error_in_a_callback_of_ours_ends_it() -> None:
    done = run("loop.call_soon(ours)")
    assert done.returncode == EXIT_FAULT
    assert "ValueError: ours" in done.stderr


def test_an_error_in_a_library_s_callback_does_not() -> None:
    done = run("loop.call_soon(lambda: 1 / 0)", "loop.create_future().set_exception(OSError())")
    assert (done.returncode, done.stdout) == (0, "went on\n")


@pytest.mark.parametrize("stand_still", ["time.sleep(60)", "while True: pass"])
def test_a_loop_that_stands_still_ends_it(stand_still: str) -> None:
    done = run(f"exec({stand_still!r})")
    assert done.returncode == EXIT_FAULT
    assert "stands still" in done.stderr


def test_a_process_that_was_stopped_for_long_goes_on() -> None:
    program = [sys.executable, "-P", "-c", _PREPARE + _ENDS]
    with subprocess.Popen(program, env=environment(), stdout=subprocess.PIPE) as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGCONT)
        assert process.wait(LIMIT_S) == 0
