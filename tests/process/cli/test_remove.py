"""``remove``: off the disk, out of a running server, and never anything else."""

import msgspec
import pytest

from tests.process.cli.conftest import CommandLine, Running, embed, get
from tests.waiting import until

pytestmark = pytest.mark.process


def names(cli: CommandLine) -> list[str]:
    models = msgspec.json.decode(cli.run("list", "--json").stdout)["models"]
    return [model["name"] for model in models]


def test_without_a_server(cli: CommandLine) -> None:
    for name in ("one", "two", "three", "four"):
        cli.install_fake(name, source=f"org/{name}")
    removed = cli.run("remove", "org/one", "TWO", "two")
    assert removed.returncode == 1, "two is gone already"
    assert removed.stderr.splitlines()[:2] == ["removed one", "removed two"]
    told = cli.run("rm", "absent", "three", "--json")
    assert told.returncode == 1
    answer = msgspec.json.decode(told.stdout)
    assert answer["removed"] == ["three"]
    assert answer["failed"].keys() == {"absent"}
    assert names(cli) == ["four"]
    assert cli.run("rm", "four").returncode == 0
    assert names(cli) == []
    assert cli.run("rm").returncode == 64


def test_damaged_models_and_strangers(cli: CommandLine) -> None:
    models = cli.home / "models"
    cli.install_fake("good")
    (models / "broken").mkdir()
    (models / "broken/manifest.json").write_text("{")
    (models / "notes.txt").write_text("mine")
    outside = cli.home / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (models / "link").symlink_to(outside)
    for name in ("../outside", ".locks", "notes.txt", "broken/manifest.json"):
        assert cli.run("remove", "--", name).returncode == 1
    assert cli.run("remove", "broken", "link").returncode == 0
    assert (outside / "precious").exists()
    assert sorted(path.name for path in models.glob("[!.]*")) == [
        "good",
        "metadata.json",
        "notes.txt",
    ]


def test_a_loaded_model_leaves_the_server(cli: CommandLine) -> None:
    cli.install_fake("tiny")
    cli.install_fake("other")
    port = cli.start("--port", "0", "--preload", "tiny", "--preload", "other")
    until(lambda: get(port, "/readyz")[0] == 200)
    assert cli.run("remove", "tiny").returncode == 0
    assert embed(port, "tiny", "text")[0] == 404
    assert embed(port, "other", "text")[0] == 200
    assert names(cli) == ["other"]
    assert [each["model"] for each in get(port, "/health/detail")[1]["workers"]] == ["other"]


def test_a_model_at_work_finishes_first(cli: CommandLine) -> None:
    cli.install_fake("slow", step_s=1)
    port = cli.start()
    running = Running(port, "slow", "text")
    assert cli.run("remove", "slow").returncode == 0
    assert running.status() == 200
    assert embed(port, "slow", "text")[0] == 404


def test_a_server_that_hangs_is_not_waited_for(cli: CommandLine) -> None:
    import os
    import signal

    cli.install_fake("tiny")
    port = cli.start()
    os.kill(cli.pid(port), signal.SIGSTOP)
    try:
        assert cli.run("remove", "tiny").returncode == 0
        assert names(cli) == []
    finally:
        os.kill(cli.pid(port), signal.SIGCONT)
