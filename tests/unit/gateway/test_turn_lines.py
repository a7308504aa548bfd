"""Lines of the board: one for each worker, wiped when it has ended."""

from collections.abc import Iterator

import pytest

from mlx_serve_common.turn_board import LINES, Claim, Doing, Told, TurnBoard
from mlx_serve_gateway.turn_lines import TurnLines


@pytest.fixture
def lines() -> Iterator[TurnLines]:
    lines = TurnLines()
    yield lines
    lines.close()


def test_each_has_its_own_and_leaves_nothing_on_it(lines: TurnLines) -> None:
    assert [lines.claim(model) for model in "abc"] == [0, 1, 2]
    worker = TurnBoard(lines.descriptor)
    worker.say(Claim(1, Doing.COMPUTING, 1.0, 1.0))
    worker.tell(1, Told(1.5, 2**40))
    assert lines.told("b") == Told(1.5, 2**40)
    lines.free("b")
    assert lines.told("b") is None
    assert worker.claims() == []
    assert lines.claim("d") == 1
    assert lines.told("d") == Told(0, 0)
    worker.close()


def test_there_is_an_end_to_them(lines: TurnLines) -> None:
    assert [lines.claim(f"m{n}") for n in range(LINES)] == list(range(LINES))
    assert lines.claim("one more") is None
    assert lines.told("one more") is None
    lines.free("one more")
    lines.free("m7")
    assert lines.claim("one more") == 7
