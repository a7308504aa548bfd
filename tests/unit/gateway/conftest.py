"""Workers for the tests of the pool."""

import pytest

from tests.unit.gateway.fake_workers import FakeWorkers


@pytest.fixture
def workers() -> FakeWorkers:
    return FakeWorkers()
