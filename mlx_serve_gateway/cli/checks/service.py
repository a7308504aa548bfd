"""The unit by which launchd or systemd starts the server, where there is one."""

import getpass
import os
import plistlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlx_serve_gateway.cli.checks.subject import Subject
from mlx_serve_gateway.cli.checks.verdict import Verdict, fail, ok, warn

_NAMES = "*mlx-serve*"
_LINGERING = Path("/var/lib/systemd/linger")
_AGAIN = "write it again: mlx-serve service install"


def unit(subject: Subject) -> Verdict:
    found = unit_files(sys.platform, subject.home, Path.home(), subject.environ)
    if not found:
        return ok("none is installed (mlx-serve service install)")
    file = found[0]
    verdict = judge_unit(file, program_of(file), Path(sys.executable).parent)
    if verdict.state == "ok" and waits_for_login(file, _LINGERING / getpass.getuser()):
        told = f"{file}: the server ends at logout and does not start at boot"
        return warn(told, "loginctl enable-linger")
    return verdict


def unit_files(platform: str, home: Path, user: Path, environ: Mapping[str, str]) -> list[Path]:
    if platform == "darwin":
        # One that is not to start at login lies in our own folder.
        ours = home / "service"
        folders = [user / "Library/LaunchAgents", ours, Path("/Library/LaunchDaemons")]
        return _found(folders, f"{_NAMES}.plist")
    settings = Path(environ.get("XDG_CONFIG_HOME") or user / ".config")
    return _found([settings / "systemd/user", Path("/etc/systemd/system")], f"{_NAMES}.service")


def program_of(file: Path) -> str | None:
    """The program that the unit starts; None when that cannot be read."""
    try:
        if file.suffix == ".plist":
            return str(plistlib.loads(file.read_bytes())["ProgramArguments"][0])
        lines = (line.strip().partition("=") for line in file.read_text().splitlines())
        command = next(value for name, _, value in lines if name.strip() == "ExecStart")
        return shlex.split(command)[0].lstrip("@-:+!").replace("%%", "%")
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        StopIteration,
        plistlib.InvalidFileException,
    ):
        return None


def judge_unit(file: Path, program: str | None, own_folder: Path) -> Verdict:
    if program is None:
        return fail(f"{file} names no program", _AGAIN)
    if not os.access(program, os.X_OK):
        return fail(f"{file} starts {program}, which is not there", _AGAIN)
    if Path(program).parent.resolve() != own_folder.resolve():
        return warn(f"{file} starts {program}, and this is {own_folder}", _AGAIN)
    return ok(str(file))


def waits_for_login(file: Path, lingers: Path) -> bool:
    """A user's unit that starts by itself, of a user whose manager ends with the last login."""
    is_enabled = os.path.lexists(file.parent / "default.target.wants" / file.name)
    return is_enabled and not lingers.exists()


def _found(folders: Sequence[Path], pattern: str) -> list[Path]:
    return [file for folder in folders for file in sorted(folder.glob(pattern))]
