"""A hub or a network that is wrong: the documented error, and nothing installed."""

import gzip
from dataclasses import replace
from time import monotonic

import msgspec
import pytest

from mlx_serve_common.errors import ErrorCode
from tests.hub.faults import LOGIN_PAGE, Fault, captive_portal
from tests.process.pull.conftest import IMPATIENT, REPO, WEIGHTS, Home

pytestmark = [pytest.mark.process, pytest.mark.engine]

API = "api"
PASSING = {
    "two failures": Fault(times=2, status=500),
    "five failures": Fault(times=5, status=502),
    "busy": Fault(times=1, status=503, headers={"Retry-After": "0"}),
    "too many requests": Fault(times=1, status=429, headers={"Retry-After": "1"}),
    "rate limit": Fault(times=1, status=429, headers={"RateLimit": '"api";r=0;t=1'}),
    "dropped": Fault(times=2, drop_after=10),
    "dropped without a length": Fault(times=1, drop_after=10, without_length=True),
    "stalled": Fault(times=1, stall_after=10),
}
LASTING = {
    "status 500": Fault(status=500),
    "status 429": Fault(status=429),
    "status 400": Fault(status=400),
    "come back in 3600 s": Fault(status=429, headers={"Retry-After": "3600"}),
    "broken off": Fault(drop_after=10),
    "stopped answering": Fault(stall_after=10),
    "login page": captive_portal(),
    "cannot be reached": Fault(redirect="http://127.0.0.1:9/x"),
    "HF_ENDPOINT": Fault(redirect="ftp://127.0.0.1/x"),
}
WRONG = {
    "other bytes": Fault(wrong_bytes=True),
    "a short body": Fault(body=b"short"),
    "an empty body": Fault(body=b""),
    "a long body": Fault(body=b"x" * 500_000),
    "an endless body": Fault(body=b"x" * 500_000, without_length=True),
    "a body of unknown encoding": Fault(headers={"Content-Encoding": "br"}),
    "a page": replace(captive_portal(), without_length=True),
    "another range": Fault(status=206, headers={"Content-Range": "bytes 5-9/10"}, body=b"12345"),
}
STALLS_SOON = msgspec.structs.replace(IMPATIENT, stall_s=1.5)


PLACES = [
    (name, at)
    for name in PASSING
    for at in (API, "config.json", WEIGHTS)
    # A listing of unknown length that ends early is merely broken JSON.
    if (name, at) != ("dropped without a length", API)
]


@pytest.mark.parametrize(("name", "at"), PLACES)
def test_what_passes_is_waited_for(name: str, at: str, home: Home) -> None:
    home.hub.faults[at] = replace(PASSING[name])
    home.pull(patience=STALLS_SOON)
    assert home.installed() == ["tiny"]
    home.assert_nothing_left()


@pytest.mark.parametrize("at", [API, "config.json", WEIGHTS])
@pytest.mark.parametrize("words", LASTING)
def test_what_lasts_is_told(words: str, at: str, home: Home) -> None:
    home.hub.faults[at] = replace(LASTING[words])
    refused = home.refusal(patience=STALLS_SOON)
    assert refused.code is ErrorCode.UPSTREAM_ERROR
    if words != "HF_ENDPOINT" or at == API:
        assert words in refused.message
    assert (home.installed(), home.staged()) == ([], [])
    if at == WEIGHTS:
        home.hub.faults.clear()
        home.pull()


@pytest.mark.parametrize("at", ["config.json", WEIGHTS])
@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_the_file_is_never_installed(name: str, at: str, home: Home) -> None:
    home.hub.faults[at] = replace(WRONG[name])
    refused = home.refusal()
    assert refused.code is ErrorCode.UPSTREAM_ERROR
    assert "is not what it lists" in refused.message
    assert home.installed() == []
    path = f"/{REPO}/resolve/{home.hub.repositories[REPO].commit}/{at}"
    assert sum(request.path == path for request in home.hub.asked("hub")) == 2
    assert not any(path.as_posix().endswith(f"/files/{at}") for path in home.kept())
    if at == WEIGHTS:
        home.hub.faults.clear()
        home.pull()
        home.assert_works()


def test_page_of_another_status_is_no_listing(home: Home) -> None:
    for answer in (LOGIN_PAGE, b"", b"[]", b'{"siblings": 1}', b"\xff", b"[" * 100_000):
        home.hub.faults[API] = Fault(body=answer)
        assert "login page" in home.refusal().message


