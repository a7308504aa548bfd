"""Workers without processes, and clients to go with them: for tests of the pool."""

import asyncio
import itertools
from collections.abc import Sequence

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.launch import Allowance
from mlx_serve_common.models import InstalledModel
from mlx_serve_common.wire import (
    PROTOCOL,
    Batch,
    Embed,
    Embedded,
    Generated,
    Note,
    Prefilled,
    Progress,
    Ready,
    Rejected,
    Result,
    settled,
)
from mlx_serve_gateway.calls import EmbedCall, EmbedOptions
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.worker import ExitReport, Failure, Observer, StopReason


def vector(text: str) -> bytes:
    return f"[{text}]".encode()


class FakeWorker:
    """Does what the test tells it, and ends when the test says so (or the server stops)."""

    def __init__(self, pid: int, model: InstalledModel, observer: Observer) -> None:
        self._pid = pid
        self.model = model
        self._observer = observer
        self._end: asyncio.Future[ExitReport] = asyncio.get_running_loop().create_future()
        self.is_running = False
        self.is_ready = False
        self.stop_reason: StopReason | None = None
        self.held: dict[int, str] = {}
        """Items that it has not answered."""
        self.batches: list[list[str]] = []
        self.cancelled: list[int] = []

    # --- what the pool asks ----------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        return self._pid

    async def run(self) -> ExitReport:
        self.is_running = True
        try:
            return await self._end
        finally:
            self.is_running = False

    def submit(self, batch: Batch) -> None:
        assert self.is_ready
        assert self.stop_reason is None, "work was sent to a worker that was told to leave"
        texts: list[str] = []
        for part in batch.parts:
            assert isinstance(part, Embed)
            assert not self.held.keys() & set(part.ids)
            self.held |= dict(zip(part.ids, part.texts, strict=True))
            texts += part.texts
        self.batches.append(texts)

    def cancel(self, ids: list[int]) -> None:
        assert set(ids) <= self.held.keys()
        self.cancelled += ids

    def request_stop(self, reason: StopReason) -> None:
        self.stop_reason = self.stop_reason or reason
        if reason is StopReason.SHUTDOWN:
            self.leave()

    # --- what the test tells ---------------------------------------------------------------------

    def note(self, note: Note) -> None:
        self._observer.on_note(note)

    def become_ready(self) -> None:
        self.is_ready = True
        self._observer.on_ready(Ready(PROTOCOL, self._pid, "fake", 0.1, 0))

    def answer(self, ids: Sequence[int] | None = None) -> None:
        """These items, or all that it holds."""
        chosen = list(self.held) if ids is None else list(ids)
        texts = [self.held.pop(id) for id in chosen]
        if chosen:
            counts = [1] * len(chosen)
            vectors = [vector(text) for text in texts]
            self._observer.on_result(Embedded(chosen, vectors, counts, [], 0.001))

    def answer_with(self, message: Result | Progress) -> None:
        """Whatever the test wants it to say."""
        for id in settled(message):
            self.held.pop(id, None)
        if isinstance(message, Generated | Prefilled):
            self._observer.on_progress(message)
        else:
            self._observer.on_result(message)

    def reject(self, code: ErrorCode, ids: Sequence[int] | None = None) -> None:
        chosen = list(self.held) if ids is None else list(ids)
        for id in chosen:
            del self.held[id]
        self._observer.on_result(Rejected(chosen, code, "no"))

    def die(
        self,
        failure: Failure = Failure.CRASHED,
        error: ServeError | None = None,
        exit_code: int | None = None,
    ) -> None:
        self._finish(ExitReport(failure, error, exit_code))

    def leave(self) -> None:
        assert self.stop_reason is not None
        self._finish(ExitReport(self.stop_reason, exit_code=0))

    def _finish(self, report: ExitReport) -> None:
        if not self._end.done():
            self._end.set_result(report)

    @property
    def has_ended(self) -> bool:
        return self._end.done()


class FakeWorkers:
    """Launches them, and sees to it that no model ever has two."""

    def __init__(self, kind: type[FakeWorker] = FakeWorker) -> None:
        self._kind = kind
        self.launched: list[FakeWorker] = []
        self._pids = itertools.count(1001)

    def launch(self, model: InstalledModel, observer: Observer, _: Allowance) -> FakeWorker:
        assert not [worker for worker in self.living if worker.model == model], "two workers"
        worker = self._kind(next(self._pids), model, observer)
        self.launched.append(worker)
        return worker

    @property
    def living(self) -> list[FakeWorker]:
        return [worker for worker in self.launched if worker.is_running or not worker.has_ended]

    def count(self, model: InstalledModel) -> int:
        """How often it was started."""
        return sum(worker.model == model for worker in self.launched)

    def of(self, model: InstalledModel) -> FakeWorker:
        """The model's living worker; it has to be there."""
        (found,) = [worker for worker in self.living if worker.model == model]
        return found

    async def loaded(self, model: InstalledModel) -> FakeWorker:
        await settle()
        worker = self.of(model)
        worker.become_ready()
        return worker


async def settle() -> None:
    """Let everything happen that is due."""
    for _ in range(12):
        await asyncio.sleep(0)


async def ask(
    pool: Pool, model: InstalledModel, *texts: str, ttl_s: float | None = None
) -> list[bytes]:
    """What a request does; the vectors it gets."""
    call = EmbedCall(list(texts), EmbedOptions())
    with pool.lease(model, call, ttl_s=ttl_s) as lane:
        await lane.answer(call)
    return call.vectors


def asking(
    pool: Pool, model: InstalledModel, *texts: str, ttl_s: float | None = None
) -> "asyncio.Task[list[bytes]]":
    """A request in flight."""
    return asyncio.ensure_future(ask(pool, model, *texts, ttl_s=ttl_s))


async def failure(request: "asyncio.Task[list[bytes]]") -> ServeError:
    try:
        await asyncio.wait_for(request, 10)
    except ServeError as error:
        return error
    raise AssertionError("it did not fail")
