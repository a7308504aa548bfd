"""The unit file, read back as systemd reads it, and by systemd's own checker where there is one."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from mlx_serve_gateway.supervision.unit import machine_unit, user_unit
from tests.unit.gateway.supervision.services import SERVICE, service

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')


def value(unit: str, key: str) -> str:
    (found,) = re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)
    return str(found)


def words(text: str) -> list[str]:
    """The quoted words after systemd's unquoting and its specifiers."""
    assert "%" not in text.replace("%%", "")
    unquoted = (re.sub(r"\\(.)", r"\1", word) for word in _WORD.findall(text))
    return [word.replace("%%", "%") for word in unquoted]


def test_paths_arrive_as_they_are() -> None:
    for unit in (user_unit(SERVICE), machine_unit(SERVICE)):
        command = value(unit, "ExecStart")
        # Without the colon systemd would put variables in.
        assert command.startswith(":")
        assert words(command) == [*SERVICE.program, "start", "--foreground"]
        assert words(value(unit, "Environment")) == [f"MLX_SERVE_HOME={SERVICE.home}"]


def test_what_cannot_be_written_is_refused() -> None:
    for home in ("/a\nExecStart=/bin/evil", "/a\rb", "/a\x00b"):
        with pytest.raises(ValueError, match="control character"):
            user_unit(service(home=Path(home)))
    for program in ('/a"b/python', "/a\\b/python", "/a'b/python"):
        with pytest.raises(ValueError, match="a quote or a backslash"):
            user_unit(service(program=(program, "-m", "x")))


def test_how_it_is_watched_and_restarted() -> None:
    unit = user_unit(SERVICE)
    assert value(unit, "Type") == "notify"
    assert value(unit, "WatchdogSec") == "30"
    assert value(unit, "Restart") == "on-failure"
    assert value(unit, "RestartSec") == "2.5"
    assert value(unit, "RestartPreventExitStatus") == "78"
    assert value(unit, "KillMode") == "mixed"
    assert value(unit, "TimeoutStopSec") == "45"
    assert value(user_unit(service(restart_on_failure=False)), "Restart") == "no"


def test_the_service_of_the_machine_runs_as_the_person_and_writes_only_its_own_folders() -> None:
    unit = machine_unit(SERVICE)
    assert value(unit, "User") == "kim"
    assert words(value(unit, "ReadWritePaths")) == [str(SERVICE.home), f"-{SERVICE.models}"]
    assert value(unit, "ProtectSystem") == "strict"
    assert value(unit, "WantedBy") == "multi-user.target"
    # Its manager would ignore these without a word.
    for key in ("ProtectSystem", "ProtectHome", "PrivateTmp", "ReadWritePaths", "User"):
        assert f"\n{key}=" not in user_unit(SERVICE)


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)
@pytest.mark.parametrize("machine", [False, True], ids=["user", "machine"])
def test_systemd_accepts_it(tmp_path: Path, machine: bool) -> None:
    program = tmp_path / "내 서버 100% $HOME/python"
    program.parent.mkdir()
    program.touch()
    program.chmod(stat.S_IRWXU)
    wanted = service(program=(str(program), "-m", "x"))
    text = machine_unit(wanted) if machine else user_unit(wanted)
    assert verified(tmp_path, text, machine) == (0, "")
    for wrong in ("WatchdogSecs=30", "RestartSec=five"):
        broken = text.replace("WorkingDirectory=/", wrong)
        code, complaint = verified(tmp_path, broken, machine)
        assert code != 0
        assert "ignoring" in complaint


def verified(folder: Path, text: str, machine: bool) -> tuple[int, str]:
    file = folder / "mlx-serve.service"
    file.write_text(text)
    told = subprocess.run(
        [
            *("systemd-analyze", "verify", "--man=no", "--recursive-errors=no"),
            *(() if machine else ("--user",)),
            str(file),
        ],
        # Without these a good file fails too.
        env={**os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return told.returncode, told.stderr
