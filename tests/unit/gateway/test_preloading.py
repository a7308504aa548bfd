"""What is to be in memory from the start: loaded, fetched first, or told to be missing."""

import pytest

from mlx_serve_common.config import Config, ModelsConfig
from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import JobEvent
from mlx_serve_gateway.downloads import Downloads
from mlx_serve_gateway.jobs import Jobs
from mlx_serve_gateway.lifecycle import Lifecycle
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.preloading import Preloading, installed_names
from mlx_serve_gateway.registry import Registry
from tests.clock import FakeClock
from tests.store import ModelStore
from tests.unit.gateway.fake_jobs import Runs
from tests.unit.gateway.fake_workers import FakeWorkers, settle
from tests.unit.gateway.pools import make_pool

REPO = "--repo=org/tiny"


class Server:
    """As much of one as preloading needs."""

    def __init__(
        self, store: ModelStore, jobs: Jobs, pool: Pool, clock: FakeClock, config: ModelsConfig
    ) -> None:
        self.lifecycle = Lifecycle("test", clock)
        registry = Registry(store.models_dir, {})
        downloads = Downloads(Config(models=config), registry, jobs)
        self.preloading = Preloading(config, registry, pool, downloads, self.lifecycle)


async def test_what_is_here_is_loaded_once(
    store: ModelStore, jobs: Jobs, workers: FakeWorkers, clock: FakeClock
) -> None:
    model = store.add("a")
    config = ModelsConfig(pin=("a",), preload=("a", "A"))
    async with (
        make_pool(workers, clock) as pool,
        Server(store, jobs, pool, clock, config).preloading,
    ):
        await settle()
        assert workers.count(model) == 1


async def test_what_is_not_here_is_fetched_and_then_loaded(
    store: ModelStore, jobs: Jobs, runs: Runs, workers: FakeWorkers, clock: FakeClock
) -> None:
    config = ModelsConfig(preload=("org/tiny",), auto_download_on_request=False)
    async with make_pool(workers, clock) as pool:
        server = Server(store, jobs, pool, clock, config)
        async with server.preloading:
            await settle()
            assert server.lifecycle.preload_errors == {"org/tiny": "it is being downloaded"}
            model = store.add("tiny", source="org/tiny")
            await runs.end(REPO, JobEvent(status="success", model="tiny"))

            assert server.lifecycle.preload_errors == {}
            assert workers.count(model) == 1


async def test_a_download_that_fails_is_told(
    store: ModelStore, jobs: Jobs, runs: Runs, workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        server = Server(store, jobs, pool, clock, ModelsConfig(preload=("org/tiny",)))
        async with server.preloading:
            await settle()
            await runs.end(REPO, JobEvent(error="no network", code=ErrorCode.UPSTREAM_ERROR))

            assert server.lifecycle.preload_errors == {"org/tiny": "no network"}


@pytest.mark.parametrize(
    ("name", "auto_download"), [("org/tiny", False), ("tiny", True), ("a/b/c", True)]
)
async def test_what_is_not_to_be_fetched_is_told(
    store: ModelStore,
    jobs: Jobs,
    runs: Runs,
    workers: FakeWorkers,
    clock: FakeClock,
    name: str,
    auto_download: bool,
) -> None:
    config = ModelsConfig(preload=(name,), auto_download=auto_download)
    async with make_pool(workers, clock) as pool:
        server = Server(store, jobs, pool, clock, config)
        async with server.preloading:
            await settle()

            assert "not found" in server.lifecycle.preload_errors[name]
            assert runs.started == []


async def test_the_servers_stop_does_not_wait_for_a_download(
    store: ModelStore, jobs: Jobs, runs: Runs, workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        server = Server(store, jobs, pool, clock, ModelsConfig(preload=("org/tiny",)))
        async with server.preloading:
            await settle()


def test_pinned_models_go_by_the_name_they_will_have(store: ModelStore) -> None:
    store.add("a", source="org/a")
    registry = Registry(store.models_dir, {"mine": "org/tiny"})
    names = ["org/a", "mine", "bge-small", "unknown"]

    assert installed_names(names, registry) == ["a", "tiny", "bge-small-en-v1.5", "unknown"]
