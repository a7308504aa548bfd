"""Several pulls of one model at once: one downloads, all of them show it, all of them succeed."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import JobEvent, decode_event
from mlx_serve_gateway.registry import Registry
from tests.hub.faults import Fault
from tests.process.ollama.asking import Stream
from tests.process.pull.conftest import REPO, WEIGHTS, Home, checked
from tests.waiting import until

pytestmark = [pytest.mark.process, pytest.mark.engine]

HALF = 50_000


class Pulling:
    """A job, and what it has said so far."""

    def __init__(self, job: "subprocess.Popen[bytes]") -> None:
        self.job = job
        self.lines: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.job.stdout is not None
        self.lines.extend(self.job.stdout)  # line by line, as they come

    def has_said(self, status: str, detail: str = "") -> bool:
        events = [decode_event(line) for line in [*self.lines]]
        return any(event.status == status and detail in (event.detail or "") for event in events)

    def end(self) -> list[JobEvent]:
        code = self.job.wait(50)
        self.close()
        return checked(b"".join(self.lines), code)

    def close(self) -> None:
        self.job.wait()
        self._reader.join()
        assert self.job.stdout is not None
        self.job.stdout.close()


Start = Callable[..., Pulling]


@pytest.fixture
def start(home: Home) -> Iterator[Start]:
    """Starts a pull; none of them is left running."""
    started: list[Pulling] = []

    def start(*more: str, program: "subprocess.Popen[bytes] | None" = None) -> Pulling:
        started.append(Pulling(program or home.start(*more)))
        return started[-1]

    yield start
    for pulling in started:
        pulling.job.kill()
        pulling.close()


class Flock:
    """A leader in the middle of the weights, and followers that watch it."""

    def __init__(
        self,
        home: Home,
        start: Start,
        followers: int,
        *,
        terms: tuple[str, ...] = (),
        wrong_bytes: bool = False,
    ) -> None:
        self.go_on = threading.Event()
        home.hub.faults[WEIGHTS] = Fault(
            stall_after=HALF, go_on=self.go_on, wrong_bytes=wrong_bytes
        )
        self.leader = start()
        until(lambda: self.leader.has_said("downloading", WEIGHTS), 30, "the leader's download")
        self.followers = [start(*terms) for _ in range(followers)]
        until(
            lambda: all(each.has_said("downloading", WEIGHTS) for each in self.followers),
            30,
            "the progress that they show",
        )


def asked_for_weights(home: Home) -> int:
    return sum(WEIGHTS in request.query for request in home.hub.asked("cdn"))


def test_six_pulls_fetch_the_bytes_once(home: Home, start: Start) -> None:
    flock = Flock(home, start, followers=5)
    flock.go_on.set()
    for pulling in (flock.leader, *flock.followers):
        assert pulling.end()[-1] == JobEvent(status="success", model="tiny")
    assert flock.leader.has_said("verifying")
    for follower in flock.followers:
        assert follower.has_said("resolving", "following")
    assert home.hub.file_bytes() == sum(map(len, home.hub.repositories[REPO].content().values()))
    assert [model.name for model in Registry(home.models, {}).models()] == ["tiny"]
    home.assert_works()
    home.assert_nothing_left()


def test_commands_and_requests_share_one_download(
    home: Home, start: Start, short_dir: Path
) -> None:
    """Four commands and two requests to a server, of which any may lead."""
    go_on = threading.Event()
    home.hub.faults[WEIGHTS] = Fault(stall_after=HALF, go_on=go_on)
    with home.server(short_dir) as gateway:
        commands = [start(program=_command(home, short_dir)) for _ in range(4)]
        requests = [Stream(gateway, model=REPO) for _ in range(2)]
        for request in requests:
            while "digest" not in request.line():
                pass
        until(lambda: all(each.has_said("downloading") for each in commands), 30, "their progress")
        go_on.set()
        for request in requests:
            assert request.rest()[-1] == {"status": "success"}
        for command in commands:
            assert command.end()[-1].model == "tiny"
        assert len(gateway.embed("tiny", "a text").vectors()) == 1
    assert home.hub.file_bytes() == sum(map(len, home.hub.repositories[REPO].content().values()))
    home.assert_nothing_left()


def _command(home: Home, server_home: Path) -> "subprocess.Popen[bytes]":
    places = {"MLX_SERVE_HOME": str(server_home), "MLX_SERVE_MODELS_DIR": str(home.models)}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "mlx_serve_gateway.cli.main", "pull", REPO, "--json"],
        env=home.env | places,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def test_pulls_at_the_very_same_time(home: Home, start: Start) -> None:
    for pulling in [start() for _ in range(6)]:
        assert pulling.end()[-1].model == "tiny"
    assert home.hub.file_bytes() == sum(map(len, home.hub.repositories[REPO].content().values()))
    home.assert_nothing_left()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_follower_takes_over_from_a_leader_that_ends(
    signum: signal.Signals, home: Home, start: Start
) -> None:
    flock = Flock(home, start, followers=3)
    flock.leader.job.send_signal(signum)
    flock.leader.job.wait()
    until(lambda: asked_for_weights(home) == 2, 30, "another leader")
    flock.go_on.set()
    for follower in flock.followers:
        assert follower.end()[-1].model == "tiny"
    assert asked_for_weights(home) == 2
    home.assert_works()
    home.assert_nothing_left()


def test_follower_can_leave(home: Home, start: Start) -> None:
    flock = Flock(home, start, followers=1)
    flock.followers[0].job.terminate()
    assert flock.followers[0].end()[-1].code is ErrorCode.CANCELLED
    flock.go_on.set()
    assert flock.leader.end()[-1].model == "tiny"
    home.assert_nothing_left()


def test_what_the_leader_fails_of_is_not_tried_again(home: Home, start: Start) -> None:
    flock = Flock(home, start, followers=2, wrong_bytes=True)
    asked = len(home.hub.requests)
    flock.go_on.set()
    errors = {pulling.end()[-1] for pulling in (flock.leader, *flock.followers)}
    (error,) = errors
    assert error.code is ErrorCode.UPSTREAM_ERROR
    # Once more by the leader, and by nobody else.
    assert len(home.hub.requests) - asked == 2


def test_follower_that_wants_something_else_decides_for_itself(home: Home, start: Start) -> None:
    flock = Flock(home, start, followers=1, terms=("--type=reranker",))
    flock.go_on.set()
    assert flock.leader.end()[-1].model == "tiny"
    last = flock.followers[0].end()[-1]
    assert last.code is ErrorCode.INVALID_REQUEST
    assert "is of type embedding" in (last.error or "")


def test_follower_may_want_another_name(home: Home, start: Start) -> None:
    flock = Flock(home, start, followers=1, terms=("--name=other",))
    flock.go_on.set()
    assert flock.leader.end()[-1].model == "tiny"
    assert flock.followers[0].end()[-1].model == "other"
    assert home.installed() == ["other", "tiny"]
    home.assert_nothing_left()
