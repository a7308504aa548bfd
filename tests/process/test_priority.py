"""Who waits for an answer goes before a load that nobody looks at."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from mlx_serve_common.config import BatchConfig, Config
from mlx_serve_worker.backends.fake import vector
from tests.process.gateways import Gateway
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process

BULK = [f"text {number} __sleep:0.1__" for number in range(12)]


@pytest.mark.parametrize(
    ("texts", "headers"),
    [(["query"], {}), ([f"query {n}" for n in range(9)], {"X-Priority": "interactive"})],
    ids=["small", "said to be interactive"],
)
def test_a_bulk_load_is_overtaken(
    texts: list[str], headers: dict[str, str], short_dir: Path, store: ModelStore
) -> None:
    store.add("m")
    config = Config(batch=BatchConfig(max_batch_size=1))
    with Gateway(short_dir, store, config) as gateway, ThreadPoolExecutor(2) as threads:
        gateway.assert_serves("m")
        worker = psutil.Process(gateway.worker_pid("m"))
        worker.suspend()
        bulk = threads.submit(gateway.embed, "m", BULK)
        until(lambda: gateway.waiting() == len(BULK))
        hurried = threads.submit(gateway.post, {"model": "m", "input": texts}, headers)
        until(lambda: gateway.waiting() == len(BULK) + len(texts))
        worker.resume()

        assert hurried.result().vectors() == list(map(vector, texts))
        # The worker had two thirds of it before the others came.
        assert gateway.waiting() > len(BULK) / 2
        assert not bulk.done()
        assert bulk.result().vectors() == list(map(vector, BULK))


def test_a_priority_is_interactive_or_bulk(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        body = {"model": "m", "input": "text"}
        for known in ("bulk", "Interactive"):
            assert gateway.post(body, {"X-Priority": known}).vectors() == [vector("text")]
        for unknown in ("high", "conversion"):
            refused = gateway.post(body, {"X-Priority": unknown})
            assert (refused.status, refused.code) == (400, "invalid_request")
            assert "interactive or bulk" in refused.json["error"]["message"]
