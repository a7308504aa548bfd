"""Stands for ``launchctl`` and launchd: it really runs what a property list says.

Its folder (``FAKE_SUPERVISOR``) holds what it knows: ``calls``, one line each; ``loaded``, the
path of the property list, and ``pid``; and what a test wants: ``refuse-VERB`` with lines of exit
code and complaint, of which each call takes one.
"""

import os
import plistlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

FOLDER = Path(os.environ["FAKE_SUPERVISOR"])
LOADED = FOLDER / "loaded"
NOT_FOUND = 113


def main() -> int:
    verb, *rest = sys.argv[1:]
    with (FOLDER / "calls").open("a") as calls:
        calls.write(f"{verb} {' '.join(rest)}\n")
    refusals = FOLDER / f"refuse-{verb}"
    if refusals.exists() and (lines := refusals.read_text().splitlines()):
        refusals.write_text("\n".join(lines[1:]))
        code, _, complaint = lines[0].partition(" ")
        sys.stderr.write(f"{complaint}\n")
        return int(code)
    match verb:
        case "bootstrap":
            if LOADED.exists():
                return 37
            LOADED.write_text(rest[1])
            spawn()
        case "kickstart":
            if running() is None:
                spawn()
        case "bootout":
            if not LOADED.exists():
                return NOT_FOUND
            LOADED.unlink()
            if (process := running()) is not None:
                process.send_signal(signal.SIGTERM)
        case "print":
            if not LOADED.exists() and running() is None:
                return NOT_FOUND
            show(rest[0])
        case _:
            return 64
    return 0


def spawn() -> None:
    entries: dict[str, Any] = plistlib.loads(Path(LOADED.read_text()).read_bytes())
    env = entries["EnvironmentVariables"]
    # As launchd does; the program would be free to choose another file for what it says later.
    with Path(entries["StandardErrorPath"]).open("ab") as log:
        process = subprocess.Popen(
            entries["ProgramArguments"],
            env=env | {"MLX_SERVE_TEST_BACKENDS": "1"},
            cwd=entries["WorkingDirectory"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (FOLDER / "pid").write_text(str(process.pid))


def show(target: str) -> None:
    process = running()
    lines = [f"{target} = {{", "\tstate = running" if process else "\tstate = not running"]
    lines.append(f"\tpid = {process.pid}" if process else "\tlast exit code = 0")
    sys.stdout.write("\n".join([*lines, "}", ""]))


def running() -> psutil.Process | None:
    try:
        process = psutil.Process(int((FOLDER / "pid").read_text()))
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


if __name__ == "__main__":
    sys.exit(main())
