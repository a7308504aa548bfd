import pytest
from rich.cells import cell_len

from mlx_serve_common.events import JobEvent
from mlx_serve_gateway.cli.progress import fitting, progress, stage_text


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


def test_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(quiet=False) as draw:
        for completed in (50_000_000, 100_000_000):
            draw(
                JobEvent(
                    status="downloading", total=100_000_000, completed=completed, rate=1_000_000
                )
            )
    assert capsys.readouterr().err.splitlines() == [
        "downloading 50% (50 MB/100 MB 1.0 MB/s 50s)",
        "downloading 100% (100 MB/100 MB 1.0 MB/s)",
    ]


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ("model.safetensors", "downloading model.safetensors"),
        ("x" * 30, "downloading " + "x" * 30),
        (
            "0_Transformer/model-00001-of-00004.safetensors",
            "downloading …el-00001-of-00004.safetensors",
        ),
        ("한국어-문장-임베딩-모델.safetensors", "downloading …-문장-임베딩-모델.safetensors"),
    ],
)
def test_long_names_leave_room(detail: str, expected: str) -> None:
    found = fitting(stage_text(JobEvent(status="downloading", detail=detail)), 42)
    assert found == expected
    assert cell_len(found) <= 42
