"""More than the server can do: it says so at once, and does what it can."""

import asyncio
from collections import Counter
from pathlib import Path
from statistics import median
from time import monotonic
from typing import NamedTuple

import msgspec
import psutil
import pytest

from mlx_serve_common.config import BatchConfig, Config, LimitsConfig
from tests.process.gateways import Gateway
from tests.store import ModelStore
from tests.waiting import async_until, until

pytestmark = pytest.mark.process

TOGETHER = 512
QUEUE = 64
REFUSED_WITHIN_S = 0.05
STEP_S = 0.02


class Told(NamedTuple):
    status: int
    retry_after: bool
    took_s: float


async def ask(port: int, text: str) -> Told:
    """On a connection of its own; anything but an HTTP answer is raised."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = msgspec.json.encode({"model": "m", "input": text})
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    started = monotonic()
    writer.write(head.encode() + body)
    try:
        status_line = await reader.readline()
        took_s = monotonic() - started
        headers = await reader.readuntil(b"\r\n\r\n")
        return Told(int(status_line.split()[1]), b"retry-after" in headers.lower(), took_s)
    finally:
        writer.close()


def config(queue: int = QUEUE) -> Config:
    return Config(limits=LimitsConfig(max_queue_items=queue), batch=BatchConfig(max_batch_size=1))


async def test_512_at_once_on_a_queue_of_64(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    with Gateway(short_dir, store, config()) as gateway:
        gateway.assert_serves("m")
        worker = psutil.Process(gateway.worker_pid("m"))
        worker.suspend()
        requests = [asyncio.ensure_future(ask(gateway.port, str(n))) for n in range(TOGETHER)]
        refused = TOGETHER - 2 * QUEUE
        await async_until(lambda: sum(request.done() for request in requests) >= refused)
        full = [await ask(gateway.port, "one more") for _ in range(20)]
        worker.resume()
        told = await asyncio.gather(*requests)

    counts = Counter(each.status for each in told)
    assert set(counts) == {200, 429}
    assert counts[200] >= QUEUE
    assert all(each.retry_after for each in told if each.status == 429)
    print(  # noqa: T201 - pytest -rA shows it
        f"{counts[200]} answered, {counts[429]} refused, those that came when the queue was full "
        f"within {1000 * max(each.took_s for each in full):.1f} ms"
    )
    assert {each.status for each in full} == {429}
    assert median(each.took_s for each in full) < REFUSED_WITHIN_S


SECONDS = [
    pytest.param(2.5, id="quick"),
    pytest.param(120.0, id="two minutes", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
]


@pytest.mark.parametrize("seconds", SECONDS)
async def test_three_times_what_it_can_do(
    short_dir: Path, store: ModelStore, seconds: float
) -> None:
    store.add("m", step_s=STEP_S)
    with Gateway(short_dir, store, config(queue=16)) as gateway:
        gateway.assert_serves("m")
        capacity = await closed_loop(gateway.port, clients=8, seconds=1.5)
        told, took_s = await open_loop(gateway.port, per_s=3 * capacity, seconds=seconds)
        until(lambda: gateway.waiting() == 0)
        gateway.assert_serves("m")

    assert {each.status for each in told} == {200, 429}
    goodput = sum(each.status == 200 for each in told) / took_s
    refused = [each.took_s for each in told if each.status == 429]
    print(  # noqa: T201 - pytest -rA shows it
        f"capacity {capacity:.0f}/s, goodput {goodput:.0f}/s = {goodput / capacity:.0%}; "
        f"429 within {1000 * median(refused):.1f} ms (median)"
    )
    assert goodput >= 0.8 * capacity


async def closed_loop(port: int, clients: int, seconds: float) -> float:
    """What it does a second when it is always busy."""
    end = monotonic() + seconds

    async def client() -> int:
        count = 0
        while monotonic() < end:
            count += (await ask(port, "x")).status == 200
        return count

    return sum(await asyncio.gather(*(client() for _ in range(clients)))) / seconds


async def open_loop(port: int, per_s: float, seconds: float) -> tuple[list[Told], float]:
    """So many requests a second, whatever becomes of those before."""
    started = monotonic()
    requests: list[asyncio.Task[Told]] = []
    while (now := monotonic() - started) < seconds:
        while len(requests) < now * per_s:
            requests.append(asyncio.ensure_future(ask(port, str(len(requests)))))
        await asyncio.sleep(0.005)
    return list(await asyncio.gather(*requests)), monotonic() - started
