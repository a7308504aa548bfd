"""A call without a payload: all that a batcher looks at."""

from collections.abc import Sequence

from mlx_serve_common.wire import Detokenize, Part
from mlx_serve_gateway.calls import Call


class StubCall(Call):
    """``sizes`` are the characters of its items."""

    def __init__(self, sizes: Sequence[int], *, is_repeatable: bool = True) -> None:
        # Not the base class's: that one needs an event loop, for a future no batcher touches.
        self.sizes = list(sizes)
        self.size = len(sizes)
        self.first_id = 0
        self.sent = 0
        self.is_repeatable = is_repeatable

    def part(self, ids: Sequence[int]) -> Part:
        return Detokenize(list(ids), [[] for _ in ids])

    @property
    def ids(self) -> list[int]:
        return list(range(self.first_id, self.first_id + self.size))


def call(items: int, characters: int = 1, *, is_repeatable: bool = True) -> StubCall:
    return StubCall([characters] * items, is_repeatable=is_repeatable)
