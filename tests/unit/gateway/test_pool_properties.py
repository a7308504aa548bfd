"""The pool under random events: limits hold, no model has two workers, every call is answered."""

import asyncio
import logging
import math
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_serve_gateway.worker import Failure
from tests.unit.gateway.fake_workers import settle
from tests.unit.gateway.pool_world import CHATS, MODELS, POISON, World

TEXTS = ["x", "y", "z", POISON]
TTLS_S = [None, None, 0, 1.0, math.inf]
PASSING_S = [0.1, 3.0, 6.0, 31.0, 120.0]
ANY = [*MODELS, *CHATS]

WORKER = st.integers(0, 5)
OF = st.sampled_from(ANY)
EVENTS = st.one_of(
    st.tuples(
        st.just("ask"),
        st.sampled_from(MODELS),
        st.lists(st.sampled_from(TEXTS), min_size=1, max_size=7),
        st.sampled_from(TTLS_S),
        st.integers(0, 3),
    ),
    st.tuples(st.just("chat"), st.sampled_from(CHATS), st.sampled_from(TEXTS), st.integers(1, 3)),
    st.tuples(st.sampled_from(["preload", "unload", "pin", "unpin"]), OF),
    st.tuples(st.just("retire"), OF, st.booleans()),
    st.tuples(st.just("configure"), st.integers(1, 3), st.sampled_from([1.0, 100.0])),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("stillborn"), st.integers(1, 3)),
    st.tuples(st.just("ready"), WORKER),
    st.tuples(st.just("work"), WORKER, st.integers(1, 5)),
    st.tuples(st.just("reject"), WORKER),
    st.tuples(st.just("nonsense"), WORKER),
    st.tuples(st.just("die"), WORKER, st.sampled_from(list(Failure))),
    st.tuples(st.just("leave"), WORKER),
    st.tuples(st.just("pass"), st.sampled_from(PASSING_S)),
    st.just(("settle",)),
)


@settings(max_examples=150)
@given(st.lists(EVENTS, max_size=60), st.booleans())
def test_whatever_happens(events: list[tuple[Any, ...]], is_cut_off: bool) -> None:
    asyncio.run(_live_through(events, is_cut_off))


def chance_events(chance: Random, count: int) -> list[tuple[Any, ...]]:
    """The same kinds of events, drawn a hundred times as fast."""

    def event() -> tuple[Any, ...]:
        number = chance.randrange(6)
        match chance.randrange(20):
            case 0 | 1 | 2:
                texts = chance.choices(TEXTS, [9, 9, 9, 1], k=chance.randint(1, 7))
                of = chance.choice(MODELS)
                return ("ask", of, texts, chance.choice(TTLS_S), chance.randrange(4))
            case 3 | 4:
                return ("chat", chance.choice(CHATS), chance.choice(TEXTS), chance.randint(1, 3))
            case 5:
                what = chance.choice(["preload", "unload", "pin", "unpin"])
                return (what, chance.choice(ANY))
            case 6:
                return ("retire", chance.choice(ANY), chance.random() < 0.5)
            case 7:
                return ("configure", chance.randint(1, 3), chance.choice([1.0, 100.0]))
            case 8:
                return ("cancel", chance.randrange(count))
            case 9:
                return ("stillborn", chance.randint(1, 3))
            case 10:
                return ("die", number, chance.choice(list(Failure)))
            case 11:
                return (chance.choice(["reject", "nonsense"]), number)
            case 12:
                return ("pass", chance.choice(PASSING_S))
            case 13 | 14:
                return ("ready", number)
            case 15 | 16 | 17:
                return ("work", number, chance.randint(1, 5))
            case 18:
                return ("leave", number)
            case _:
                return ("settle",)

    return [event() for _ in range(count)]


LIVES = [
    pytest.param(40, 100, id="quick"),
    pytest.param(8_500, 120, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(7200)]),
]


@pytest.fixture
def unlogged() -> Iterator[None]:
    """A million events would be kept as lines, in case that the test fails."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize(("lives", "events"), LIVES)
def test_many_lives(lives: int, events: int) -> None:
    for seed in range(lives):
        chance = Random(seed)
        try:
            asyncio.run(_live_through(chance_events(chance, events), chance.random() < 0.3))
        except BaseException:
            print(f"in the life with the seed {seed}")  # noqa: T201
            raise


async def _live_through(events: list[tuple[Any, ...]], is_cut_off: bool) -> None:
    """``is_cut_off``: the server stops in the middle of it."""
    world = World()
    # It takes 20 ms, and much longer where others compute: only what never ends shall fail.
    async with asyncio.timeout(120):
        async with world.pool:
            for event in events:
                world.apply(event)
                if event[0] == "settle":
                    await settle()
                else:
                    await asyncio.sleep(0)
                world.check()
            if not is_cut_off:
                await world.finish()
        assert world.workers.living == []
        if is_cut_off:
            await asyncio.wait([task for _, task in world.requests] or [_nothing()])
            world.check_ended()


def _nothing() -> "asyncio.Task[None]":
    return asyncio.ensure_future(asyncio.sleep(0))
