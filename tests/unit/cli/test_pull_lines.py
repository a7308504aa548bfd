"""The lines of a server's pull as events of a job."""

from mlx_serve_common.events import JobEvent
from mlx_serve_gateway.cli.remote.pull_lines import PullLine, PullLines


def test_lines_are_events() -> None:
    told = PullLines("org/m")
    lines = [
        PullLine("pulling manifest"),
        PullLine("pulling config.json", 5, 5),
        PullLine("verifying", 9, 5),
        PullLine("verifying: loading the model"),
        PullLine("quantizing"),
        PullLine("success"),
        PullLine("of a later version"),
        PullLine(error="no"),
    ]
    assert [told.event(line, 0.0) for line in lines] == [
        JobEvent(status="resolving", detail="org/m"),
        JobEvent(status="downloading", detail="config.json", total=5, completed=5),
        JobEvent(status="verifying", total=9, completed=5),
        JobEvent(status="verifying", detail="loading the model"),
        JobEvent(status="quantizing"),
        JobEvent(status="success", detail="org/m"),
        JobEvent(),
        JobEvent(),
    ]


def test_the_rate_is_that_of_late() -> None:
    told = PullLines("m")
    rates = [
        told.event(PullLine("pulling a", 1000, completed), now).rate
        for now, completed in ((0, 0), (1, 100), (2, 200), (10, 200), (11, 700))
    ]
    assert rates == [None, 100, 100, None, 500]
    assert told.event(PullLine("pulling b", 1000, 900), 12).rate is None
