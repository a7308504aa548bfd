"""Real worker processes driven through their handles, without a gateway around them."""

import asyncio
import itertools
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

import psutil
import zmq

from mlx_serve_common.models import InstalledModel
from mlx_serve_common.wire import Batch, Embed, Embedded, Note, Progress, Ready, Rejected, Result
from mlx_serve_gateway.handle import Timeouts, WorkerHandle, WorkerHost, WorkerState
from mlx_serve_gateway.sentinel import Sentinel
from mlx_serve_gateway.spare import Spare
from mlx_serve_gateway.turn_lines import TurnLines
from mlx_serve_gateway.worker import ExitReport
from mlx_serve_gateway.worker_env import worker_environment
from mlx_serve_gateway.worker_process import Surroundings
from mlx_serve_worker.backends.fake import render, vector
from tests.process.gateways import environment
from tests.waiting import async_until, until

CHAT_ONLY = "LC_FOR_CHAT"
"""Set in the environment of workers for chat models."""


class Recorder:
    """Sees what a worker does."""

    def __init__(self) -> None:
        self.ready: list[Ready] = []
        self.notes: list[Note] = []
        self.results: list[Result] = []
        self.progress: list[Progress] = []

    def on_ready(self, ready: Ready) -> None:
        self.ready.append(ready)

    def on_note(self, note: Note) -> None:
        self.notes.append(note)

    def on_result(self, result: Result) -> None:
        self.results.append(result)

    def on_progress(self, progress: Progress) -> None:
        self.progress.append(progress)

    @property
    def answered(self) -> list[int]:
        return sorted(id for result in self.results for id in result.ids)

    def vectors(self) -> dict[int, bytes]:
        return {
            id: vector
            for result in self.results
            if isinstance(result, Embedded)
            for id, vector in zip(result.ids, result.vectors, strict=True)
        }

    def rejected(self) -> dict[int, str]:
        return {
            id: result.code
            for result in self.results
            if isinstance(result, Rejected)
            for id in result.ids
        }


class Started:
    """A worker whose life runs as a task."""

    def __init__(self, model: InstalledModel, host: WorkerHost) -> None:
        self.seen = Recorder()
        self.handle = WorkerHandle(model, self.seen, host)
        self._life = asyncio.ensure_future(self.handle.run())
        self._ids = itertools.count(1)

    @property
    def state(self) -> WorkerState:
        return self.handle.state

    @property
    def process(self) -> psutil.Process:
        assert self.handle.pid is not None
        return psutil.Process(self.handle.pid)

    async def ready(self) -> None:
        await async_until(lambda: self.seen.ready or self._life.done(), what="the worker's start")
        assert self.seen.ready, self._life.result()

    async def ended(self, limit_s: float = 60) -> ExitReport:
        async with asyncio.timeout(limit_s):
            report = await self._life
        assert self.handle.pid is None or not psutil.pid_exists(self.handle.pid)
        return report

    def kill_unnoticed(self) -> None:
        """The process is dead and the event loop has not had a chance to see it."""
        self.process.kill()
        until(lambda: self.process.status() == psutil.STATUS_ZOMBIE)

    async def abort(self) -> None:
        self._life.cancel()
        with suppress(asyncio.CancelledError):
            await self._life

    def submit(self, *texts: str) -> list[int]:
        """One batch; its ids."""
        ids = list(itertools.islice(self._ids, len(texts)))
        self.handle.submit(Batch([Embed(ids, list(texts), "float", "right")]))
        return ids

    async def answers(self, ids: Sequence[int]) -> None:
        await async_until(lambda: set(ids) <= set(self.seen.answered), what="an answer")

    async def compute(self, *texts: str) -> None:
        """A batch whose answers are awaited and right."""
        ids = self.submit(*texts)
        await self.answers(ids)
        expected = {id: rendered(text) for id, text in zip(ids, texts, strict=True)}
        assert {id: self.seen.vectors()[id] for id in ids} == expected


class WorkerRig:
    """Starts workers in a run directory of its own, beside a sentinel of its own."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.sentinel = Sentinel()
        self.turns = TurnLines()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)

    async def open(self) -> None:
        self.sentinel.start()
        # ZeroMQ opens descriptors of its own with the first socket, and closes that socket's on
        # another thread: whoever counts has to wait until both are done.
        self._context.socket(zmq.DEALER).close()
        counts: list[int] = []
        while len(counts) < 10 or len(set(counts[-10:])) > 1:
            counts.append(psutil.Process().num_fds())
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        await self.sentinel.stop()
        self._context.destroy(linger=0)
        self.turns.close()

    def sockets(self) -> list[Path]:
        return list(self.run_dir.glob("*.sock"))

    def start(
        self,
        model: InstalledModel,
        *,
        load_s: float = 20,
        batch_s: float = 20,
        stop_s: float = 20,
        max_batch_items: int = 32,
        computing_workers: int | None = None,
        source: Path | None = None,
    ) -> Started:
        """``source`` holds a package that stands in for the worker's own."""
        env = worker_environment(environment())
        if source is not None:
            env["PYTHONPATH"] = f"{source}{os.pathsep}{env['PYTHONPATH']}"
        surroundings = Surroundings(
            env=env,
            chat_env=env | {CHAT_ONLY: "1"},
            sentinel=self.sentinel,
            now=monotonic,
            board=self.turns.descriptor,
        )
        host = WorkerHost(
            context=self._context,
            run_dir=self.run_dir,
            surroundings=surroundings,
            spare=Spare(surroundings, lambda: False),
            max_batch_items=max_batch_items,
            max_batch_tokens=None,
            calibrate=False,
            turns=self.turns,
            computing_workers=computing_workers,
            timeouts=Timeouts(load_s, batch_s, stop_s),
            now=monotonic,
        )
        return Started(model, host)


def rendered(text: str) -> bytes:
    return render(vector(text), "float")
