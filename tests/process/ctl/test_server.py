"""A server as a whole: reloaded, drained, watched, and one that is not there."""

import os
import pty
import re
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlx_serve_common.config import CacheConfig, LimitsConfig
from tests.process.ctl.conftest import Ctl
from tests.process.ctl.relay import Relay
from tests.process.gateways import Gateway
from tests.process.ollama.asking import KEY, serving
from tests.store import ModelStore

pytestmark = pytest.mark.process


@pytest.fixture
def own(short_dir: Path) -> Gateway:
    """For a test that ends it."""
    store = ModelStore(short_dir / "models")
    store.add("작은-모델")
    return Gateway(short_dir, store)


def ctl_of(gateway: Gateway, home: Path) -> Ctl:
    return Ctl(home, f"http://127.0.0.1:{gateway.port}")


def test_reloaded_and_drained(own: Gateway, tmp_path: Path) -> None:
    with own:
        ctl = ctl_of(own, tmp_path)
        assert ctl.run("reload").stdout == "nothing has changed\n"
        own.change_config(
            cache=CacheConfig(max_embedding_models=1), limits=LimitsConfig(load_timeout=7)
        )
        assert ctl.run("reload").stdout.splitlines() == [
            "applied: cache.max_embedding_models",
            "needs a restart: limits.load_timeout",
        ]
        (own.home / "reload.json").write_text('{"server": {"port": "no number"}}')
        wrong = ctl.run("reload")
        assert (wrong.returncode, wrong.stdout) == (1, "")
        assert "port" in wrong.stderr
        drained = ctl.run("drain", "--json")
        assert msgspec.json.decode(drained.stdout) == {"status": "draining"}
        assert own.wait() == 0
    gone = ctl.run("drain")
    assert gone.returncode == 3
    assert "nothing listens there" in gone.stderr


def test_events_as_json_are_those_of_the_server(own: Gateway, tmp_path: Path) -> None:
    with own:
        ctl = ctl_of(own, tmp_path)
        ctl.run("load", "작은-모델")
        with ctl.spawn("events", "--json") as events:
            assert events.stdout is not None
            assert msgspec.json.decode(events.stdout.readline())["event"] == "loaded"
            ctl.run("unload", "작은-모델")
            left = msgspec.json.decode(events.stdout.readline())
            assert (left["event"], left["model"], left["number"]) == ("left", "작은-모델", 2)
            events.send_signal(signal.SIGINT)
            events.communicate()
    assert events.returncode == 130


def test_a_reader_of_events_who_leaves_ends_it(own: Gateway, tmp_path: Path) -> None:
    with own:
        ctl = ctl_of(own, tmp_path)
        ctl.run("load", "작은-모델")
        reader, writer = os.pipe()
        with ctl.spawn("events", stdout=writer) as events:
            os.close(writer)
            assert b"loaded" in os.read(reader, 1000)
            os.close(reader)
            assert events.wait(30) == 0  # though nothing more happens


def test_events_are_followed_from_one_server_to_the_next(short_dir: Path) -> None:
    store = ModelStore(short_dir / "models")
    store.add("작은-모델")
    with ExitStack() as stack:
        relay = stack.enter_context(Relay(0))
        ctl = Ctl(short_dir, relay.url)
        ctl.env["MLX_SERVE_ADMIN_KEY"] = KEY
        with serving(short_dir, store) as first:
            relay.port = first.port
            ctl.run("load", "작은-모델")
            events = stack.enter_context(ctl.spawn("events"))
            assert events.stdout is not None
            assert re.match(
                r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  loaded       작은-모델  in \d+\.\d\d s on fake",
                events.stdout.readline(),
            )
        # The stop did not wait for who watches, and told them.
        assert events.stdout.readline().endswith("  draining\n")
        assert events.stderr is not None
        assert "the connection has ended; trying again" in events.stderr.readline()
        with serving(short_dir, store) as second:
            relay.port = second.port
            ctl.run("load", "작은-모델")
            assert "loaded       작은-모델" in events.stdout.readline()
            events.send_signal(signal.SIGINT)
            _, err = events.communicate()
    assert "missed" not in err


def test_top_in_a_pipe(ctl: Ctl, gateway: Gateway) -> None:
    gateway.assert_serves("작은-모델")
    with ctl.spawn("top", "--interval", "1") as watching:
        while watching.poll() is None:
            gateway.embed("작은-모델", ["a b c", "d"])
        out, err = watching.communicate()
    assert watching.returncode == 0
    assert re.fullmatch(r"mlx-serve \S+ ok, up .*, .* MB, [\d.]+ requests/s\n", err)
    header, row = out.splitlines()
    assert header.split() == [
        "NAME", "STATE", "MEMORY", "RUN/WAIT", "REQ/S", "P50", "P99", "TOK/S", "BATCH", "PAD",
        "CUT",
    ]  # fmt: skip
    assert row.split()[:2] == ["작은-모델", "ready"]
    requests, _, _, tokens, batch, padding, cut = row.split()[-7:]
    assert float(requests) > 1
    assert (batch, padding, cut) == ("2.0", "20%", "0")
    assert tokens.endswith("k") or float(tokens) == pytest.approx(8 * float(requests), rel=0.02)


def test_top_as_json(ctl: Ctl, gateway: Gateway) -> None:
    gateway.assert_serves("작은-모델")
    top = ctl.run("top", "--interval", "0.1", "--json")
    (model,) = [
        each for each in msgspec.json.decode(top.stdout)["models"] if each["model"] == "작은-모델"
    ]
    assert (model["state"], model["in_flight"], model["queued"]) == ("ready", 0, 0)
    assert model["rates"]["requests_per_s"] == 0
    assert model["rates"]["p99_s"] is None


def test_top_in_a_terminal(ctl: Ctl, gateway: Gateway) -> None:
    gateway.assert_serves("작은-모델")
    ours, theirs = pty.openpty()
    ctl.env |= {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    how: dict[str, Any] = {"stdout": theirs, "stderr": subprocess.DEVNULL}
    with ctl.spawn("top", "--interval", "0.1", **how) as watching:
        os.close(theirs)
        drawn = b""
        while drawn.count("작은-모델".encode()) < 3:
            drawn += os.read(ours, 65536)
        watching.send_signal(signal.SIGINT)
        while True:
            try:
                drawn += os.read(ours, 65536)
            except OSError:  # as Linux tells that the other end is closed
                break
    os.close(ours)
    assert watching.returncode == 130
    assert drawn.endswith((b"\x1b[?25h", b"\x1b[?1049l")), "the terminal is as it was"
    assert b"RUN/WAIT" in drawn


def test_nothing_listens(tmp_path: Path) -> None:
    nobody = Ctl(tmp_path, "http://127.0.0.1:1")
    for arguments in (
        ("status",), ("ps",), ("models",), ("load", "m"), ("pull", "org/m"), ("remove", "m"),
        ("drain",), ("reload",), ("top", "--once"), ("events",),
    ):  # fmt: skip
        gone = nobody.run(*arguments)
        assert (gone.returncode, gone.stdout) == (3, ""), arguments
        assert "http://127.0.0.1:1: nothing listens there" in gone.stderr
