"""What a server is made of but for HTTP: put together in order, taken apart in reverse.

Invariants: whatever ends the block, no process of ours is left; leftovers of a server that was
killed are swept before anything starts.
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic

import zmq

from mlx_serve_common.config import Config
from mlx_serve_common.paths import run_directory
from mlx_serve_common.store import Store, sweep_staging
from mlx_serve_gateway import sockets
from mlx_serve_gateway.downloads import Downloads
from mlx_serve_gateway.event_log import EventLog
from mlx_serve_gateway.handle import Timeouts, WorkerHandle, WorkerHost
from mlx_serve_gateway.job_process import PROGRAM, JobHost, run_job
from mlx_serve_gateway.jobs import Jobs
from mlx_serve_gateway.lifecycle import Lifecycle
from mlx_serve_gateway.metrics import Metrics
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.pool_metrics import PoolMetrics
from mlx_serve_gateway.pool_settings import pool_settings
from mlx_serve_gateway.preloading import Preloading
from mlx_serve_gateway.registry import Registry
from mlx_serve_gateway.sentinel import Sentinel
from mlx_serve_gateway.server_events import Event
from mlx_serve_gateway.services import Controls, Services
from mlx_serve_gateway.spare import Spare
from mlx_serve_gateway.tracing import tracing_from
from mlx_serve_gateway.turn_lines import TurnLines
from mlx_serve_gateway.worker_env import pull_environment, worker_environment
from mlx_serve_gateway.worker_process import Surroundings

log = logging.getLogger(__name__)

_CHAT_BACKEND = "generator"


@asynccontextmanager
async def composed(
    config: Config, home: Path, instance: str, controls: Controls
) -> AsyncIterator[Services]:
    run_dir = run_directory(home)
    sockets.sweep_dead(run_dir)
    _sweep_store(Path(config.models.directory))
    registry = Registry(Path(config.models.directory), config.models.aliases)
    turns = TurnLines()
    sentinel = Sentinel()
    sentinel.start()
    tag = {"MLX_SERVE_INSTANCE": instance}
    surroundings = Surroundings(
        env=worker_environment() | tag,
        chat_env=worker_environment(is_chat=True) | tag,
        sentinel=sentinel,
        now=monotonic,
        board=turns.descriptor,
    )
    spare = Spare(surroundings, lambda: config.chat.spare and _has_chat_model(registry))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
    host = _worker_host(config, context, run_dir, surroundings, spare, turns)
    lifecycle = Lifecycle(instance, monotonic)
    metrics, events, tracing = Metrics(), EventLog(), tracing_from(os.environ)

    def tell(event: Event) -> None:
        metrics.tell(event)
        events.tell(event)

    pool = Pool(
        pool_settings(config, registry),
        lambda model, observer, allowance: WorkerHandle(model, observer, host, allowance),
        monotonic,
        tell,
        metrics,
    )
    metrics.show(PoolMetrics(pool, lifecycle, spare, turns).text)
    jobs = Jobs(partial(run_job, _job_host(sentinel, tag)), tell)
    downloads = Downloads(config, registry, jobs)
    preloading = Preloading(config.models, registry, pool, downloads, lifecycle)
    try:
        async with pool, jobs, preloading:
            spare.prepare()
            yield Services(
                config=config,
                registry=registry,
                pool=pool,
                lifecycle=lifecycle,
                jobs=jobs,
                downloads=downloads,
                spare=spare,
                metrics=metrics,
                events=events,
                tracing=tracing,
                controls=controls,
            )
    finally:
        await spare.stop()
        await sentinel.stop()
        context.destroy(linger=0)
        turns.close()
        sockets.leave(run_dir)
        if tracing is not None:
            tracing.close()


def _worker_host(
    config: Config,
    context: "zmq.Context[zmq.Socket[bytes]]",
    run_dir: Path,
    surroundings: Surroundings,
    spare: Spare,
    turns: TurnLines,
) -> WorkerHost:
    tokens, computing = config.batch.max_batch_tokens, config.batch.computing_workers
    return WorkerHost(
        context=context,
        run_dir=run_dir,
        surroundings=surroundings,
        spare=spare,
        max_batch_items=config.batch.max_batch_size,
        max_batch_tokens=None if tokens == "auto" else tokens,
        calibrate=config.batch.calibrate,
        turns=turns,
        computing_workers=None if computing == "auto" else computing,
        custom_models=config.chat.custom_models,
        timeouts=Timeouts(config.limits.load_timeout, config.limits.batch_timeout),
        now=monotonic,
    )


def _sweep_store(models_dir: Path) -> None:
    try:
        sweep_staging(models_dir)
        if models_dir.is_dir():
            Store(models_dir).write_index()
    except OSError as error:
        log.warning("what killed jobs left in the models folder cannot be removed: %s", error)


def _has_chat_model(registry: Registry) -> bool:
    return any(model.manifest.backend == _CHAT_BACKEND for model in registry.models())


def _job_host(sentinel: Sentinel, tag: dict[str, str]) -> JobHost:
    return JobHost(
        env={"pull": pull_environment() | tag, "quantize": worker_environment() | tag},
        sentinel=sentinel,
        now=monotonic,
        program=PROGRAM,
    )
