"""What is said when the tool of launchd or systemd is absent, silent, or refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_serve_gateway.supervision.launchd import Launchd
from mlx_serve_gateway.supervision.systemd import Systemd
from mlx_serve_gateway.supervision.tool import SupervisorFailed, SupervisorSilent, ask

Play = Callable[[str, str], None]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))

    def write(name: str, script: str) -> None:
        program = programs / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return write


def test_absent_silent_or_complaining(play: Play) -> None:
    with pytest.raises(SupervisorFailed, match="no-such-tool is not on PATH"):
        ask("no-such-tool")
    play("slow", "exec sleep 30")
    with pytest.raises(SupervisorSilent, match=r"`slow now` did not answer within 0\.05 s"):
        ask("slow", "now", limit_s=0.05)
    play("bad", "echo '  oh no' >&2; exit 4")
    assert ask("bad") == (4, "", "oh no")


def test_what_only_root_may_stop(play: Play, tmp_path: Path) -> None:
    play("systemctl", "echo 'Interactive authentication required.' >&2; exit 1")
    with pytest.raises(SupervisorFailed, match=r"sudo systemctl stop mlx-serve\.service"):
        Systemd((), tmp_path).request_stop()
    with pytest.raises(SupervisorFailed, match=r"authentication required\.$"):
        Systemd(("--user",), tmp_path).request_stop()
    play("launchctl", "echo 'Not privileged to stop service.' >&2; exit 150")
    with pytest.raises(SupervisorFailed, match=r"sudo launchctl bootout system/local\.mlx-serve"):
        Launchd.machine(tmp_path).request_stop()


def test_what_launchd_takes_its_time_for_is_not_refused(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_serve_gateway.supervision.launchd._BOOTOUT_S", 0.05)
    for script in ("exec sleep 30", "exit 36", "exit 113", "exit 3", "exit 0"):
        play("launchctl", script)
        Launchd.agent(tmp_path).request_stop()


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            "\tstate = running\n\tpid = 71\n\tlast exit code = (never exited)\n",
            ("running", 71, None),
        ),
        (
            "\tstate = spawn scheduled\n\tlast exit code = (never exited)\n",
            ("starting", None, None),
        ),
        ("\tstate = not running\n\tlast exit code = 0\n", ("stopped", None, None)),
        (
            "\tstate = spawn scheduled\n\tlast exit code = 78: EX_CONFIG\n",
            ("failed", None, "exit code 78"),
        ),
        (
            "\tstate = not running\n\tlast terminating signal = Killed: 9\n",
            ("failed", None, "ended by Killed: 9"),
        ),
    ],
)
def test_what_launchd_prints(
    play: Play, tmp_path: Path, told: str, expected: tuple[str, int | None, str | None]
) -> None:
    place = tmp_path / "service/local.mlx-serve.plist"
    place.parent.mkdir()
    place.touch()
    play("launchctl", f"cat <<'END'\n{told}END")
    state = Launchd.agent(tmp_path).state()
    assert (state.activity, state.pid, state.detail) == expected
