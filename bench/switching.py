"""Two models and room for one: what it takes to answer with the other, and what of it is what.

The parts are told by the server's own events, whose clock is that of this process.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench import texts
from bench.http_client import Client
from bench.loads.embedding import PATH, body
from bench.loads.load import Found, Row, percentile
from bench.models import SECOND
from bench.subjects import Subject

_LOAD = "another model, with room for one"
MEDIAN = Row(_LOAD, "median", "ms")
SLOW = Row(_LOAD, "p99", "ms")
LEAVES = Row(_LOAD, "until the other has left", "ms")
STARTS = Row(_LOAD, "until the process loads", "ms")
READS = Row(_LOAD, "until the model is read", "ms")
ANSWERS = Row(_LOAD, "until the answer", "ms")
ROWS = (MEDIAN, SLOW, LEAVES, STARTS, READS, ANSWERS)

_ONE_PLACE = {"MLX_SERVE_CACHE_MAX_EMBEDDING_MODELS": "1"}


def _now() -> float:
    return datetime.now(UTC).timestamp()


class _Switch(NamedTuple):
    asked: float
    answered: float


class _Event(msgspec.Struct):
    number: int
    at: datetime
    event: str
    load_s: float = 0.0


_decode_event = msgspec.json.Decoder(_Event).decode


async def switching(subject: Subject, folder: Path, count: int) -> Found:
    server, _ = await subject._replace(env={**subject.env, **_ONE_PLACE}).started(folder)
    with server:
        client = server.client
        models = (subject.names.embedder, SECOND)
        text = texts.short(1)[0]
        for model in models:  # once for nothing, and the second is there
            await client.post(PATH, body(model, text))
        before = (await _events(client, 0, 3))[-1].number
        switches = []
        for turn in range(count):
            asked = _now()
            await client.post(PATH, body(models[turn % 2], text))
            switches.append(_Switch(asked, _now()))
        return _found(switches, await _events(client, before, 2 * count))


async def _events(client: Client, after: int, count: int) -> list[_Event]:
    """So many of those that tell who has left and who is there."""
    found: list[_Event] = []
    rest = b""
    async for chunk in client.stream(f"/admin/events?after={after}", None):
        *lines, rest = (rest + chunk).split(b"\n")
        found += [each for each in map(_decode_event, lines) if each.event in ("left", "loaded")]
        if len(found) >= count:
            break
    return found


def _found(switches: Sequence[_Switch], events: Sequence[_Event]) -> Found:
    parts: list[list[float]] = []
    for switch, left, loaded in zip(switches, events[::2], events[1::2], strict=True):
        there = loaded.at.timestamp()
        moments = [
            switch.asked, left.at.timestamp(), there - loaded.load_s, there, switch.answered,
        ]  # fmt: skip
        parts.append([1000 * (after - before) for before, after in pairwise(moments)])
    whole = [1000 * (switch.answered - switch.asked) for switch in switches]
    medians = [percentile(part, 0.5) for part in zip(*parts, strict=True)]
    return {
        MEDIAN: percentile(whole, 0.5),
        SLOW: percentile(whole, 0.99),
        **dict(zip((LEAVES, STARTS, READS, ANSWERS), medians, strict=True)),
    }
