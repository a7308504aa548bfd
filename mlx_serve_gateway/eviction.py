"""Which model has to leave so that another fits. Pure decisions over plain data.

Invariants: a model that is busy, pinned or still loading is never chosen; the least recently used
leaves first; nothing is chosen for a model that could not fit even then.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from mlx_serve_common.models import ModelKind

_GIB = 1024**3


class Occupant(msgspec.Struct, frozen=True, kw_only=True):
    """A model that has a process now."""

    name: str
    kind: ModelKind
    footprint_bytes: int
    last_used: float
    is_idle: bool
    is_pinned: bool
    is_leaving: bool


class Room(msgspec.Struct, frozen=True):
    """How many models of each kind may be in memory, and how much they may take together."""

    slots: Mapping[ModelKind, int]
    memory_bytes: int


class Fits(msgspec.Struct, frozen=True):
    pass


class Evict(msgspec.Struct, frozen=True):
    names: Sequence[str]


class Wait(msgspec.Struct, frozen=True):
    """Room will come: a process is on its way out, or a busy model will fall idle."""

    for_busy: bool


class Never(msgspec.Struct, frozen=True):
    message: str


Decision = Fits | Evict | Wait | Never


def make_room(
    kind: ModelKind, footprint: int, occupants: Iterable[Occupant], room: Room
) -> Decision:
    occupants = list(occupants)
    if _fits(kind, footprint, occupants, room):
        return Fits()
    staying = [occupant for occupant in occupants if not occupant.is_leaving]
    if _fits(kind, footprint, staying, room):
        return Wait(for_busy=False)
    evicted: list[Occupant] = []
    for occupant in sorted(staying, key=lambda occupant: occupant.last_used):
        if not _may_leave(occupant) or not _helps(occupant, kind, footprint, staying, room):
            continue
        staying.remove(occupant)
        evicted.append(occupant)
        if _fits(kind, footprint, staying, room):
            return Evict([each.name for each in _needed(evicted, kind, footprint, staying, room)])
    pinned = [occupant for occupant in staying if occupant.is_pinned]
    if _fits(kind, footprint, pinned, room):
        return Wait(for_busy=True)
    return Never(_why_never(kind, footprint, pinned, room))


def next_to_yield(kind: ModelKind, occupants: Iterable[Occupant]) -> str | None:
    """A busy model that gives way after its running work, when another has waited long enough."""
    candidates = [
        occupant for occupant in occupants if not occupant.is_pinned and not occupant.is_leaving
    ]
    if not candidates:
        return None
    # Its own kind first: that frees a slot as well as memory.
    return min(candidates, key=lambda o: (o.kind != kind, o.last_used)).name


def _may_leave(occupant: Occupant) -> bool:
    return occupant.is_idle and not occupant.is_pinned


def _helps(
    occupant: Occupant, kind: ModelKind, footprint: int, staying: Sequence[Occupant], room: Room
) -> bool:
    """Another kind's model gives back memory, but no slot."""
    return occupant.kind == kind or _memory(staying) + footprint > room.memory_bytes


def _needed(
    evicted: Sequence[Occupant],
    kind: ModelKind,
    footprint: int,
    staying: Sequence[Occupant],
    room: Room,
) -> list[Occupant]:
    """Those without whose leaving it does not fit: one chosen later may have made room enough."""
    needed = list(evicted)
    for occupant in reversed(evicted):
        others = [each for each in needed if each is not occupant]
        kept = [each for each in evicted if each not in others]
        if _fits(kind, footprint, [*staying, *kept], room):
            needed = others
    return needed


def _fits(kind: ModelKind, footprint: int, occupants: Sequence[Occupant], room: Room) -> bool:
    taken = sum(occupant.kind == kind for occupant in occupants)
    return taken < room.slots[kind] and _memory(occupants) + footprint <= room.memory_bytes


def _memory(occupants: Iterable[Occupant]) -> int:
    return sum(occupant.footprint_bytes for occupant in occupants)


def _why_never(kind: ModelKind, footprint: int, pinned: Sequence[Occupant], room: Room) -> str:
    needed = footprint / _GIB
    free = (room.memory_bytes - _memory(pinned)) / _GIB
    if footprint > room.memory_bytes - _memory(pinned):
        return (
            f"the model needs {needed:.2f} GiB of memory and {max(free, 0):.2f} GiB are available "
            f"to it; raise cache.memory_budget or use a smaller model"
        )
    taken = sum(occupant.kind == kind for occupant in pinned)
    return (
        f"the model needs a place among at most {room.slots[kind]} {kind} models in memory, and "
        f"{taken} are pinned or preloaded; raise cache.max_{kind}_models or name fewer"
    )
