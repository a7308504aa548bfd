"""Gateways whose downloads are stand-ins, and the requests of a person who manages them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from mlx_serve_common.config import Config, ModelsConfig, ServerConfig
from tests.process.gateways import LIMIT_S, Answer, Gateway
from tests.store import ModelStore

KEY = "correct-horse"
STRANGER = {"X-Forwarded-For": "203.0.113.9"}
OWNER = STRANGER | {"Authorization": f"Bearer {KEY}"}


@contextmanager
def serving(home: Path, store: ModelStore, **models: Any) -> Iterator[Gateway]:
    config = Config(server=ServerConfig(admin_key=KEY), models=ModelsConfig(**models))
    stand_in = "tests.process.stand_in_job"
    with Gateway(home, store, config, STAND_IN_JOB=stand_in) as gateway:
        yield gateway


def ask(
    gateway: Gateway, method: str, path: str, headers: dict[str, str] | None = None, **body: Any
) -> Answer:
    return gateway.ask(method, path, msgspec.json.encode(body) if body else None, headers)


def loaded(gateway: Gateway) -> dict[str, Any]:
    return {model["name"]: model for model in ask(gateway, "GET", "/api/ps").json["models"]}


def starts(store: ModelStore, name: str) -> int:
    """How many jobs were started for this model."""
    path = store.models_dir / ".starts"
    lines = path.read_text().splitlines() if path.exists() else []
    return sum(f"--repo=org/{name} " in line for line in lines)


def jobs(gateway: Gateway, name: str) -> list[dict[str, Any]]:
    listed = ask(gateway, "GET", "/api/jobs").json["jobs"]
    return [job for job in listed if job["model"] == name]


def installed(gateway: Gateway) -> list[str]:
    return [model["name"] for model in ask(gateway, "GET", "/api/tags").json["models"]]


class Stream:
    """A pull that is listened to line by line."""

    def __init__(self, gateway: Gateway, **body: Any) -> None:
        self._client = httpx.Client(timeout=LIMIT_S)
        request = self._client.build_request(
            "POST", f"http://127.0.0.1:{gateway.port}/api/pull", json=body
        )
        self._response = self._client.send(request, stream=True)
        assert self._response.status_code == 200
        self._lines = self._response.iter_lines()

    def line(self) -> dict[str, Any]:
        return dict(msgspec.json.decode(next(self._lines)))

    def rest(self) -> list[dict[str, Any]]:
        lines = [msgspec.json.decode(line) for line in self._lines]
        self.leave()
        return lines

    def leave(self) -> None:
        self._response.close()
        self._client.close()


def go_on(store: ModelStore, name: str) -> None:
    (store.models_dir / f".go-{name}").touch()
