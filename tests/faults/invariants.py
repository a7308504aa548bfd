"""What must hold after every fault: the ``inv`` step.

The server is the one it was, answers at once, has lost no descriptor, thread, process or socket,
its books are empty, its count of requests is ours, and the canary has not noticed anything.
"""

from time import monotonic
from typing import NamedTuple

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.faults import canary
from tests.faults.rig import Rig
from tests.waiting import until

SPREAD = 4
"""By how many descriptors and threads two moments of rest may differ."""
MOST_GROWTH = 24 * 1024 * 1024
MOST_LAG_MS = 250


class Rest(NamedTuple):
    """What the server holds when only the canary's model is loaded."""

    pid: int
    descriptors: int
    threads: int
    memory: int

    @classmethod
    def of(cls, rig: Rig) -> "Rest":
        process = rig.process
        with process.oneshot():
            return cls(
                rig.gateway.pid,
                process.num_fds(),
                process.num_threads(),
                process.memory_info().rss,
            )


def rest(rig: Rig) -> Rest:
    rig.let_go()
    until(lambda: _processes_agree(rig), what="one process for every worker, and a sentinel")
    return Rest.of(rig)


def inv(rig: Rig, before: Rest) -> None:
    _answers_at_once(rig)
    until(lambda: rig.gateway.waiting() <= 1, what="the end of all work but the canary's")
    rest(rig)
    until(lambda: _is_like(Rest.of(rig), before), what=f"a rest like {before}")
    _metrics_agree(rig)
    _store_is_whole(rig)
    assert "internal_error" not in rig.gateway.log()
    own = [line for line in rig.gateway.log().splitlines() if " gateway.output " not in line]
    assert not [line for line in own if "Traceback" in line]
    rig.canary.check()


def _is_like(now: Rest, before: Rest) -> bool:
    return (
        now.pid == before.pid
        and abs(now.descriptors - before.descriptors) <= SPREAD
        and abs(now.threads - before.threads) <= SPREAD
        and now.memory <= before.memory + MOST_GROWTH
    )


def _answers_at_once(rig: Rig) -> None:
    started = monotonic()
    health = rig.gateway.ask("GET", "/health")
    assert health.status == 200
    assert health.json["pid"] == rig.gateway.pid
    assert health.json["loop_lag_ms"] < MOST_LAG_MS
    assert monotonic() - started < 1


def _processes_agree(rig: Rig) -> bool:
    """One for every worker that is listed, one socket each, nothing dead and nothing orphaned."""
    listed = {worker["pid"] for worker in rig.gateway.detail()["workers"] if worker["pid"]}
    try:
        children = rig.process.children(recursive=True)
        are_alive = all(child.status() != psutil.STATUS_ZOMBIE for child in children)
        is_sentinel = rig.gateway.sentinel().pid
    except (psutil.NoSuchProcess, ValueError):
        return False
    tagged = {process.pid for process in rig.gateway.processes()}
    return (
        are_alive
        and tagged == listed
        and {child.pid for child in children} == listed | {is_sentinel}
        and len(rig.gateway.sockets()) == len(listed)
    )


def _metrics_agree(rig: Rig) -> None:
    def counted() -> tuple[float, float]:
        text = rig.gateway.ask("GET", "/metrics").body.decode()
        requests = work = 0.0
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "mlx_serve_requests_total":
                    requests += sample.value
                elif sample.name in ("mlx_serve_queue_depth", "mlx_serve_in_flight"):
                    work += sample.value if sample.labels["model"] != canary.MODEL else 0
        return requests, work

    def agree() -> bool:
        answered = rig.answered + rig.canary.answers
        requests, work = counted()
        # The canary sings on while we look.
        return work == 0 and answered <= requests + 1 <= answered + rig.abandoned + 3

    until(agree, what="as many requests as were sent")


def _store_is_whole(rig: Rig) -> None:
    left = [
        path
        for path in rig.store.models_dir.rglob("*")
        if path.suffix in (".part", ".tmp", ".incomplete")
    ]
    assert left == []
    listed = rig.gateway.ask("GET", "/v1/models").json["data"]
    rig.answered += 1
    assert canary.MODEL in {model["id"] for model in listed}
