"""The table of a soak: who grows, by how much, and who was not there for long enough to say."""

from bench.soak.growth import Sample
from bench.soak.samples import DESCRIPTORS, GATEWAY, MEMORY, Series
from bench.soak.verdict import lines, table

TOTAL_S, WARM_UP_S = 3600.0, 600.0


def series(per_hour: float, until_s: float = TOTAL_S) -> list[Sample]:
    times = [10.0 * number for number in range(int(until_s / 10))]
    # It settles first, which is no growth.
    return [Sample(at, min(at, 300) + per_hour * at / 3600) for at in times]


def test_who_grows_is_told() -> None:
    found = {
        Series(GATEWAY, 1, MEMORY): series(6),
        Series("steady", 2, MEMORY): series(6),
        Series("leaking", 3, MEMORY): series(20),
        Series("left", 4, MEMORY): series(900, until_s=2000),
        Series("steady", 2, DESCRIPTORS): series(0),
        Series("leaking", 3, DESCRIPTORS): series(4),
    }
    judged = list(lines(found, warm_up_s=WARM_UP_S))
    verdicts = {(line.process, line.measure): line.grows for line in judged}
    assert verdicts == {
        (GATEWAY, MEMORY): True,
        ("steady", MEMORY): False,
        ("leaking", MEMORY): True,
        ("steady", DESCRIPTORS): False,
        ("leaking", DESCRIPTORS): True,
    }
    told = table(judged)
    assert "| leaking | memory, MiB | " in told and "| GROWS |" in told


def test_a_few_seconds_say_nothing_of_growth() -> None:
    times = [0.1 * number for number in range(100)]
    found = {
        Series(GATEWAY, 1, measure): [Sample(at, at) for at in times]
        for measure in (MEMORY, DESCRIPTORS)
    }
    judged = list(lines(found, warm_up_s=3))
    assert [line.growth for line in judged] == ["too short to say"] * 2
    assert not any(line.grows for line in judged)
