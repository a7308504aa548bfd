"""Jobs without processes: joining, listening late and slowly, what is remembered, the end."""

import asyncio

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent
from mlx_serve_gateway.jobs import MAX_ENDED, MAX_RUNNING, Job, JobRequest, Jobs
from tests.unit.gateway.fake_jobs import SUCCESS, Runs
from tests.unit.gateway.fake_workers import settle

RESOLVING = JobEvent(status="resolving")

FAILURE = JobEvent(error="no such repository", code=ErrorCode.MODEL_NOT_FOUND)


def part(file: str, completed: int) -> JobEvent:
    return JobEvent(status="downloading", detail=file, total=100, completed=completed)


def pull(name: str, argument: str | None = None) -> JobRequest:
    return JobRequest("pull", name, (argument or name,))


async def started(jobs: Jobs, name: str) -> Job:
    job = jobs.start(pull(name))
    await settle()
    return job


async def heard(job: Job) -> list[JobEvent]:
    return [event async for event in job.follow()]


# --- one at a time -------------------------------------------------------------------------------


async def test_who_asks_for_the_same_joins_it(jobs: Jobs, runs: Runs) -> None:
    job = await started(jobs, "tiny")

    assert jobs.start(pull("tiny")) is job
    assert runs.started == [("pull", "tiny")]


@pytest.mark.parametrize("name", ["tiny", "TINY", "\N{FULLWIDTH LATIN SMALL LETTER T}iny"])
async def test_something_else_with_the_same_name_has_to_wait(
    jobs: Jobs, runs: Runs, name: str
) -> None:
    await started(jobs, "tiny")
    with pytest.raises(ServeError) as told:
        jobs.start(pull(name, "another repository"))

    assert told.value.code is ErrorCode.MODEL_BUSY
    assert told.value.retry_after_s is not None
    assert jobs.is_working_on(name)
    await runs.end("tiny")
    assert not jobs.is_working_on(name)
    jobs.start(pull(name, "another repository"))


async def test_different_models_run_side_by_side_up_to_a_limit(jobs: Jobs) -> None:
    for number in range(MAX_RUNNING):
        await started(jobs, f"m{number}")
    with pytest.raises(ServeError) as told:
        jobs.start(pull("one more"))

    assert told.value.code is ErrorCode.QUEUE_FULL


async def test_who_hears_of_the_end_can_start_it_again_at_once(jobs: Jobs, runs: Runs) -> None:
    job = await started(jobs, "tiny")
    again: list[Job] = []

    async def wait_and_start() -> None:
        await job.ended()
        again.append(jobs.start(pull("tiny")))

    waiting = asyncio.ensure_future(wait_and_start())
    await settle()
    await runs.end("tiny", FAILURE)
    await waiting
    assert again[0] is not job


# --- listening -----------------------------------------------------------------------------------


async def test_everybody_hears_every_event_in_order(jobs: Jobs, runs: Runs) -> None:
    job = await started(jobs, "tiny")
    listeners = [asyncio.ensure_future(heard(job)) for _ in range(3)]
    await settle()
    said = [RESOLVING, part("a", 10), part("a", 60), part("b", 5), part("a", 100), part("b", 100)]
    for event in said:
        runs.say["tiny"](event)
        await settle()
    await runs.end("tiny")

    assert await asyncio.gather(*listeners) == [[*said, SUCCESS]] * 3


async def test_who_comes_late_hears_where_each_stage_is(jobs: Jobs, runs: Runs) -> None:
    job = await started(jobs, "tiny")
    for event in (RESOLVING, part("a", 10), part("b", 5), part("a", 60)):
        runs.say["tiny"](event)
    late = asyncio.ensure_future(heard(job))
    await settle()
    runs.say["tiny"](part("b", 50))
    await runs.end("tiny")

    assert await late == [RESOLVING, part("b", 5), part("a", 60), part("b", 50), SUCCESS]


async def test_who_is_slow_misses_steps_and_no_stage(jobs: Jobs, runs: Runs) -> None:
    job = await started(jobs, "tiny")
    events = job.follow()
    runs.say["tiny"](RESOLVING)
    assert await anext(events) == RESOLVING
    for completed in range(100):
        runs.say["tiny"](part("a", completed))
        runs.say["tiny"](part("b", completed))
    await runs.end("tiny")

    assert [event async for event in events] == [part("a", 99), part("b", 99), SUCCESS]


async def test_a_listener_that_leaves_ends_nothing(jobs: Jobs, runs: Runs) -> None:
    job = await started(jobs, "tiny")
    leaving, staying = (asyncio.ensure_future(heard(job)) for _ in range(2))
    await settle()
    leaving.cancel()
    await settle()
    runs.say["tiny"](RESOLVING)
    await runs.end("tiny")

    assert await staying == [RESOLVING, SUCCESS]


async def test_after_the_end_the_story_can_still_be_heard(jobs: Jobs, runs: Runs) -> None:
    job = await started(jobs, "tiny")
    runs.say["tiny"](RESOLVING)
    await runs.end("tiny", FAILURE)

    assert await heard(job) == [RESOLVING, FAILURE]
    assert await job.ended() == FAILURE


async def test_a_job_of_very_many_stages_is_remembered_in_part(jobs: Jobs, runs: Runs) -> None:
    job = await started(jobs, "tiny")
    for number in range(5000):
        runs.say["tiny"](part(f"file {number}", 0))
    await runs.end("tiny")
    events = await heard(job)

    assert 1000 < len(events) < 1100
    assert events[-2:] == [part("file 4999", 0), SUCCESS]


# --- what is known afterwards --------------------------------------------------------------------


async def test_progress_and_times(jobs: Jobs, runs: Runs) -> None:
    job = await started(jobs, "tiny")
    assert (job.progress, job.ended_at) == (None, None)
    runs.say["tiny"](part("a", 10))
    assert job.progress == part("a", 10)
    await runs.end("tiny")

    assert job.progress == part("a", 10)
    assert job.ended_at is not None
    assert job.started_at <= job.ended_at
    assert job.started_at.tzinfo is not None


async def test_the_newest_is_first_and_old_ones_are_forgotten(jobs: Jobs, runs: Runs) -> None:
    for number in range(MAX_ENDED + 5):
        await started(jobs, f"m{number}")
        await runs.end(f"m{number}")
    await started(jobs, "running")
    names = [job.request.model for job in jobs.all()]

    assert names[:2] == ["running", f"m{MAX_ENDED + 4}"]
    assert len(names) == MAX_ENDED + 1


# --- the end -------------------------------------------------------------------------------------


async def test_the_servers_stop_ends_every_job_and_tells_the_listeners(runs: Runs) -> None:
    async with Jobs(runs) as jobs:
        listeners = [asyncio.ensure_future(heard(await started(jobs, name))) for name in ("a", "b")]
        await settle()
        jobs.request_stop()
        for events in await asyncio.gather(*listeners):
            assert events[-1].code is ErrorCode.SHUTTING_DOWN
        with pytest.raises(ServeError) as told:
            jobs.start(pull("c"))

    assert told.value.code is ErrorCode.SHUTTING_DOWN


async def test_listeners_are_told_even_of_a_fault_of_ours(runs: Runs) -> None:
    with pytest.raises(ExceptionGroup):
        async with Jobs(runs) as jobs:
            job = await started(jobs, "tiny")
            await runs.end("tiny", RuntimeError("a bug"))

            assert (await job.ended()).code is ErrorCode.INTERNAL_ERROR
