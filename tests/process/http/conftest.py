"""A gateway with short deadlines, and what every client has to leave as it was."""

from collections.abc import Iterator

import psutil
import pytest

from mlx_serve_common.config import CacheConfig, Config, LimitsConfig
from mlx_serve_common.models import ModelKind
from tests.process.gateways import Gateway
from tests.process.homes import Home
from tests.waiting import until

HEALTHY_S = 0.25
"""What nine of ten probes take at most; one alone may meet a machine that is busy otherwise."""
CONFIG = Config(
    cache=CacheConfig(max_chat_models=2),
    limits=LimitsConfig(
        header_timeout=0.3, body_timeout=0.9, idle_timeout=1, max_body_bytes=100_000
    ),
)


@pytest.fixture(scope="package")
def shared() -> Iterator[Gateway]:
    with Home() as home:
        home.store.add("m", max_tokens=8)
        home.store.add("chat", ModelKind.CHAT, step_s=0.01)
        home.store.add("fast", ModelKind.CHAT)
        with Gateway(home.path, home.store, CONFIG) as gateway:
            gateway.assert_serves("m")
            for name in (b"chat", b"fast"):
                body = b'{"model":"%s","prompt":"a"}' % name
                assert gateway.ask("POST", "/v1/completions", body).status == 200
            yield gateway


@pytest.fixture
def gateway(shared: Gateway) -> Iterator[Gateway]:
    """Whatever a client does: the same process serves on, and keeps nothing of it."""
    process = psutil.Process(shared.pid)
    until(lambda: connections(shared) == 0)
    before = process.num_fds()
    yield shared
    shared.assert_serves("m")
    until(lambda: shared.waiting() == 0)
    until(lambda: connections(shared) == 0, what="the closing of every connection")
    assert process.num_fds() <= before


def assert_healthy(gateway: Gateway) -> None:
    took_s = sorted(gateway.ask("GET", "/health").took_s for _ in range(50))
    assert took_s[44] < HEALTHY_S


def connections(gateway: Gateway) -> int:
    """Those that the gateway holds."""
    held = psutil.Process(gateway.pid).net_connections("tcp")
    return sum(
        each.laddr.port == gateway.port and each.status != psutil.CONN_LISTEN for each in held
    )
