"""What the commands of ``mlx-serve service`` do, and what they say about it.

Invariants: the configuration is read as the service itself will read it: from the home folder, with
an environment that holds none of our variables but the home folder's.
"""

import os
from collections.abc import Callable
from time import monotonic, sleep

import msgspec

from mlx_serve_common.config import Config
from mlx_serve_common.config_layers import VARIABLES, load_config
from mlx_serve_common.paths import home
from mlx_serve_common.settings import ConfigError
from mlx_serve_gateway.cli.configuration import make_folder
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.instances import Instance, instance, instances
from mlx_serve_gateway.cli.output import emit, emit_facts, note
from mlx_serve_gateway.supervision import definition as files
from mlx_serve_gateway.supervision.service import Service, service, service_log
from mlx_serve_gateway.supervision.state import State
from mlx_serve_gateway.supervision.supervisor import Supervisor, supervisor
from mlx_serve_gateway.supervision.tool import SupervisorFailed

_POLL_S = 0.2
_NOT_INSTALLED = "the service is not installed; install it: mlx-serve service install"


Say = Callable[[str], object]
"""Where sentences for people go: not to stdout if that is to be JSON."""


class RootSteps(msgspec.Struct, frozen=True, kw_only=True):
    """What only root can do for a service of the whole machine."""

    definition: str | None
    """The file that was written, to be put in its place."""
    commands: list[str]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    state: State
    outdated: bool | None
    """The definition is not what ``install`` would write now; None if the configuration is wrong,
    so that nobody can say."""
    log_command: str
    server: Instance | None
    """The server that it runs, as that shows itself."""


def definition(*, machine: bool = False) -> bytes:
    return _rendered(supervisor(home(), machine=machine), _service())


def install(say: Say) -> None:
    here = supervisor(home())
    wanted = _service()
    content = _rendered(here, wanted)
    before = here.installed()
    make_folder(home())
    # systemd opens no log there, launchd does, and makes no folders for it.
    make_folder(service_log(home()).parent)
    place = here.install(content)
    if _config().service.auto_start:
        here.set_enabled(True)
    state = here.state()
    word = "already installed" if before == content else "updated" if before else "installed"
    say(f"{word}: {place}")
    say("it starts at login" if state.enabled else "it does not start at login")
    if not state.enabled:
        note("to have it start at login: mlx-serve service enable")
    if state.pid is None:
        note("to start it: mlx-serve service start")
    elif before != content:
        note("what runs is still as it was: mlx-serve service stop, then start")
    _tell_ignored_variables()
    _tell_advice(here, wanted)


def stage_for_root() -> RootSteps:
    """Write the definition of a service of the machine, and tell what root has to do with it."""
    here = supervisor(home(), machine=True)
    content = _rendered(here, _service())
    make_folder(service_log(home()).parent)
    staged = make_folder(home() / "service" / "daemon") / here.file_name
    files.write(staged, content)
    _tell_ignored_variables()
    return RootSteps(definition=str(staged), commands=here.root_commands(staged))


def removal_by_root() -> RootSteps:
    here = supervisor(home(), machine=True)
    commands = [] if here.installed() is None else here.root_removal()
    return RootSteps(definition=None, commands=commands)


def show_steps(steps: RootSteps) -> None:
    if not steps.commands:
        emit("no service of the machine is installed")
        return
    note(f"wrote {steps.definition}; now run:" if steps.definition else "run:")
    for command in steps.commands:
        emit(command)


def uninstall(say: Say) -> None:
    here = supervisor(home())
    if here.installed() is None:
        say("the service is not installed")
        return
    _stop(here)
    here.uninstall()
    say("uninstalled; models, configuration and logs are as they were")


def start(say: Say) -> None:
    here = _installed()
    config = _config()
    running = here.state()
    if running.pid is None:
        _refuse_taken_port(config)
        limit_s = float(service(config, home()).start_timeout_s)
        try:
            here.start(limit_s)
            server = _await_server(here, limit_s)
        except SupervisorFailed as error:
            raise CommandFailed(f"{error}\nits log: {here.log_command}") from None
        say(f"the service runs (pid {server.pid}) at {server.url}")
    else:
        say(f"the service runs already (pid {running.pid})")


