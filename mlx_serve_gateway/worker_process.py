"""A worker's process with the two pipes that tie it to us: its lifeline and its output.

Invariants: the sentinel knows the process until it is reaped; a process that was started before
there was a model for it is told when there is one.
"""

import os
import sys
from collections.abc import Callable, Mapping

import msgspec

from mlx_serve_common.launch import SPARE, LaunchSpec
from mlx_serve_common.turn_board import BOARD_FD
from mlx_serve_gateway.child import Child
from mlx_serve_gateway.output import Output
from mlx_serve_gateway.sentinel import Sentinel

_LIFELINE_FD = 3


class Surroundings(msgspec.Struct, frozen=True):
    """What every worker process of this gateway is started in."""

    env: Mapping[str, str]
    chat_env: Mapping[str, str]
    sentinel: Sentinel
    now: Callable[[], float]
    board: int
    """The descriptor of the board on which workers take turns."""


class WorkerProcess:
    def __init__(
        self, name: str, spec: LaunchSpec | None, surroundings: Surroundings, *, is_chat: bool
    ) -> None:
        """Without a ``spec`` it waits for one; raises ``OSError`` when it cannot be started."""
        self._spec = spec
        self._output = Output(name, surroundings.now)
        try:
            self.child, self._lifeline = self._spawn(surroundings, is_chat)
        except BaseException:
            self._output.close()
            raise
        finally:
            self._output.close_write_end()
        surroundings.sentinel.watch(self.child.pid)

    def _spawn(self, surroundings: Surroundings, is_chat: bool) -> tuple[Child, int]:
        argument = SPARE if self._spec is None else self._spec.model_path
        theirs, ours = os.pipe()
        try:
            child = Child(
                [sys.executable, "-P", "-m", "mlx_serve_worker", argument],
                surroundings.chat_env if is_chat else surroundings.env,
                {
                    1: self._output.write_end,
                    2: self._output.write_end,
                    _LIFELINE_FD: theirs,
                    BOARD_FD: surroundings.board,
                },
                before_reap=surroundings.sentinel.forget,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return child, ours

    def give(self, name: str, spec: LaunchSpec) -> None:
        """Tell a process that waits what it is to be."""
        assert self._spec is None
        self._output.name = name
        self._spec = spec

    def begin(self, token: bytes) -> None:
        """The last thing that is said down the lifeline."""
        assert self._spec is not None
        told = msgspec.json.encode(self._spec)
        os.write(self._lifeline, token + len(told).to_bytes(4, "big") + told)

    def close(self) -> None:
        """To be called when the process has ended."""
        os.close(self._lifeline)
        self._output.close()
