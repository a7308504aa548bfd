"""When a bulk load may compute on a device that several workers share. Pure: no clock, no page.

Invariants: somebody in a hurry never waits, and every bulk load gives way to them between two of
its micro-batches; ``places`` of them compute at the same time. One is due when it has waited for as
long as its last micro-batch took, so that half of the time is its own whatever is asked in a hurry.
Who has done the same for ``patience_s`` is no longer counted by others, and waits no longer itself:
a process that was stopped holds nobody up, and no wait is so long that it looks like a hang.
"""

from collections.abc import Iterable

from mlx_serve_common.turn_board import Claim, Doing


def may_compute(
    mine: Claim, claims: Iterable[Claim], now: float, *, places: float, patience_s: float
) -> bool:
    """``claims`` are those of all workers."""
    if now - mine.since >= patience_s:
        return True
    before_me = 0
    for claim in claims:
        if claim.line == mine.line or now - claim.since >= patience_s:
            continue
        if claim.doing is Doing.HURRYING:
            if now < mine.due:
                return False
        elif claim.doing is Doing.COMPUTING or _order(claim) < _order(mine):
            before_me += 1
    return before_me < places


def _order(claim: Claim) -> tuple[float, int]:
    return claim.due, claim.line
