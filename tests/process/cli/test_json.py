"""``--json``: one document on stdout, whatever happens, and everything else on stderr."""

import msgspec
import pytest

from tests.process.cli.conftest import CommandLine

pytestmark = pytest.mark.process


def test_the_life_of_a_server(cli: CommandLine) -> None:
    def told(*arguments: str) -> dict[str, object]:
        ran = cli.run(*arguments, "--json")
        assert ran.returncode == 0, ran
        assert ran.stdout.count("\n") == 1
        document: dict[str, object] = msgspec.json.decode(ran.stdout)
        return document

    started = told("start", "--port", "0")
    assert started["state"] == "ready"
    port = str(started["url"]).rpartition(":")[2]
    assert started["pid"] == cli.pid(int(port))
    again = told("start", "--port", port)
    assert again == started | {"state": "already_running", "log": None}
    stopped = told("stop", "--port", port)
    assert stopped["instances"] == [
        {"port": int(port), "outcome": "stopped", "message": _stopped(port, started["pid"])}
    ]
    assert told("stop", "--all") == {"instances": []}


def _stopped(port: str, pid: object) -> str:
    return f"stopped the server on port {port} (pid {pid})"
