"""deployment.py [--check]: the example definitions in deploy/, written or compared.

What `mlx-serve service install` writes is made for one machine; these show the same for an invented
one, and are what a packager starts from.
"""

import sys
from pathlib import Path

from mlx_serve_gateway.supervision import plist, unit
from mlx_serve_gateway.supervision.service import Service

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"


def _example(user_home: Path) -> Service:
    home = user_home / ".mlx-serve"
    return Service(
        program=("/opt/mlx-serve/bin/python", "-P", "-m", "mlx_serve_gateway.cli.main"),
        home=home,
        models=home / "models",
        user=user_home.name,
        user_home=user_home,
        restart_on_failure=True,
        restart_delay_s=5,
        start_timeout_s=120,
        stop_timeout_s=45,
    )


def definitions() -> dict[str, bytes]:
    mac, linux = _example(Path("/Users/you")), _example(Path("/home/you"))
    return {
        f"launchd/agent/{plist.LABEL}.plist": plist.agent(mac),
        f"launchd/daemon/{plist.LABEL}.plist": plist.daemon(mac),
        f"systemd/user/{unit.NAME}": unit.user_unit(linux).encode(),
        f"systemd/system/{unit.NAME}": unit.machine_unit(linux).encode(),
    }


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    stale = [
        name
        for name, content in definitions().items()
        if not (path := DEPLOY / name).exists() or path.read_bytes() != content
    ]
    for name in stale:
        if arguments:
            print(f"generate: deploy/{name} is out of date: run scripts/generate", file=sys.stderr)
        else:
            path = DEPLOY / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(definitions()[name])
            print(f"generate: wrote deploy/{name}", file=sys.stderr)
    return 1 if arguments and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