def stop(say: Say) -> None:
    say("stopped the service" if _stop(_installed()) else "the service does not run")


def set_enabled(enabled: bool, say: Say) -> None:
    here = _installed()
    here.set_enabled(enabled)
    say("the service starts at login" if enabled else "the service does not start at login")
    if enabled:
        _tell_advice(here, _service())


def status(*, machine: bool) -> Status:
    here = supervisor(home(), machine=machine)
    state = here.state()
    return Status(
        state=state,
        outdated=_is_outdated(here),
        log_command=here.log_command,
        server=_server_of(state),
    )


def _is_outdated(here: Supervisor) -> bool | None:
    installed = here.installed()
    try:
        return installed is not None and installed != _rendered(here, _service())
    except CommandFailed as error:
        # How the service is must be seen beside a broken configuration too.
        note(f"warning: {error.message}")
        return None


def show(seen: Status) -> None:
    state = seen.state
    if state.definition is None:
        emit(_NOT_INSTALLED)
        return
    activity = state.activity if state.pid is None else f"{state.activity} (pid {state.pid})"
    facts = [("service", activity if state.detail is None else f"{activity}: {state.detail}")]
    if seen.server is not None:
        facts.append(("server", f"{seen.server.state}, {seen.server.url}"))
    facts += [
        ("by itself", "at login or boot" if state.enabled else "no"),
        (state.supervisor, state.definition),
        ("log", seen.log_command),
    ]
    emit_facts(facts)
    if seen.outdated:
        note("its definition is not up to date: mlx-serve service install")


def _config() -> Config:
    try:
        return load_config(home(), environ={}).config
    except ConfigError as error:
        raise CommandFailed(str(error), ExitCode.CONFIG) from None


def _service() -> Service:
    return service(_config(), home())


def _rendered(here: Supervisor, wanted: Service) -> bytes:
    try:
        return here.rendered(wanted)
    except ValueError as error:
        raise CommandFailed(f"the definition cannot be written: {error}") from None


def _installed() -> Supervisor:
    here = supervisor(home())
    if here.installed() is None:
        raise CommandFailed(_NOT_INSTALLED)
    return here


def _refuse_taken_port(config: Config) -> None:
    other = instance(home(), config.server.port) if config.server.port else None
    if other is not None and other.state != "down":
        raise CommandFailed(
            f"a server that is not the service has port {other.port} (pid {other.pid}); "
            f"stop it first: mlx-serve stop --port {other.port}",
            ExitCode.UNAVAILABLE,
        )
    from mlx_serve_gateway.cli.foreground import bound

    for listener in bound(config):
        listener.close()


def _await_server(here: Supervisor, limit_s: float) -> Instance:
    deadline = monotonic() + limit_s
    while True:
        state = here.state()
        server = _server_of(state)
        if server is not None and server.state == "up":
            return server
        if state.activity in ("failed", "stopped"):
            raise SupervisorFailed(f"the service ended: {state.detail or 'without a failure'}")
        if monotonic() > deadline:
            raise SupervisorFailed(f"the service did not answer within {limit_s:g} s")
        sleep(_POLL_S)


def _server_of(state: State) -> Instance | None:
    if state.pid is None:
        return None
    return next((each for each in instances(home()) if each.pid == state.pid), None)


def _stop(here: Supervisor) -> bool:
    """Have it stopped and wait for that; whether it ran."""
    if here.state().activity == "stopped":
        return False
    here.request_stop()
    limit_s = service(_config(), home()).stop_timeout_s + 5.0
    deadline = monotonic() + limit_s
    while here.state().activity not in ("stopped", "failed"):
        if monotonic() > deadline:
            raise CommandFailed(f"the service did not stop within {limit_s:g} s")
        sleep(_POLL_S)
    return True


def _tell_ignored_variables() -> None:
    if unseen := sorted(VARIABLES.keys() & os.environ.keys()):
        note(f"the service does not see {', '.join(unseen)}; put that into config.yaml")


def _tell_advice(here: Supervisor, wanted: Service) -> None:
    if advice := here.advice(wanted.user):
        note(f"to have it run while you are not logged in: {advice}")
