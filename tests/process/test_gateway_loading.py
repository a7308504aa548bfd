"""A load that does not get on, as people see it."""

import threading
from pathlib import Path
from typing import Any

import pytest

from mlx_serve_common.config import Config, LimitsConfig
from tests.process.gateways import Gateway
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process


def test_how_far_it_is_and_that_it_stands_still(short_dir: Path, store: ModelStore) -> None:
    store.add("m", read=0.42, never_ready=True)
    config = Config(limits=LimitsConfig(load_timeout=60, drain_timeout=0.1))
    with Gateway(short_dir, store, config) as gateway:

        def load() -> dict[str, Any]:
            worker = gateway.worker("m")
            return {} if worker is None or worker["load"] is None else dict(worker["load"])

        client = threading.Thread(target=gateway.embed, args=("m", "x"))
        client.start()
        until(lambda: load().get("stage") == "weights")
        seen = load()
        assert seen["done"] == 0.42
        until(lambda: load()["still_s"] > seen["still_s"])
        assert load()["for_s"] >= load()["still_s"]
        (listed,) = gateway.ask("GET", "/api/ps").json["models"]
        assert (listed["state"], listed["load"]["done"]) == ("loading", 0.42)
    client.join()
