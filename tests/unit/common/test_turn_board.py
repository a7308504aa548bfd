"""The page on which workers take turns: every line for itself, seen by all who have it open."""

import math
import os
import sys
import tempfile
from pathlib import Path
from typing import cast

import pytest

from mlx_serve_common.turn_board import LINES, NO_FILE, Claim, Doing, Told, TurnBoard, make_board


@pytest.fixture(params=["linux", "darwin"])
def descriptor(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> int:
    """Of a board as each system makes it."""
    monkeypatch.setattr(sys, "platform", request.param)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = make_board()
    assert list(tmp_path.iterdir()) == []
    return made


def test_what_one_says_the_others_see(descriptor: int) -> None:
    one, other = TurnBoard(descriptor), TurnBoard(descriptor)
    os.close(descriptor)
    both = [Claim(3, Doing.WAITING, 1.5, 2.5), Claim(LINES - 1, Doing.COMPUTING, 4.0, 4.0)]
    one.say(both[0])
    other.say(both[1])
    assert one.claims() == other.claims() == both
    one.say(Claim(3, Doing.NOTHING, 5.0, 5.0))
    assert other.claims() == both[1:]
    one.close()
    other.close()


def test_a_line_is_wiped_as_a_whole(descriptor: int) -> None:
    board = TurnBoard(descriptor)
    os.close(descriptor)
    told = Told(0.5, 2**40)
    for line in (6, 7, 8):
        board.say(Claim(line, Doing.COMPUTING, 1.0, 1.0))
        board.tell(line, told)
    board.clear(7)
    assert [claim.line for claim in board.claims()] == [6, 8]
    assert [board.told(line) for line in (6, 7, 8)] == [told, Told(0, 0), told]
    board.close()


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -1.0, 0.5, 99.0])
def test_a_worker_that_scribbles_on_its_line_disturbs_nobody(garbage: float) -> None:
    board = TurnBoard(NO_FILE)
    good = Claim(1, Doing.COMPUTING, 1.0, 1.0)
    board.say(good)
    board.say(Claim(2, cast(Doing, garbage), garbage, garbage))
    board.tell(2, Told(garbage, garbage))
    assert board.claims() == [good]
    assert len(board.told(2)) == 2
    board.close()
