"""A model's state in a few words."""

import pytest

from mlx_serve_gateway.cli.gateway_client import LoadReport
from mlx_serve_gateway.cli.worker_state import state_text


@pytest.mark.parametrize(
    ("state", "load", "text"),
    [
        ("ready", None, "ready"),
        ("loading", None, "loading"),
        ("loading", LoadReport("files"), "loading files"),
        ("loading", LoadReport("weights", 0.424, 9.9), "loading 42%"),
        ("loading", LoadReport("weights", 0.0, 31), "loading 0%, still for 31s"),
        ("leaving", LoadReport("weights", 0.5, 31), "leaving"),
    ],
)
def test_state(state: str, load: LoadReport | None, text: str) -> None:
    assert state_text(state, load) == text