def test_listing_has_a_limit(home: Home) -> None:
    bomb = gzip.compress(b" " * 10**9, 9)
    for fault in (
        Fault(body=b" " * (33 * 1024**2)),
        Fault(body=bomb, headers={"Content-Encoding": "gzip"}),
    ):
        home.hub.faults[API] = fault
        refused = home.refusal()
        assert refused.code is ErrorCode.UNSAFE_MODEL
        assert "exceeds 32 MiB" in refused.message
    home.assert_nothing_left()


def test_stall_ends_when_it_was_said_to(home: Home) -> None:
    home.hub.faults[WEIGHTS] = Fault(stall_after=1000)
    begun = monotonic()
    last = home.run("--stall-seconds=3")[-1]
    assert last.code is ErrorCode.UPSTREAM_ERROR
    assert 3 <= monotonic() - begun < 20


def test_no_network(home: Home) -> None:
    """Nobody listens there: told soon enough for a person to wait."""
    begun = monotonic()
    last = home.run(HF_ENDPOINT="http://127.0.0.1:9")[-1]
    assert last.code is ErrorCode.UPSTREAM_ERROR
    assert "cannot be reached" in (last.error or "")
    assert monotonic() - begun < 15
    nonsense = home.run(HF_ENDPOINT="nonsense")[-1]
    assert nonsense.code is ErrorCode.UPSTREAM_ERROR
    assert "HF_ENDPOINT" in (nonsense.error or "")


def test_offline(home: Home) -> None:
    last = home.run(HF_HUB_OFFLINE="1")[-1]
    assert last.code is ErrorCode.UPSTREAM_ERROR
    assert "HF_HUB_OFFLINE" in (last.error or "")
    assert home.hub.requests == []


class TestAccess:
    SECRET = "hf_" + "s" * 34

    def test_no_such_repository(self, home: Home) -> None:
        for repo in ("org/absent", "nobody/tiny"):
            refused = home.refusal(repo)
            assert refused.code is ErrorCode.MODEL_NOT_FOUND
            assert repo in refused.message
        assert home.refusal(f"{REPO}@absent").message.endswith("no revision 'absent'")

    def test_private(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        home.hub.token = self.SECRET
        refused = home.refusal()
        assert refused.code is ErrorCode.MODEL_NOT_FOUND
        assert "HF_TOKEN" in refused.message
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        refused = home.refusal()
        assert refused.code is ErrorCode.ACCESS_DENIED
        assert "HF_TOKEN" in refused.message
        monkeypatch.setenv("HF_TOKEN", self.SECRET)
        home.pull()

    @pytest.mark.parametrize("token", [None, SECRET])
    def test_gated(self, token: str | None, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        home.hub.gated.add(REPO)
        if token is not None:
            home.hub.token = token
            monkeypatch.setenv("HF_TOKEN", token)
        refused = home.refusal()
        assert refused.code is ErrorCode.ACCESS_DENIED
        assert "gated" in refused.message
        assert "HF_TOKEN" in refused.message

    @pytest.mark.parametrize("status", [401, 403, 451])
    @pytest.mark.parametrize("at", [API, "config.json"])
    def test_refused(self, at: str, status: int, home: Home) -> None:
        home.hub.faults[at] = Fault(status=status)
        assert home.refusal().code is ErrorCode.ACCESS_DENIED
        home.assert_nothing_left() if at == API else None

    def test_file_that_is_listed_and_not_there(self, home: Home) -> None:
        home.hub.faults[WEIGHTS] = Fault(status=404, headers={"X-Error-Code": "EntryNotFound"})
        assert home.refusal().code is ErrorCode.UPSTREAM_ERROR

    def test_signed_address_that_has_expired(self, home: Home) -> None:
        """Asked for anew: the refusal is not the hub's."""
        expired = home.hub.url("cdn") + "/cdn/expired"
        home.hub.faults[WEIGHTS] = Fault(times=2, redirect=expired)
        home.pull()

    def test_token_stays_with_the_hub(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", self.SECRET)
        home.hub.faults["config.json"] = Fault(times=1, redirect=home.hub.url("cdn") + "/steal")
        home.hub.faults[API] = Fault(times=1, redirect=home.hub.url("cdn") + "/steal")
        home.pull()
        sent = {request.authorization for request in home.hub.asked("hub")}
        assert sent == {f"Bearer {self.SECRET}"}
        assert len(home.hub.asked("cdn")) >= 3
        for request in home.hub.asked("cdn"):
            assert self.SECRET not in repr(request.headers)

    def test_token_is_not_with_whoever_reads_the_files(self, home: Home) -> None:
        from mlx_serve_worker.confined import _environment

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_TOKEN", self.SECRET)
            patch.setenv("https_proxy", "http://user:password@proxy")
            environment = _environment()
        assert self.SECRET not in environment.values()
        assert "https_proxy" not in environment
        assert environment["HF_HUB_OFFLINE"] == "1"
