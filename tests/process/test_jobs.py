"""One job as a process: however it behaves there is one last event, and nothing is left of it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import psutil
import pytest
import pytest_asyncio

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import JobEvent
from mlx_serve_gateway import job_process
from mlx_serve_gateway.job_process import JobHost, run_job
from mlx_serve_gateway.sentinel import Sentinel
from mlx_serve_gateway.worker_env import worker_environment
from tests.process.gateways import environment
from tests.process.stand_in_job import DIGEST, TOTAL
from tests.store import ModelStore
from tests.waiting import async_until

pytestmark = pytest.mark.process

SLACK_S = 2.0


class JobRig:
    """Runs stand-in jobs, and remembers what they say."""

    def __init__(self, models_dir: Path, sentinel: Sentinel) -> None:
        self.models_dir = models_dir
        self.stopping = asyncio.Event()
        self.events: list[JobEvent] = []
        env = worker_environment(environment())
        self._host = JobHost(
            env={"pull": env, "quantize": env},
            sentinel=sentinel,
            now=monotonic,
            program=(sys.executable, "-P", "-m", "tests.process.stand_in_job"),
        )

    async def run(self, name: str) -> JobEvent:
        arguments = [f"--repo=org/{name}", f"--models-dir={self.models_dir}"]
        return await run_job(self._host, "pull", arguments, self.events.append, self.stopping)

    @property
    def pids(self) -> list[int]:
        starts = self.models_dir / ".starts"
        if not starts.exists():
            return []
        return [int(line.split()[0]) for line in starts.read_text().splitlines()]


@pytest_asyncio.fixture
async def jobs(store: ModelStore) -> AsyncIterator[JobRig]:
    sentinel = Sentinel()
    sentinel.start()
    me = psutil.Process()
    before = me.num_fds()
    rig = JobRig(store.models_dir, sentinel)
    yield rig
    assert me.num_fds() == before
    assert not [pid for pid in rig.pids if psutil.pid_exists(pid)]
    await sentinel.stop()


async def test_everything_it_says_is_heard_and_success_is_told_after_its_end(jobs: JobRig) -> None:
    last = await jobs.run("tiny")

    assert last == JobEvent(status="success", model="tiny")
    assert [event.status for event in jobs.events] == [
        "resolving", *["downloading"] * 4, "verifying",
    ]  # fmt: skip
    assert jobs.events[3] == JobEvent(
        status="downloading", digest=DIGEST, total=TOTAL, completed=TOTAL // 2
    )
    assert (jobs.models_dir / "tiny").is_dir()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("fails", ErrorCode.MODEL_NOT_FOUND),
        ("dies", ErrorCode.WORKER_CRASHED),
        ("says-nothing", ErrorCode.WORKER_CRASHED),
        ("lies", ErrorCode.WORKER_CRASHED),
        ("is-interrupted", ErrorCode.WORKER_CRASHED),
        ("never-ends-its-line", ErrorCode.WORKER_CRASHED),
    ],
)
async def test_however_it_fails_there_is_one_error(
    jobs: JobRig, monkeypatch: pytest.MonkeyPatch, name: str, code: ErrorCode
) -> None:
    monkeypatch.setattr(job_process, "END_S", 0.2)
    last = await jobs.run(name)

    assert (last.status, last.code) == (None, code)
    assert last.error
    assert not [event for event in jobs.events if event.error or event.status == "success"]


async def test_what_is_no_event_is_left_out(jobs: JobRig, caplog: pytest.LogCaptureFixture) -> None:
    last = await jobs.run("babbles")

    assert last.status == "success"
    assert "no event" in caplog.text


async def test_its_stderr_does_not_stop_it(jobs: JobRig) -> None:
    assert (await jobs.run("shouts")).status == "success"


async def test_a_child_that_it_leaves_keeps_nobody_waiting(jobs: JobRig) -> None:
    started = monotonic()
    last = await jobs.run("leaves-a-child")
    took_s = monotonic() - started
    os.kill(int((jobs.models_dir / ".child").read_text()), signal.SIGKILL)

    assert last.status == "success"
    assert took_s < SLACK_S


async def test_one_that_lingers_after_success_is_ended(
    jobs: JobRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_process, "END_S", 0.2)

    assert (await jobs.run("lingers")).status == "success"


async def test_told_to_stop_it_ends_in_order(jobs: JobRig) -> None:
    running = asyncio.ensure_future(jobs.run("waits"))
    await async_until(lambda: len(jobs.events) == 4)
    started = monotonic()
    jobs.stopping.set()
    last = await running

    assert last.code is ErrorCode.SHUTTING_DOWN
    assert monotonic() - started < SLACK_S


async def test_one_that_does_not_listen_is_killed(
    jobs: JobRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_process, "END_S", 0.2)
    running = asyncio.ensure_future(jobs.run("is-deaf"))
    await async_until(lambda: jobs.events and jobs.events[-1].status == "verifying")
    jobs.stopping.set()

    assert (await running).code is ErrorCode.SHUTTING_DOWN


async def test_giving_up_on_it_ends_it(jobs: JobRig) -> None:
    running = asyncio.ensure_future(jobs.run("waits"))
    await async_until(lambda: jobs.events)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_program_that_cannot_be_started_is_an_error(jobs: JobRig) -> None:
    jobs._host = JobHost(
        env=jobs._host.env,
        sentinel=jobs._host.sentinel,
        now=monotonic,
        program=("/nowhere/at/all",),
    )
    last = await jobs.run("tiny")

    assert last.code is ErrorCode.MODEL_UNAVAILABLE
    assert last.error is not None
    assert "nowhere" not in last.error
