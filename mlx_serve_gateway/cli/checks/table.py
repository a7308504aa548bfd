"""All checks, in the order in which they are told."""

from collections.abc import Callable, Iterator

import msgspec

from mlx_serve_gateway.cli.checks import (
    computing,
    configuration,
    hub,
    machine,
    programs,
    servers,
    service,
    storage,
)
from mlx_serve_gateway.cli.checks.subject import Subject
from mlx_serve_gateway.cli.checks.verdict import State, Verdict, fail

Check = Callable[[Subject], Verdict]

CHECKS: dict[str, Check] = {
    "python": machine.python,
    "system": machine.system,
    "program": programs.program,
    "configuration": configuration.configuration,
    "home folder": storage.home,
    "models folder": storage.models_folder,
    "models": storage.models,
    "free space": storage.space,
    "leftovers": storage.leftovers,
    "device": computing.device,
    "blas": computing.blas,
    "memory": machine.memory,
    "open files": machine.open_files,
    "port": servers.port,
    "pid files": servers.pid_files,
    "service": service.unit,
    "model hub": hub.hub,
}
ONLINE = frozenset({"model hub"})


class Finding(msgspec.Struct, frozen=True):
    check: str
    state: State
    message: str
    remedy: str | None


def findings(subject: Subject, *, offline: bool) -> Iterator[Finding]:
    for name, check in CHECKS.items():
        if not (offline and name in ONLINE):
            verdict = _tried(check, subject)
            yield Finding(name, verdict.state, verdict.message, verdict.remedy)


def _tried(check: Check, subject: Subject) -> Verdict:
    try:
        return check(subject)
    except OSError as error:
        return fail(f"cannot be looked at: {error}", "see that this user may read it")


def worst(found: list[Finding]) -> State:
    states = {finding.state for finding in found}
    return "fail" if "fail" in states else "warn" if "warn" in states else "ok"
