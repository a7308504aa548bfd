"""Jobs without processes: for tests of whoever starts them and listens to them."""

import asyncio
from collections.abc import Sequence

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import JobEvent
from mlx_serve_gateway.job_process import OnEvent
from tests.unit.gateway.fake_workers import settle

SUCCESS = JobEvent(status="success")


class Runs:
    """Stands in for the processes: each run says and ends as the test tells it.

    A run goes by its first argument.
    """

    def __init__(self) -> None:
        self.started: list[tuple[str, ...]] = []
        self.say: dict[str, OnEvent] = {}
        self._ends: dict[str, asyncio.Future[JobEvent]] = {}

    async def __call__(
        self, kind: str, arguments: Sequence[str], on_event: OnEvent, stopping: asyncio.Event
    ) -> JobEvent:
        self.started.append((kind, *arguments))
        name = arguments[0]
        self.say[name] = on_event
        end: asyncio.Future[JobEvent] = asyncio.get_running_loop().create_future()
        self._ends[name] = end
        stopped = asyncio.ensure_future(stopping.wait())
        await asyncio.wait((end, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if end.done():
            return end.result()
        return JobEvent(error="stopped", code=ErrorCode.SHUTTING_DOWN)

    async def end(self, name: str, event: JobEvent | Exception = SUCCESS) -> None:
        if isinstance(event, Exception):
            self._ends[name].set_exception(event)
        else:
            self._ends[name].set_result(event)
        await settle()
