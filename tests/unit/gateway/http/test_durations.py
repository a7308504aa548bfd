"""keep_alive: what Ollama accepts, and nothing else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.durations import keep_alive_s, nanoseconds


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None),
        (0, 0),
        (0.5, 0.5),
        (300, 300),
        (-1, math.inf),
        (-0.001, math.inf),
        (1e300, math.inf),
        ("0", 0),
        ("+0", 0),
        ("-0", 0),
        ("0s", 0),
        ("5m", 300),
        ("1h30m", 5400),
        ("300ms", 0.3),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1.s", 1),
        ("2m3.5s", 123.5),
        ("3us", 3e-6),
        ("3µs", 3e-6),
        ("3μs", 3e-6),
        ("40ns", 4e-8),
        ("+5m", 300),
        ("-1m", math.inf),
        ("-1ns", math.inf),
        ("1s1s", 2),
    ],
)
def test_what_is_understood(given: float | str | None, seconds: float | None) -> None:
    assert keep_alive_s(given) == seconds


@pytest.mark.parametrize(
    "given",
    [
        "", "300", "-300", "5", " 5m", "5m ", "5 m", "5M", "m", ".s", "-", "--1m", "1h-30m", "1d",
        "forever", "1e3s", "0x5s", "\u0661s", "5m\n", "99999999h", "1s" * 100, "5mm", "s5",
    ],
)  # fmt: skip
def test_what_is_refused(given: str) -> None:
    with pytest.raises(ServeError) as told:
        keep_alive_s(given)
    assert told.value.code is ErrorCode.INVALID_REQUEST
    assert told.value.param == "keep_alive"
    assert len(told.value.message) < 250


@given(st.text(alphabet="0123456789.+-hmsnuµ x", max_size=12))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        seconds = keep_alive_s(text)
    except ServeError:
        return
    assert seconds is not None
    assert seconds >= 0


def test_nanoseconds_are_whole_and_never_negative() -> None:
    assert nanoseconds(1.5) == 1_500_000_000
    assert nanoseconds(-0.1) == 0
    assert isinstance(nanoseconds(0.1234567891234), int)
