"""/metrics on a second port: served there beside the first, and missed by nobody when it is not."""

import http.client
import socket
from pathlib import Path

import pytest

from mlx_serve_common.config import Config, MetricsConfig, ServerConfig
from tests.process.gateways import LIMIT_S, Gateway
from tests.store import ModelStore

pytestmark = pytest.mark.process


def get(port: int, path: str, host: str = "127.0.0.1", key: str | None = None) -> tuple[int, bytes]:
    headers = {"Host": host}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_the_same_is_served_there_and_nothing_else(short_dir: Path, store: ModelStore) -> None:
    port = free_port()
    store.add("a")
    with Gateway(short_dir, store, Config(metrics=MetricsConfig(enabled=False, port=port))) as here:
        here.assert_serves("a")
        status, body = get(port, "/metrics")
        assert status == 200
        assert b'mlx_serve_requests_total{endpoint="/v1/embeddings",status="200"} 1\n' in body
        assert get(port, "/v1/models")[0] == 404
        assert get(port, "/metrics", "evil.example")[0] == 403
        assert here.ask("GET", "/metrics").status == 404
    with pytest.raises(ConnectionRefusedError):
        get(port, "/metrics")


def test_it_asks_for_the_key_where_everything_does(short_dir: Path, store: ModelStore) -> None:
    port = free_port()
    server = ServerConfig(control_plane="key", admin_key="correct-horse")
    with Gateway(short_dir, store, Config(server=server, metrics=MetricsConfig(port=port))):
        assert get(port, "/metrics")[0] == 401
        assert get(port, "/metrics", key="correct-horse")[0] == 200


def test_a_port_that_is_taken_is_no_failure(short_dir: Path, store: ModelStore) -> None:
    store.add("a")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Gateway(short_dir, store, Config(metrics=MetricsConfig(port=port))) as here:
            here.assert_serves("a")
            assert here.ask("GET", "/metrics").status == 200
            assert f"WARNING gateway.metrics_port /metrics is not served on port {port}: " in (
                here.log()
            )
