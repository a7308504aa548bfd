"""``traceparent``: exactly as the standard has it, or nothing."""

import pytest

from mlx_serve_gateway.http.trace_context import trace_id_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
RIGHT = f"00-{TRACE}-00f067aa0ba902b7-01"


def found(*values: str | bytes) -> str | None:
    given = [each if isinstance(each, bytes) else each.encode() for each in values]
    return trace_id_of([(b"host", b"x"), *((b"traceparent", value) for value in given)])


@pytest.mark.parametrize(
    "value",
    [
        RIGHT,
        f" {RIGHT}\t",
        RIGHT.replace("-01", "-ff"),
        RIGHT.replace("00-", "01-", 1),
        RIGHT.replace("00-", "cc-", 1) + "-what-comes-later",
    ],
)
def test_a_trace_is_found(value: str) -> None:
    assert found(value) == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "",
        TRACE,
        RIGHT.upper(),
        RIGHT.replace("00-", "ff-", 1),
        f"{RIGHT}-more",
        f"{RIGHT}\n",
        f"{RIGHT}\x1b[2J",
        RIGHT[:-1],
        RIGHT + "0",
        RIGHT.replace(TRACE, "0" * 32),
        RIGHT.replace("00f067aa0ba902b7", "0" * 16),
        RIGHT.replace("4", "g"),
        RIGHT.replace("-", "_"),
        f"cc-{TRACE}-00f067aa0ba902b7-01-" + "x" * 500,
        b"\xff" + RIGHT.encode(),
        "\u0660\u0660" + RIGHT[2:],
    ],
)
def test_what_is_not_right_is_nothing(value: str | bytes) -> None:
    assert found(value) is None


def test_two_are_nobodys() -> None:
    assert found() is None
    assert found(RIGHT, RIGHT) is None
