"""Running ``launchctl`` and ``systemctl``: bounded in time, and failures in words."""

import os
import subprocess
from typing import NamedTuple

LIMIT_S = 30.0


class SupervisorFailed(Exception):
    """launchd or systemd did not do what was asked, or could not be asked."""


class SupervisorSilent(SupervisorFailed):
    """It was asked and did not answer in time."""


class Told(NamedTuple):
    code: int
    out: str
    complaint: str


def ask(*command: str, limit_s: float = LIMIT_S) -> Told:
    """What the tool says, whatever its exit code; SupervisorFailed if it says nothing."""
    try:
        told = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
            timeout=limit_s,
        )
    except FileNotFoundError:
        raise SupervisorFailed(f"{command[0]} is not on PATH") from None
    except OSError as error:
        raise SupervisorFailed(f"{command[0]} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        said = " ".join(command)
        raise SupervisorSilent(f"`{said}` did not answer within {limit_s:g} s") from None
    return Told(told.returncode, told.stdout, told.stderr.strip())


def refused(told: Told, *command: str) -> SupervisorFailed:
    why = told.complaint or "it does not say why"
    return SupervisorFailed(f"`{' '.join(command)}` failed with exit code {told.code}: {why}")
