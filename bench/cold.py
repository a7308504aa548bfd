"""From nothing to the first vector, and what that has taken in memory."""

from pathlib import Path

from bench import texts
from bench.loads.embedding import PATH, body
from bench.loads.load import Found, Row, timed
from bench.subjects import Subject

_LOAD = "cold start"
HEALTHY = Row(_LOAD, "until it serves", "s")
FIRST = Row(_LOAD, "first vector after that", "s")
TOTAL = Row(_LOAD, "until the first vector", "s")
MEMORY = Row(_LOAD, "memory then, one model", "MiB")
ROWS = (HEALTHY, FIRST, TOTAL, MEMORY)


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
