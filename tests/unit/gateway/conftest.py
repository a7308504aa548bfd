"""Workers for the tests of the pool, and jobs that are no processes."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mlx_serve_gateway.jobs import Jobs
from tests.unit.gateway.fake_jobs import Runs
from tests.unit.gateway.fake_workers import FakeWorkers


@pytest.fixture
def workers() -> FakeWorkers:
    return FakeWorkers()


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest_asyncio.fixture
async def jobs(runs: Runs) -> AsyncIterator[Jobs]:
    async with Jobs(runs) as jobs:
        yield jobs
