"""``ps``: the loaded models of every server of a home."""

import os
import signal
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from tests.process.cli.conftest import CommandLine, get
from tests.waiting import until

pytestmark = pytest.mark.process

HEADER = ["NAME", "TYPE", "STATE", "MEMORY", "PROCESSOR", "INFLIGHT/QUEUED", "UNTIL"]


def test_nothing(cli: CommandLine) -> None:
    seen = cli.run("ps")
    assert (seen.returncode, seen.stdout) == (3, "")
    assert "no server runs" in seen.stderr
    seen = cli.run("ps", "--json")
    assert (seen.returncode, msgspec.json.decode(seen.stdout)) == (3, {"models": []})
    cli.start()
    seen = cli.run("ps")
    assert (seen.returncode, seen.stdout, seen.stderr) == (0, "", "no model is loaded\n")


def test_models_of_several_servers(cli: CommandLine) -> None:
    cli.install_fake("작은-모델")
    cli.install_fake("pinned")
    (cli.home / "config.yaml").write_text("models: {pin: [pinned]}\ncache: {ttl_seconds: 600}\n")
    port = cli.start("--port", "0", "--preload", "작은-모델")
    until(lambda: get(port, "/readyz")[0] == 200)
    seen = cli.run("ps")
    assert seen.returncode == 0
    header, *rows = [line.split() for line in seen.stdout.splitlines()]
    assert header == HEADER
    assert [row[:3] for row in rows] == [
        ["pinned", "embedding", "ready"],
        ["작은-모델", "embedding", "ready"],
    ]
    assert rows[0][-2:] == ["0/0", "stays"]
    assert rows[1][-4:-2] == ["0/0", "in"]
    facts = msgspec.json.decode(cli.run("ps", "--json").stdout)["models"]
    assert [(each["name"], each["port"]) for each in facts] == [
        ("pinned", port),
        ("작은-모델", port),
    ]
    answer = get(port, "/api/ps")[1]["models"]
    assert [each | {"expires_at": ""} for each in facts] == [
        each | {"expires_at": "", "port": port} for each in answer
    ]
    assert [each["pinned"] for each in facts] == [True, False]
    left = datetime.fromisoformat(facts[1]["expires_at"]) - datetime.now(UTC)
    assert timedelta(0) < left <= timedelta(seconds=600)

    hung = cli.start()
    os.kill(cli.pid(hung), signal.SIGSTOP)
    seen = cli.run("ps")
    assert seen.returncode == 1
    assert f"port {hung}: " in seen.stderr
    assert seen.stdout.split()[:8] == [*HEADER, "PORT"]
