"""A job within a job: what reads a stranger's files gets a process of its own.

Invariants: that process has neither the person's token nor a way to the hub; it ends before we go
on, and with us; whatever it breaks of, the one who started it lives to tell.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent, decode_event
from mlx_serve_common.undecodable import UNDECODABLE

Report = Callable[[JobEvent], None]

_JOB = (sys.executable, "-P", "-m", "mlx_serve_worker.job")
_END_S = 3.0
_SECRET_PREFIXES = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_")


def run_confined(
    arguments: Sequence[str], report: Report, *, limit_s: float, held: Sequence[int] = ()
) -> JobEvent:
    """Its success, or its error raised; ``held`` are descriptors that it keeps open."""
    child = subprocess.Popen(
        [*_JOB, *arguments, f"--die-with={os.getpid()}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=_environment(),
        pass_fds=held,
    )
    took_too_long = threading.Event()

    def give_up() -> None:
        took_too_long.set()
        child.kill()

    timer = threading.Timer(limit_s, give_up)
    timer.daemon = True
    timer.start()
    try:
        last = _follow(child, report)
        child.wait()
    finally:
        timer.cancel()
        _end(child)
    if last is None or (last.error is None and child.returncode != 0):
        how = "takes too long" if took_too_long.is_set() else f"ends it with {child.returncode}"
        raise ServeError(
            ErrorCode.INVALID_MODEL, f"the model breaks the process that tries it: loading {how}"
        )
    if last.error is not None:
        raise ServeError(last.code or ErrorCode.INTERNAL_ERROR, last.error)
    return last


def _follow(child: "subprocess.Popen[bytes]", report: Report) -> JobEvent | None:
    assert child.stdout is not None
    for line in child.stdout:
        try:
            event = decode_event(line)
        except UNDECODABLE:
            continue
        if event.status == "success" or event.error is not None:
            return event
        report(event)
    return None


def _end(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    assert child.stdout is not None
    child.stdout.close()


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_SECRET_PREFIXES) and not name.upper().endswith("_PROXY")
    }
    return kept | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
