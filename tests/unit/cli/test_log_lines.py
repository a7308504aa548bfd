"""The last lines of a log, and those to come, across its rotation."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from mlx_serve_gateway.cli.log_lines import following_lines, last_lines


def logged(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def last(path: Path, wanted: int) -> list[str]:
    with path.open("rb") as log:
        return [line.decode() for line in last_lines(log, path, wanted)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "x.log"
    (tmp_path / "x.log.2").write_text("1\n2\n")
    (tmp_path / "x.log.1").write_text("3\n4\n")
    path.write_text("5\n6\n")
    return path


@pytest.mark.parametrize("wanted", range(8))
def test_last_lines_reach_into_rotated_files(log: Path, wanted: int) -> None:
    everything = [f"{number}\n" for number in range(1, 7)]
    assert last(log, wanted) == everything[max(0, 6 - wanted) :]


def test_an_unfinished_line_is_left_for_later(log: Path) -> None:
    logged(log, "half")
    with log.open("rb") as file:
        assert last_lines(file, log, 2) == [b"5\n", b"6\n"]
        assert file.read() == b"half"


class Writing:
    """What happens to the log, one step each time the follower has to wait."""

    def __init__(self, log: Path, steps: Sequence[Callable[[], object]]) -> None:
        self._steps = [*steps]
        self._file = log.open("rb")
        self._lines = following_lines(self._file, log, self._next)

    def _next(self) -> None:
        if not self._steps:
            raise StopWaiting
        self._steps.pop(0)()

    def seen(self) -> list[str]:
        return [line.decode() for line in self._until_idle()]

    def _until_idle(self) -> Iterator[bytes]:
        try:
            yield from self._lines
        except StopWaiting:
            return
        finally:
            self._file.close()


class StopWaiting(Exception):
    pass


def test_following(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("a\n")
    steps = [lambda: logged(log, "b\nhal"), lambda: logged(log, "f\n"), lambda: logged(log, "c\n")]
    assert Writing(log, steps).seen() == ["a", "b", "half", "c"]


def test_following_across_a_rotation(tmp_path: Path) -> None:
    log, old = tmp_path / "x.log", tmp_path / "x.log.1"
    log.write_text("a\n")

    def succeed() -> None:
        logged(old, "c\nhal")  # its writer has not turned yet
        log.write_text("d\n")

    steps: list[Callable[[], object]] = [
        lambda: logged(log, "b\n"),
        lambda: log.rename(old),
        succeed,
        lambda: logged(old, "f\n"),
        lambda: logged(log, "e\n"),
    ]
    assert Writing(log, steps).seen() == ["a", "b", "c", "half", "d", "e"]


def test_following_a_log_that_is_emptied(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("a\nb\n")
    steps = [lambda: log.write_text(""), lambda: logged(log, "c\n")]
    assert Writing(log, steps).seen() == ["a", "b", "c"]
