"""Running a job of the worker package: its events drawn, its end turned into an exit code.

Invariants: the job's last event decides, and a job without one has failed; when this command is
interrupted the job ends first.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import JobEvent, decode_event
from mlx_serve_common.logs import escape
from mlx_serve_common.undecodable import UNDECODABLE
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.interruption import interruption
from mlx_serve_gateway.cli.output import emit, note
from mlx_serve_gateway.cli.progress import progress
from mlx_serve_gateway.worker_env import worker_environment

_JOB = (sys.executable, "-P", "-m", "mlx_serve_worker.job")
_END_S = 10.0


def run_job(
    arguments: Sequence[str], *, as_json: bool, environment: Mapping[str, str] | None = None
) -> int:
    """``environment`` is for a job that needs more than a worker does."""
    with interruption() as allow_interruption:
        # Its own session: Ctrl-C reaches this command only, which then ends the job in order.
        job = subprocess.Popen(
            [*_JOB, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=worker_environment() if environment is None else environment,
            start_new_session=True,
        )
        assert job.stdout is not None
        try:
            allow_interruption()
            last = _follow(job.stdout, as_json)
            code = job.wait()
        except BaseException:
            _end(job)
            note(_last_words(job.stdout, as_json) or "interrupted; the job has ended")
            raise
        finally:
            job.stdout.close()
    if last is not None and last.error is not None:
        is_ours = last.code is ErrorCode.INTERNAL_ERROR
        raise CommandFailed(escape(last.error), ExitCode.INTERNAL if is_ours else ExitCode.FAILED)
    if code != 0 or last is None or last.status != "success":
        raise CommandFailed(f"the job broke down (exit code {code})", ExitCode.INTERNAL)
    return ExitCode.OK


def _follow(lines: IO[bytes], as_json: bool) -> JobEvent | None:
    last = None
    with progress(quiet=as_json) as draw:
        for line in lines:
            try:
                event = decode_event(line)
            except UNDECODABLE:
                note(escape(line.decode("utf-8", "replace").rstrip()))
                continue
            last = event
            if as_json:
                emit(line.decode().rstrip())
            draw(event)
    return last


def _end(job: subprocess.Popen[bytes]) -> None:
    job.terminate()
    try:
        job.wait(_END_S)
    except subprocess.TimeoutExpired:
        job.kill()
        job.wait()


def _last_words(output: IO[bytes], as_json: bool) -> str | None:
    """What a job that was interrupted says of what it leaves behind."""
    try:
        line = output.read().splitlines()[-1]
        last = decode_event(line)
    except (IndexError, *UNDECODABLE):
        return None
    if last.error is None:
        return None
    if as_json:
        emit(line.decode())
    return escape(last.error)
