"""Inputs that killed a worker are refused for ten minutes, and nothing else is."""

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.calls import (
    DetokenizeCall,
    EmbedCall,
    EmbedOptions,
    RerankCall,
    TokenizeCall,
)
from mlx_serve_gateway.quarantine import KEPT_S, MOST, Quarantine


def embed(*texts: str) -> EmbedCall:
    return EmbedCall(list(texts), EmbedOptions())


def quarantined(text: str, now: float = 0.0) -> Quarantine:
    quarantine = Quarantine()
    quarantine.add(embed(text).fingerprint(0), now)
    return quarantine


async def test_a_killer_is_refused_and_named() -> None:
    with pytest.raises(ServeError) as raised:
        quarantined("poison").check(embed("fine", "poison"), 1.0)

    assert raised.value.code is ErrorCode.REQUEST_QUARANTINED
    assert raised.value.param == "input"
    assert "input 1" in raised.value.message


async def test_others_are_let_in() -> None:
    quarantined("poison").check(embed("fine", "poison "), 1.0)


async def test_the_way_of_asking_makes_no_difference() -> None:
    options = EmbedOptions(encoding="base64", truncate="none")
    with pytest.raises(ServeError):
        quarantined("poison").check(EmbedCall(["poison"], options), 1.0)


async def test_it_is_forgotten_after_a_while() -> None:
    quarantine = quarantined("poison")

    with pytest.raises(ServeError):
        quarantine.check(embed("poison"), KEPT_S - 0.001)
    quarantine.check(embed("poison"), KEPT_S)


async def test_killing_again_renews_it() -> None:
    quarantine = quarantined("poison")
    quarantine.add(embed("poison").fingerprint(0), 500.0)

    with pytest.raises(ServeError):
        quarantine.check(embed("poison"), KEPT_S + 1)


async def test_the_oldest_makes_place_for_the_newest() -> None:
    quarantine = Quarantine()
    for number in range(MOST + 1):
        quarantine.add(embed(str(number)).fingerprint(0), 0.0)

    quarantine.check(embed("0"), 1.0)
    for kept in ("1", str(MOST)):
        with pytest.raises(ServeError):
            quarantine.check(embed(kept), 1.0)


async def test_what_is_not_the_same_input_has_another_fingerprint() -> None:
    fingerprints = [
        embed("a").fingerprint(0),
        embed("b").fingerprint(0),
        EmbedCall([[1, 2]], EmbedOptions()).fingerprint(0),
        EmbedCall([[12]], EmbedOptions()).fingerprint(0),
        RerankCall("q", ["a"], None, "right").fingerprint(0),
        RerankCall("qa", [""], None, "right").fingerprint(0),
    ]

    assert len(set(fingerprints)) == len(fingerprints)


async def test_every_kind_of_call_has_one() -> None:
    calls = [TokenizeCall(["a"], special=True), DetokenizeCall([[1]])]

    assert all(len(call.fingerprint(0)) == 32 for call in calls)


async def test_a_suspect_is_refused_when_it_was_there_twice() -> None:
    quarantine = Quarantine()
    suspect = embed("poison")
    quarantine.suspect(suspect.fingerprint(0), 0.0)
    quarantine.check(suspect, 1.0)
    quarantine.suspect(embed("other").fingerprint(0), 1.0)
    quarantine.check(suspect, 1.0)
    quarantine.suspect(suspect.fingerprint(0), 2.0)
    with pytest.raises(ServeError):
        quarantine.check(suspect, 3.0)


async def test_a_suspicion_is_forgotten() -> None:
    quarantine = Quarantine()
    suspect = embed("poison")
    quarantine.suspect(suspect.fingerprint(0), 0.0)
    quarantine.suspect(suspect.fingerprint(0), KEPT_S + 1)
    quarantine.check(suspect, KEPT_S + 2)


async def test_suspicions_are_bounded() -> None:
    quarantine = Quarantine()
    for number in range(MOST + 1):
        quarantine.suspect(embed(str(number)).fingerprint(0), 0.0)
    quarantine.suspect(embed("0").fingerprint(0), 0.0)
    quarantine.check(embed("0"), 1.0)
