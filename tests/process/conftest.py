"""What tests with real processes share; none may leave anything behind, not even a zombie."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.process.workers import WorkerRig
from tests.waiting import async_until


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    me = psutil.Process()
    before = set(me.children())
    yield
    left = set(me.children()) - before
    for child in left:
        child.kill()
    assert left == set()


@pytest_asyncio.fixture
async def rig(short_dir: Path) -> AsyncIterator[WorkerRig]:
    """Starts workers; sockets and descriptors have to be gone when they are."""
    me = psutil.Process()
    rig = WorkerRig(short_dir)
    await rig.open()
    try:
        before = me.num_fds()
        yield rig
        assert rig.sockets() == []
        # ZeroMQ closes a socket's descriptors on a thread of its own.
        await async_until(lambda: me.num_fds() <= before, what="the closing of every descriptor")
    finally:
        await rig.close()
