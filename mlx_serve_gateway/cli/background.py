"""Starting the server detached: spawn it, wait until it serves or says why not, and leave.

Invariants: the server outlives the terminal (own session, no stdin, output in its log); this
process ends with the server's own verdict, and only a start that succeeded leaves a process behind.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mlx_serve_common.config import Config
from mlx_serve_common.logs import escape
from mlx_serve_common.paths import log_file
from mlx_serve_gateway.cli.announcement import Tell, heard
from mlx_serve_gateway.cli.configuration import exit_code_of, make_folder, unusable
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.interruption import interruption
from mlx_serve_gateway.cli.log_file import open_log
from mlx_serve_gateway.supervision.service import PROGRAM, START_S

_END_S = 5.0
_LOG_LINES = 15
_LOG_BYTES = 65_536


def start(config: Config, home: Path, arguments: Sequence[str], tell: Tell) -> int:
    """Spawn ``mlx-serve start`` with these arguments, detached; its exit code."""
    log = log_file(home, config.server.port)
    output = _open(log)
    log_began = os.fstat(output).st_size
    reader, writer = os.pipe()
    with interruption() as allow_interruption:
        child = subprocess.Popen(
            [*PROGRAM, "start", *arguments, "--announce-to", str(writer)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[writer],
            start_new_session=True,
            cwd="/",
            env={**os.environ, "MLX_SERVE_HOME": str(home)},
        )
        os.close(output)
        os.close(writer)
        try:
            allow_interruption()
            for said in heard(reader, config.limits.drain_timeout + START_S):
                if said.kind == "logging" and said.log is not None and said.log != str(log):
                    log, log_began = Path(said.log), 0
                if said.is_final and said.kind != "ready":
                    # Before it is told of: telling of a failure raises.
                    _see_off(child)
                tell(said)
                if said.is_final:
                    return said.code
        except TimeoutError:
            _end(child)
            message = f"the server (pid {child.pid}) was not ready in time and was ended; see {log}"
            raise CommandFailed(message, ExitCode.TEMPORARY) from None
        except KeyboardInterrupt:
            _end(child)
            raise
        finally:
            os.close(reader)
    raise _ended_without_a_word(child, log, log_began)


def _open(log: Path) -> int:
    make_folder(log.parent)
    try:
        return open_log(log)
    except OSError as error:
        raise CommandFailed(unusable(log, error), exit_code_of(error)) from None


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    _see_off(child)


def _see_off(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(_END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _ended_without_a_word(
    child: subprocess.Popen[bytes], log: Path, log_began: int
) -> CommandFailed:
    code = child.wait()
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    with log.open("rb") as lines:
        size = os.fstat(lines.fileno()).st_size
        # Smaller than it was: the server has turned it over, and all of it is new.
        lines.seek(max(log_began if log_began <= size else 0, size - _LOG_BYTES))
        last = lines.read().decode("utf-8", "replace").splitlines()[-_LOG_LINES:]
    shown = "".join(f"\n  {escape(line)}" for line in last)
    return CommandFailed(
        f"the server ended {how} before it was ready; {log} says:{shown or ' nothing'}",
        ExitCode.INTERNAL,
    )
