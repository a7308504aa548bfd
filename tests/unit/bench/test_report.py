"""The table of a benchmark: medians of rounds, and who is better."""

import msgspec

from bench.loads.load import Row
from bench.report import Results
from bench.subjects import OURS

RATE = Row("load", "throughput", "texts/s", True)
DELAY = Row("load", "median", "ms")


def results() -> Results:
    found = Results([RATE, DELAY])
    for rate, delay in ((10, 4), (200, 2), (30, 3)):
        found.add(OURS, {RATE: rate, DELAY: delay})
    found.add("peer", {RATE: 15, DELAY: 6})
    return found


def test_a_round_that_was_disturbed_does_not_count() -> None:
    assert results().median(RATE, OURS) == 30


def test_a_ratio_above_one_is_better_whatever_is_measured() -> None:
    assert results().ratio(RATE, "peer") == 2
    assert results().ratio(DELAY, "peer") == 2


def test_who_was_not_measured_has_a_place_in_the_table() -> None:
    lines = results().table([OURS, "peer", "absent"]).splitlines()
    assert lines[2] == "| load | throughput | texts/s | 30 | 15 (x2.00) | - |"
    assert lines[3] == "| load | median | ms | 3 | 6 (x2.00) | - |"


def test_the_document_has_every_round() -> None:
    document = msgspec.json.decode(results().json([OURS, "peer"]))
    assert document["rows"][0]["subjects"][OURS]["rounds"] == [10, 200, 30]
    assert document["machine"]["mlx_serve"]
