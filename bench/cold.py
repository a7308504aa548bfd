"""From nothing to the first vector or word, and what that has taken in memory."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil

from bench import texts
from bench.http_client import Client
from bench.loads.chat import chat_body, listen
from bench.loads.embedding import PATH, body
from bench.loads.load import Found, Row, timed
from bench.subjects import Subject

_LOAD = "cold start"
HEALTHY = Row(_LOAD, "until it serves", "s")
FIRST = Row(_LOAD, "first vector after that", "s")
TOTAL = Row(_LOAD, "until the first vector", "s")
MEMORY = Row(_LOAD, "memory then, one model", "MiB")
ROWS = (HEALTHY, FIRST, TOTAL, MEMORY)

_CHAT = "cold start of a chat model"
WITH_SPARE = Row(_CHAT, "first word, with the spare process", "s")
WITHOUT = Row(_CHAT, "first word, without it", "s")
CHAT_ROWS = (WITH_SPARE, WITHOUT)
_LOOK_S = 0.3


async def cold_start(subject: Subject, folder: Path) -> Found:
    server, healthy = await subject.started(folder)
    with server:
        given = body(subject.names.embedder, texts.short(1)[0])
        first = await timed(server.client.post(PATH, given))
        return {
            HEALTHY: healthy,
            FIRST: first,
            TOTAL: healthy + first,
            MEMORY: server.memory_mib(),
        }


async def cold_chat(subject: Subject, folder: Path, marks: Sequence[int]) -> Found:
    given = chat_body(subject.names.chat, "Hello", marks, tokens=1)
    found: Found = {}
    for row, spare in ((WITH_SPARE, "true"), (WITHOUT, "false")):
        env = {**subject.env, "MLX_SERVE_CHAT_SPARE": spare}
        server, _ = await subject._replace(env=env).started(folder)
        with server:
            await _spare_rests(server.client)
            found[row] = (await listen(server.client, given)).first
    return found


async def _spare_rests(client: Client) -> None:
    """It imports what chat models need while the server already serves."""
    spare = msgspec.json.decode(await client.get("/health/detail"))["spare"]
    if spare is None:
        return
    process, before = psutil.Process(spare["pid"]), -1.0
    while (used := sum(process.cpu_times()[:2])) > before:
        before = used
        await asyncio.sleep(_LOOK_S)
