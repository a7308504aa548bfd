import pytest

from mlx_serve_common.events import JobEvent
from mlx_serve_gateway.cli.progress import progress


def test_lines_for_stages_and_tenths(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(quiet=False) as draw:
        for done in range(101):
            completed = done * 1_000_000
            draw(
                JobEvent(
                    status="copying", detail=f"w{done}.bin", completed=completed, total=100_000_000
                )
            )
        draw(JobEvent(status="verifying", detail="evil\x1b[2J\n!"))
        draw(JobEvent(status="success", model="a"))
        draw(JobEvent(error="not drawn: it ends the command"))

    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[:2] == ["copying", "copying 10% (10 MB/100 MB)"]
    assert lines[10:] == [
        "copying 100% (100 MB/100 MB)",
        "verifying evil\\x1b[2J\\n!",
        "success a",
    ]


def test_nothing_is_drawn_beside_json(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(quiet=True) as draw:
        draw(JobEvent(status="success"))
    assert capsys.readouterr() == ("", "")
