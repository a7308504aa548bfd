"""Which library does which work."""

from collections.abc import Mapping

import pytest

from mlx_serve_gateway.blas import choice
from mlx_serve_gateway.blas.candidates import Candidate
from mlx_serve_gateway.blas.choice import chosen, fastest
from mlx_serve_gateway.blas.libraries import Kind
from mlx_serve_gateway.blas.measurement import Speed

OPENBLAS, BLIS, MKL = (Candidate(kind, f"/lib/{kind}.so", ()) for kind in Kind)


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    choice._chosen.cache_clear()
    choice._measurement.cache_clear()


class Measured:
    def __init__(self, speeds: Mapping[Candidate, Speed]) -> None:
        self.speeds = speeds


def given(
    monkeypatch: pytest.MonkeyPatch, *found: Candidate, speeds: Mapping[Candidate, Speed]
) -> list[int]:
    """How often it is measured."""
    measured: list[int] = []

    def measure(candidates: tuple[Candidate, ...]) -> Measured:
        measured.append(len(candidates))
        return Measured(speeds)

    monkeypatch.setattr(choice, "candidates", lambda environ: found)
    monkeypatch.setattr(choice, "Measurement", measure)
    return measured


@pytest.mark.parametrize("is_chat", [False, True])
def test_nothing_is_measured_without_a_question(
    is_chat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = given(monkeypatch, speeds={})
    assert chosen({}, is_chat=is_chat) is None
    given(monkeypatch, BLIS, speeds={})
    choice.begin({})
    assert chosen({}, is_chat=is_chat) is BLIS
    assert measured == []


def test_each_kind_of_work_gets_what_is_fastest_at_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    speeds = {OPENBLAS: Speed(few=7, many=85), BLIS: Speed(few=24, many=71)}
    measured = given(monkeypatch, OPENBLAS, BLIS, speeds=speeds)

    choice.begin({})
    assert chosen({}, is_chat=False) is OPENBLAS
    assert chosen({}, is_chat=True) is BLIS
    assert measured == [2]
    assert "chat models compute with BLIS" in caplog.text


def test_what_is_as_fast_does_not_replace_the_first() -> None:
    speeds = {OPENBLAS: Speed(few=20, many=80), BLIS: Speed(few=22, many=90)}
    assert fastest(speeds, is_chat=False) is OPENBLAS
    faster = {OPENBLAS: Speed(few=20, many=90), MKL: Speed(few=22, many=99)}
    assert fastest(faster, is_chat=True) is OPENBLAS


def test_for_chat_models_blis_is_the_first() -> None:
    speeds = {OPENBLAS: Speed(few=14, many=100), BLIS: Speed(few=12, many=100)}
    assert fastest(speeds, is_chat=True) is BLIS
    clearly_faster = {**speeds, OPENBLAS: Speed(few=18, many=100)}
    assert fastest(clearly_faster, is_chat=True) is OPENBLAS


def test_words_said_do_not_outweigh_all_that_is_read() -> None:
    speeds = {OPENBLAS: Speed(few=20, many=80), BLIS: Speed(few=40, many=8)}
    assert fastest(speeds, is_chat=True) is OPENBLAS


def test_what_computes_wrongly_is_not_taken() -> None:
    wrong = Speed(0, 0)
    assert fastest({OPENBLAS: wrong, BLIS: Speed(1, 1)}, is_chat=False) is BLIS
    assert fastest({OPENBLAS: Speed(1, 1), BLIS: wrong}, is_chat=True) is OPENBLAS


def test_where_nothing_could_be_measured_it_is_the_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given(monkeypatch, OPENBLAS, BLIS, speeds={OPENBLAS: Speed(0, 0)})
    assert chosen({}, is_chat=True) is OPENBLAS

    def fail(candidates: tuple[Candidate, ...]) -> Measured:
        raise OSError("no process")

    choice._chosen.cache_clear()
    choice._measurement.cache_clear()
    monkeypatch.setattr(choice, "Measurement", fail)
    assert chosen({}, is_chat=False) is OPENBLAS
    assert "no process" in caplog.text
