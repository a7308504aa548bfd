"""Stands for ``systemctl --user`` and the manager behind it: it really runs what a unit says.

Its folder (``FAKE_SUPERVISOR``) holds what it knows: ``calls``, one line each; ``pid`` and
``enabled``; and what a test wants: ``refuse-VERB`` with the complaint of a verb that is to fail.
The unit is read as systemd reads it, as far as ours needs that.
"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil

FOLDER = Path(os.environ["FAKE_SUPERVISOR"])
UNIT = Path(os.environ["HOME"], ".config/systemd/user/mlx-serve.service")


def main() -> int:
    verb, *rest = [each for each in sys.argv[1:] if each not in ("--user", "--no-ask-password")]
    with (FOLDER / "calls").open("a") as calls:
        calls.write(f"{verb} {' '.join(rest)}\n")
    refusal = FOLDER / f"refuse-{verb}"
    if refusal.exists():
        sys.stderr.write(refusal.read_text())
        return 1
    match verb:
        case "enable":
            (FOLDER / "enabled").touch()
        case "disable":
            (FOLDER / "enabled").unlink(missing_ok=True)
        case "start":
            return start()
        case "stop":
            stop()
        case "show":
            show()
        case _:
            pass
    return 0


def unit(key: str) -> list[str]:
    """The values of a key, unquoted and with their specifiers."""
    values = re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return [value.replace("%%", "%") for value in values]


def start() -> int:
    if running() is not None:
        return 0
    (command,) = unit("ExecStart")
    assert command.startswith(":")
    settings = (shlex.split(value) for value in unit("Environment"))
    env = dict(setting.split("=", 1) for settings in settings for setting in settings)
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = f"@mlx-serve-test-{os.getpid()}"
    channel.bind("\0" + address[1:])
    channel.settimeout(0.1)
    bare = {name: os.environ[name] for name in ("HOME", "PATH", "MLX_SERVE_TEST_BACKENDS")}
    with (FOLDER / "journal").open("ab") as journal:
        process = subprocess.Popen(
            shlex.split(command[1:]),
            env=bare | env | {"NOTIFY_SOCKET": address},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=journal,
            stderr=journal,
            start_new_session=True,
        )
    (FOLDER / "pid").write_text(str(process.pid))
    while process.poll() is None:
        try:
            message = channel.recv(4096)
        except TimeoutError:
            continue
        assert message.startswith(b"READY=1"), message
        return 0
    sys.stderr.write("Job for mlx-serve.service failed.\n")
    return 1


def stop() -> None:
    process = running()
    if process is not None:
        process.send_signal(signal.SIGTERM)


def show() -> None:
    process = running()
    state = {
        "ActiveState": "inactive" if process is None else "active",
        "SubState": "dead" if process is None else "running",
        "MainPID": 0 if process is None else process.pid,
        "UnitFileState": "enabled" if (FOLDER / "enabled").exists() else "disabled",
        "Result": "success",
        "StatusText": "" if process is None else "serving",
    }
    override = FOLDER / "show"
    told = "\n".join(f"{name}={value}" for name, value in state.items())
    sys.stdout.write(f"{override.read_text() if override.exists() else told}\n")


def running() -> psutil.Process | None:
    try:
        process = psutil.Process(int((FOLDER / "pid").read_text()))
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


if __name__ == "__main__":
    sys.exit(main())
