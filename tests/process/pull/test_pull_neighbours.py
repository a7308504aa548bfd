"""Whatever is wrong with a model that a server pulls, it goes on serving the others."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.faults import Fault, captive_portal
from tests.hub.repositories import HubRepository
from tests.process.gateways import Gateway
from tests.process.ollama.asking import Stream, ask
from tests.process.pull.conftest import REPO, WEIGHTS, Home
from tests.process.pull.test_pull_hostile import changed, listed
from tests.waiting import until

pytestmark = [pytest.mark.process, pytest.mark.engine]

OTHER = "org/other"
Files = dict[str, bytes]


def without(files: Files, *names: str) -> Files:
    return {name: content for name, content in files.items() if name not in names}


CONTENTS: dict[str, tuple[Callable[[Files], Files], str]] = {
    "code of its own": (
        lambda files: changed(files, "config.json", auto_map={"AutoModel": "evil.Evil"}),
        "unsafe_model",
    ),
    "only a pickle": (
        lambda files: without(files, WEIGHTS, "modules.json") | {"pytorch_model.bin": b"\x80\x04"},
        "unsafe_model",
    ),
    "a header that lies": (
        lambda files: files | {WEIGHTS: (2**60).to_bytes(8, "little") + b"{}"},
        "invalid_request",
    ),
    "no tokenizer": (lambda files: without(files, "tokenizer.json"), "invalid_request"),
}
FAULTS = {
    "other bytes": {WEIGHTS: Fault(wrong_bytes=True)},
    "a login page": {"api": captive_portal()},
    "a refusal": {"api": Fault(status=400)},
}


@pytest.fixture
def other(home: Home) -> HubRepository:
    """What is pulled beside ``tiny``, which is installed."""
    home.run()
    return home.hub.add(HubRepository(OTHER, home.hub.repositories[REPO].content()))


def assert_refused(gateway: Gateway, home: Home, what: str, status: int, code: str) -> None:
    answer = ask(gateway, "POST", "/api/pull", model=OTHER, stream=False)
    assert (what, answer.status, answer.json["code"]) == (what, status, code)
    assert home.installed() == ["tiny"]
    assert len(gateway.embed("tiny", "a text").vectors()) == 1


def test_models_that_are_refused(home: Home, other: HubRepository, short_dir: Path) -> None:
    with home.server(short_dir) as gateway:
        for what, (change, code) in CONTENTS.items():
            home.hub.add(HubRepository(OTHER, change(other.content())))
            assert_refused(gateway, home, what, 400, code)
        other.extra_siblings = [listed("../../x")]
        home.hub.add(other)
        assert_refused(gateway, home, "a name that climbs", 400, "unsafe_model")
    home.assert_nothing_left()


def test_hubs_that_fail(home: Home, other: HubRepository, short_dir: Path) -> None:
    with home.server(short_dir) as gateway:
        for what, home.hub.faults in FAULTS.items():
            assert_refused(gateway, home, what, 502, "upstream_error")
        go_on = threading.Event()
        home.hub.faults = {WEIGHTS: Fault(stall_after=50_000, go_on=go_on)}
        stream = Stream(gateway, model=OTHER)
        until(lambda: home.kept_bytes() >= 50_000, 30, "the stall")
        assert len(gateway.embed("tiny", "a text").vectors()) == 1
        go_on.set()
        assert stream.rest()[-1] == {"status": "success"}
        assert len(gateway.embed("other", "a text").vectors()) == 1
    home.assert_nothing_left()
