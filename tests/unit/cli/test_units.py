from datetime import UTC, datetime

import pytest

from mlx_serve_gateway.cli.units import age_text, duration_text, size_text

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (87_412_000, "87 MB"),
        (999_600, "1.0 MB"),
        (9_949, "9.9 kB"),
        (9_960, "10 kB"),
        (1_190_000_000, "1.2 GB"),
        (24_000_000_000, "24 GB"),
        (2_500_000_000_000, "2.5 TB"),
    ],
)
def test_size(size_bytes: int | None, text: str) -> None:
    assert size_text(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0.9, "0s"),
        (61, "1m 1s"),
        (3_600, "1h 0m"),
        (3 * 86_400 + 4 * 3_600 + 59, "3d 4h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("then", "text"),
    [
        ("2026-11-21T12:00:00Z", "just now"),
        ("2026-11-21T12:05:00Z", "just now"),
        ("2026-11-21T11:59:00Z", "1 minute ago"),
        ("2026-11-21T10:00:00", "2 hours ago"),
        ("2026-11-18T13:00:00+01:00", "3 days ago"),
        ("yesterday", "-"),
    ],
)
def test_age(then: str, text: str) -> None:
    assert age_text(then, NOW) == text
