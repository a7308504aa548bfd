"""Models in memory and on the disk, as ``mlx-serve-ctl`` shows and changes them."""

import signal
from typing import Any

import msgspec
import pytest

from tests.process.ctl.conftest import Ctl
from tests.process.gateways import Gateway
from tests.process.ollama.asking import go_on, installed, starts
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process


def answer(gateway: Gateway, path: str) -> Any:
    return gateway.ask("GET", path).json


def test_loaded_shown_pinned_and_unloaded(ctl: Ctl, gateway: Gateway) -> None:
    loaded = ctl.run("load", "작은-모델", "--keep-alive", "1h")
    assert (loaded.returncode, loaded.stdout, loaded.stderr) == (0, "작은-모델: ready\n", "")

    header, row = ctl.run("ps").stdout.splitlines()
    assert header.split()[-2:] == ["INFLIGHT/QUEUED", "UNTIL"]
    assert row.split()[:3] == ["작은-모델", "embedding", "ready"]
    assert row.split()[-3:-1] == ["in", "59m"]
    told = msgspec.json.decode(ctl.run("ps", "--json").stdout)["models"]
    assert [each | {"expires_at": ""} for each in told] == [
        each | {"expires_at": ""} for each in answer(gateway, "/api/ps")["models"]
    ]

    pinned = ctl.run("pin", "작은-모델", "--json")
    assert msgspec.json.decode(pinned.stdout) == {
        "model": "작은-모델", "state": "ready", "pinned": True,
    }  # fmt: skip
    refused = ctl.run("unload", "작은-모델")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "unpin it first" in refused.stderr
    assert ctl.run("unpin", "작은-모델").stdout == "작은-모델: ready\n"
    assert ctl.run("unload", "작은-모델").returncode == 0
    until(lambda: gateway.worker("작은-모델") is None)
    nothing = ctl.run("ps")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "no model is loaded\n")


@pytest.mark.parametrize("what", ["load", "unload", "pin", "unpin"])
def test_a_model_that_is_not_there(ctl: Ctl, what: str) -> None:
    refused = ctl.run(what, "nobody\x1b[2J")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "not found" in refused.stderr
    assert "\x1b" not in refused.stderr


def test_what_is_installed(ctl: Ctl, gateway: Gateway) -> None:
    header, *rows = ctl.run("models").stdout.splitlines()
    assert header.split() == ["NAME", "TYPE", "SIZE", "QUANT", "DIMS", "MODIFIED"]
    assert ["작은-모델", "embedding"] in [row.split()[:2] for row in rows]
    assert msgspec.json.decode(ctl.run("models", "--json").stdout) == answer(gateway, "/api/tags")


def test_pulled_and_removed(ctl: Ctl, gateway: Gateway, store: ModelStore) -> None:
    wish = ("org/waits-in-the-middle", "--name", "나의-모델", "--type", "reranker")
    with ctl.spawn("pull", *wish) as pulling:
        assert pulling.stderr is not None
        line = pulling.stderr.readline()
        while "50% (500 B/1.0 kB" not in line and line:
            line = pulling.stderr.readline()
        go_on(store, "waits-in-the-middle")
        out, err = pulling.communicate()
    assert line.startswith("downloading 50% (500 B/1.0 kB")
    assert (pulling.returncode, out) == (0, "")
    assert err.endswith("success org/waits-in-the-middle\n")
    models = answer(gateway, "/v1/models")["data"]
    assert ("나의-모델", "reranker") in [(model["id"], model["type"]) for model in models]

    removed = ctl.run("remove", "나의-모델", "nobody", "--json")
    assert removed.returncode == 1
    told = msgspec.json.decode(removed.stdout)
    assert told["removed"] == ["나의-모델"]
    assert "not found" in told["failed"]["nobody"]
    assert "나의-모델" not in installed(gateway)


def test_a_pull_as_json_is_what_the_server_says(ctl: Ctl) -> None:
    pulled = ctl.run("pull", "org/as-json", "--json")
    assert (pulled.returncode, pulled.stderr) == (0, "")
    lines = [msgspec.json.decode(line) for line in pulled.stdout.splitlines()]
    assert lines[0] == {"status": "pulling manifest"}
    assert lines[-1] == {"status": "success"}


def test_a_pull_that_fails(ctl: Ctl) -> None:
    failed = ctl.run("pull", "org/fails")
    assert failed.returncode == 1
    assert "there is no such repository" in failed.stderr
    assert ctl.run("pull", "../x").returncode == 1
    assert ctl.run("pull", "org/x", "--type", "other").returncode == 64


def test_an_interrupted_pull_goes_on_there(ctl: Ctl, gateway: Gateway, store: ModelStore) -> None:
    with ctl.spawn("pull", "org/waits-for-ctl") as pulling:
        until(lambda: starts(store, "waits-for-ctl") == 1)
        assert pulling.stderr is not None
        assert pulling.stderr.readline() == "resolving org/waits-for-ctl\n"
        pulling.send_signal(signal.SIGINT)
        _, err = pulling.communicate()
    assert pulling.returncode == 130
    assert "the server goes on with it" in err
    go_on(store, "waits-for-ctl")
    until(lambda: "waits-for-ctl" in installed(gateway))
    assert starts(store, "waits-for-ctl") == 1
