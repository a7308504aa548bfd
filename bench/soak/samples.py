"""What a server's processes take, read again and again while they work.

Invariants: a worker is followed by its process, so a model that comes and goes is several; of those
only what has lasted is judged.
"""

import asyncio
import re
from collections import defaultdict
from time import perf_counter
from typing import NamedTuple

import msgspec
import psutil

from bench.processes import MIB, Server, own_bytes
from bench.soak.growth import Sample

MEMORY, HELD, DESCRIPTORS, THREADS = "memory, MiB", "held, MiB", "descriptors", "threads"
GATEWAY = "gateway"
_HELD = re.compile(r'^mlx_serve_model_held_bytes\{model="([^"]+)"\} (\S+)$', re.MULTILINE)


class Series(NamedTuple):
    process: str
    pid: int
    measure: str


class Samples:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._began = perf_counter()
        self.found: dict[Series, list[Sample]] = defaultdict(list)

    async def take_until(self, ends_at: float, every_s: float) -> None:
        while perf_counter() < ends_at:
            await self._take()
            await asyncio.sleep(every_s)

    async def _take(self) -> None:
        detail = msgspec.json.decode(await self._server.client.get("/health/detail"))
        exposed = (await self._server.client.get("/metrics")).decode()
        pids = {each["model"]: each["pid"] for each in detail["workers"] if each["pid"]}
        self._of_process(GATEWAY, self._server.pid)
        for model, pid in pids.items():
            self._of_process(model, pid)
        for model, held in _HELD.findall(exposed):
            if model in pids:
                self._add(Series(model, pids[model], HELD), float(held) / MIB)

    def _of_process(self, name: str, pid: int) -> None:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                found = {
                    MEMORY: own_bytes(process) / MIB,
                    DESCRIPTORS: process.num_fds(),
                    THREADS: process.num_threads(),
                }
        except psutil.Error:
            return  # it has left since it was named
        for measure, value in found.items():
            self._add(Series(name, pid, measure), value)

    def _add(self, series: Series, value: float) -> None:
        self.found[series].append(Sample(perf_counter() - self._began, value))
