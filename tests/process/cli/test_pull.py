"""``pull``: names, what is printed, and how it ends."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.tiny import LAYOUTS, build
from tests.hub.faults import Fault
from tests.hub.repositories import HubRepository
from tests.hub.server import Hub
from tests.process.cli.conftest import CommandLine, embed
from tests.waiting import until

pytestmark = [pytest.mark.process, pytest.mark.engine]

REPO = "BAAI/bge-small-en-v1.5"
NAME = "bge-small-en-v1.5"
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(cli: CommandLine, tmp_path: Path) -> Iterator[Hub]:
    source = build(LAYOUTS["mean"], tmp_path / "source")
    with Hub() as hub:
        hub.add(HubRepository.of_folder(REPO, source))
        cli.env = {key: value for key, value in cli.env.items() if not key.startswith("HF_")}
        cli.env |= hub.environment() | {"HF_HOME": str(tmp_path / "hf")}
        yield hub


def test_alias_is_pulled_listed_and_served(cli: CommandLine, hub: Hub) -> None:
    pulled = cli.run("pull", "bge-small")
    assert pulled.returncode == 0, pulled
    assert pulled.stdout == ""
    lines = pulled.stderr.splitlines()
    assert lines[0] == f"resolving {REPO}"
    assert any(line.startswith("downloading 100% (124 kB/") for line in lines), lines
    assert lines[-1] == f"success {NAME}"
    (listed,) = json.loads(cli.run("list", "--json").stdout)["models"]
    assert (listed["name"], listed["source"]) == (NAME, REPO)
    port = cli.start()
    for name in (NAME, REPO, "bge-small"):
        assert embed(port, name, "text")[0] == 200


def test_installed_already(cli: CommandLine, hub: Hub) -> None:
    cli.run("pull", REPO, "--name", "mine")
    asked = len(hub.requests)
    for name in ("mine", "mine:latest"):
        again = cli.run("pull", name)
        assert again.returncode == 0, again
        assert "mine is installed already" in again.stderr
    assert len(hub.requests) == asked
    replaced = cli.run("pull", "mine", "--replace", "--json")
    events = [json.loads(line) for line in replaced.stdout.splitlines()]
    assert events[-1] == {"status": "success", "model": "mine"}
    assert replaced.stderr == ""
    assert len(hub.requests) > asked


def test_refusals(cli: CommandLine, hub: Hub) -> None:
    for arguments, code, message in (
        ((), 64, "MODEL"),
        (("no-such-alias",), 1, "name it as ORG/NAME"),
        (("../../etc",), 1, "ORG/NAME"),
        (("org/absent",), 1, "has no repository org/absent"),
        ((f"{REPO}@absent",), 1, "no revision 'absent'"),
        ((REPO, "--type", "reranker"), 1, "not of type reranker"),
        ((REPO, "--type", "other"), 64, "other"),
        ((REPO, "--name", "../x"), 1, "cannot be a model's name"),
    ):
        refused = cli.run("pull", *arguments)
        assert refused.returncode == code, refused
        assert message in refused.stderr
        assert "Traceback" not in refused.stderr
    hub.gated.add(REPO)
    assert "HF_TOKEN" in cli.run("pull", REPO).stderr


def largest_part(cli: CommandLine) -> int:
    """What the unfinished download has on disk: that it was sent does not say that it came."""
    parts = (cli.home / "models" / ".downloads").rglob("*")
    return max((part.stat().st_size for part in parts if part.is_file()), default=0)


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_interrupt_keeps_what_is_there(cli: CommandLine, hub: Hub, more: tuple[str, ...]) -> None:
    hub.faults[WEIGHTS] = Fault(times=1, stall_after=60_000)
    with cli.spawn("pull", REPO, *more) as pulling:
        until(lambda: largest_part(cli) >= 60_000, 30, "the middle")
        pulling.send_signal(signal.SIGINT)
        out, err = pulling.communicate()
    assert pulling.returncode == 130
    assert "what was downloaded is kept" in err
    if more:
        assert json.loads(out.splitlines()[-1])["code"] == "cancelled"
    assert cli.run("list").stdout == ""
    before = hub.bytes_sent[WEIGHTS]
    assert cli.run("pull", REPO).returncode == 0
    size = len(hub.repositories[REPO.lower()].files[WEIGHTS].content)
    assert hub.bytes_sent[WEIGHTS] - before <= size * 0.55


def test_in_a_terminal(cli: CommandLine, hub: Hub) -> None:
    hub.faults[WEIGHTS] = Fault(times=1, bytes_per_s=100_000)
    ours, theirs = pty.openpty()
    cli.env |= {"COLUMNS": "80", "TERM": "xterm"}
    with cli.spawn("pull", REPO, stdout=subprocess.DEVNULL, stderr=theirs) as pulling:
        os.close(theirs)
        drawn = read_all(ours)
    assert pulling.returncode == 0
    assert f"downloading {WEIGHTS}" in drawn
    assert "kB/s" in drawn
    assert f"success {NAME}" in drawn
    os.close(ours)


def read_all(descriptor: int) -> str:
    drawn = b""
    while True:
        try:
            drawn += os.read(descriptor, 65_536)
        except OSError:  # as Linux tells that the other end is closed
            return drawn.decode()


def test_converted_on_arrival(cli: CommandLine, hub: Hub) -> None:
    pulled = cli.run("pull", REPO, "--quantize", "mxfp8", "--dtype", "float16")
    assert pulled.returncode == 0, pulled
    made = f"{NAME}-fp16-mxfp8"
    rows = dict(line.split(maxsplit=1) for line in pulled.stdout.splitlines())
    assert rows["name"] == made
    assert "cosine to the original" in rows["quality"]
    assert f"success {made}" in pulled.stderr.splitlines()
    (listed,) = json.loads(cli.run("list", "--json").stdout)["models"]
    assert (listed["name"], listed["source"]) == (made, REPO)
    assert listed["details"]["quantization_level"] == "mxfp8"
    asked = len(hub.requests)
    for arguments in ((made,), (REPO, "--quantize", "mxfp8", "--dtype", "float16")):
        again = cli.run("pull", *arguments)
        assert f"{made} is installed already" in again.stderr
    assert len(hub.requests) == asked
    refused = cli.run("pull", REPO, "--quantize", "5bit")
    assert refused.returncode == 64
