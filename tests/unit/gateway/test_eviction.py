"""Who has to leave so that another fits: idle ones in order of use, and never in vain."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlx_serve_common.models import ModelKind
from mlx_serve_gateway.eviction import (
    Evict,
    Fits,
    Never,
    Occupant,
    Room,
    Wait,
    make_room,
    next_to_yield,
)

GIB = 1024**3
EMBEDDING, RERANKER, CHAT = ModelKind.EMBEDDING, ModelKind.RERANKER, ModelKind.CHAT


def occupant(name: str, last_used: float = 0.0, **facts: Any) -> Occupant:
    defaults: dict[str, Any] = {
        "kind": EMBEDDING,
        "footprint_bytes": 1 * GIB,
        "is_idle": True,
        "is_pinned": False,
        "is_leaving": False,
    }
    return Occupant(name=name, last_used=last_used, **(defaults | facts))


def room(embedding: int = 2, reranker: int = 2, chat: int = 1, memory: float = 100) -> Room:
    slots = {EMBEDDING: embedding, RERANKER: reranker, CHAT: chat}
    return Room(slots, int(memory * GIB))


def decide(*occupants: Occupant, room: Room, kind: ModelKind = EMBEDDING, gib: float = 1) -> Any:
    return make_room(kind, int(gib * GIB), occupants, room)


def test_there_is_room() -> None:
    assert decide(occupant("a"), room=room(2)) == Fits()


def test_the_least_recently_used_leaves() -> None:
    assert decide(occupant("new", 2), occupant("old", 1), room=room(2)) == Evict(["old"])


def test_nobody_leaves_for_nothing() -> None:
    small = occupant("small", 1, footprint_bytes=1 * GIB, kind=RERANKER)
    large = occupant("large", 2, footprint_bytes=8 * GIB, kind=CHAT)
    assert decide(small, large, room=room(memory=10), gib=4) == Evict(["large"])


def test_a_busy_model_stays() -> None:
    busy = occupant("old", 1, is_idle=False)
    assert decide(occupant("new", 2), busy, room=room(2)) == Evict(["new"])


def test_a_pinned_model_stays() -> None:
    pinned = occupant("old", 1, is_pinned=True)
    assert decide(occupant("new", 2), pinned, room=room(2)) == Evict(["new"])


def test_nobody_is_evicted_while_one_is_leaving_anyway() -> None:
    leaving = occupant("old", 1, is_idle=False, is_leaving=True)
    assert decide(occupant("new", 2), leaving, room=room(2)) == Wait(for_busy=False)


def test_all_busy_means_waiting() -> None:
    busy = [occupant("a", is_idle=False), occupant("b", is_idle=False)]
    assert decide(*busy, room=room(2)) == Wait(for_busy=True)


def test_as_many_leave_as_the_memory_needs() -> None:
    occupants = [occupant("a", 1), occupant("b", 2), occupant("c", 3)]
    assert decide(*occupants, room=room(9, memory=3), gib=2) == Evict(["a", "b"])


def test_nothing_is_evicted_in_vain() -> None:
    occupants = [occupant("idle", 1), occupant("busy", 2, is_idle=False, footprint_bytes=2 * GIB)]
    assert decide(*occupants, room=room(9, memory=3), gib=2) == Wait(for_busy=True)


def test_another_kind_does_not_leave_for_a_slot() -> None:
    occupants = [occupant("chat", 1, kind=CHAT), occupant("a", 2), occupant("b", 3)]
    assert decide(*occupants, room=room(2)) == Evict(["a"])


def test_another_kind_leaves_when_memory_is_short() -> None:
    occupants = [occupant("chat", 1, kind=CHAT, footprint_bytes=8 * GIB), occupant("a", 2)]
    assert decide(*occupants, room=room(3, memory=9.5), gib=1) == Evict(["chat"])


def test_a_model_over_the_budget_never_fits_and_nobody_leaves() -> None:
    decision = decide(occupant("a"), room=room(memory=3), gib=4.5)

    assert isinstance(decision, Never)
    assert "4.50 GiB" in decision.message
    assert "3.00 GiB" in decision.message


def test_what_is_pinned_counts_against_the_budget() -> None:
    pinned = occupant("a", is_pinned=True, footprint_bytes=2 * GIB)
    decision = decide(pinned, room=room(memory=3), gib=1.5)

    assert isinstance(decision, Never)
    assert "1.50 GiB" in decision.message
    assert "1.00 GiB" in decision.message


def test_no_place_beside_pinned_models_never_fits() -> None:
    pinned = [occupant("a", is_pinned=True), occupant("b", is_pinned=True)]
    decision = decide(*pinned, room=room(2))

    assert isinstance(decision, Never)
    assert "at most 2" in decision.message
    assert "2 are pinned" in decision.message
    assert "max_embedding_models" in decision.message


def test_a_kind_without_places_never_fits() -> None:
    assert isinstance(decide(room=room(0)), Never)


def test_its_own_kind_gives_way_first() -> None:
    occupants = [
        occupant("chat", 1, kind=CHAT, is_idle=False),
        occupant("new", 3, is_idle=False),
        occupant("old", 2, is_idle=False),
    ]
    assert next_to_yield(EMBEDDING, occupants) == "old"
    assert next_to_yield(RERANKER, occupants) == "chat"


def test_pinned_and_leaving_models_do_not_give_way() -> None:
    occupants = [
        occupant("pinned", 1, is_pinned=True),
        occupant("leaving", 2, is_leaving=True),
    ]
    assert next_to_yield(EMBEDDING, occupants) is None


KINDS = st.sampled_from([EMBEDDING, RERANKER])
OCCUPANTS = st.lists(
    st.builds(
        Occupant,
        name=st.uuids().map(str),
        kind=KINDS,
        footprint_bytes=st.integers(1, 10),
        last_used=st.floats(0, 100),
        is_idle=st.booleans(),
        is_pinned=st.booleans(),
        is_leaving=st.booleans(),
    ),
    max_size=6,
)
ROOMS = st.builds(
    lambda embedding, reranker, memory: Room({EMBEDDING: embedding, RERANKER: reranker}, memory),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(1, 30),
)


@given(kind=KINDS, footprint=st.integers(1, 12), occupants=OCCUPANTS, room=ROOMS)
def test_decisions_are_right_whatever_is_there(
    kind: ModelKind, footprint: int, occupants: list[Occupant], room: Room
) -> None:
    def fits(present: list[Occupant]) -> bool:
        taken = [each for each in present if each.kind is kind]
        memory = sum(each.footprint_bytes for each in present)
        return len(taken) < room.slots[kind] and memory + footprint <= room.memory_bytes

    decision = make_room(kind, footprint, occupants, room)

    assert isinstance(decision, Fits) == fits(occupants)
    unmovable = [each for each in occupants if each.is_pinned and not each.is_leaving]
    assert isinstance(decision, Never) == (not fits(unmovable))
    staying = [each for each in occupants if not each.is_leaving]
    if isinstance(decision, Evict):
        chosen = [each for each in occupants if each.name in decision.names]
        assert all(each.is_idle and not (each.is_pinned or each.is_leaving) for each in chosen)
        assert fits([each for each in staying if each not in chosen])
        assert not fits(staying)
        for each in chosen:
            others = [other for other in chosen if other is not each]
            assert not fits([other for other in staying if other not in others]), "in vain"
    if isinstance(decision, Wait) and decision.for_busy:
        movable = [each for each in staying if each.is_idle and not each.is_pinned]
        assert not fits([each for each in staying if each not in movable])
