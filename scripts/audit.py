"""Whether what the lock names is known to be unsafe.

audit.py floors             offline: the lock and pyproject.toml against the versions below
audit.py advisories REPORT  what pip-audit has found (its JSON); exit code 1 if anything, 3 if it
                            could not ask about everything, so that nothing found means little
"""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from locks import DEV, PROJECT, RUNTIME, read
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


class Floor(NamedTuple):
    version: str
    why: str


# Below these a published hole, or a fault that this project relies on being mended, is open.
FLOORS = {
    "h11": Floor("0.16", "CVE-2025-43859: chunks are read in two ways"),
    "starlette": Floor("1.0.1", "CVE-2026-48710: Host decides what the path is"),
    "jinja2": Floor("3.1.6", "CVE-2025-27516: a template leaves its sandbox"),
    "mlx-lm": Floor("0.32.2", "CVE-2026-5843: a model's config.json runs Python"),
    "huggingface-hub": Floor("2.4", "file names of a repository leave its folder"),
    "psutil": Floor("7.1", "a reused pid passes for the process that had it"),
}


class NotOne(Exception):
    """The report is none of pip-audit's."""


def below_floors() -> list[str]:
    found = []
    locked = {lock: {e.name: e.version for e in read(lock)} for lock in (RUNTIME, DEV)}
    for name, floor in FLOORS.items():
        if name not in locked[RUNTIME]:
            found.append(f"{RUNTIME.name}: {name} has a floor and is not in it any more")
        found += [
            f"{lock.name}: {name} {pins[name]} is below {floor.version} ({floor.why})"
            for lock, pins in locked.items()
            if name in pins and Version(pins[name]) < Version(floor.version)
        ]
    return found + _let_by(tomllib.loads(PROJECT.read_text("utf-8"))["project"]["dependencies"])


def _let_by(declared: list[str]) -> list[str]:
    """Whoever installs without the lock must not get less either."""
    found = []
    for requirement in map(Requirement, declared):
        floor = FLOORS.get(canonicalize_name(requirement.name))
        if floor is None:
            continue
        least = [Version(s.version) for s in requirement.specifier if s.operator in (">=", "==")]
        if not least or max(least) < Version(floor.version):
            found.append(f"{PROJECT.name}: {requirement} lets by less than {floor.version}")
    return found


def findings(report: Any) -> tuple[list[str], list[str]]:
    """The holes that were found, and the packages that could not be asked about."""
    try:
        entries = report["dependencies"]
        skipped = [entry["name"] for entry in entries if "skip_reason" in entry]
        holes = [
            f"{entry['name']} {entry['version']}: {hole['id']}"
            + (f", mended in {', '.join(hole['fix_versions'])}" if hole["fix_versions"] else "")
            for entry in entries
            for hole in entry.get("vulns", ())
        ]
    except (KeyError, TypeError):
        raise NotOne from None
    return holes, skipped


def advisories(report: Path) -> int:
    try:
        holes, skipped = findings(json.loads(report.read_text("utf-8")))
    except (OSError, ValueError, NotOne):
        print("audit: pip-audit has made no report: nothing is known of newer advisories")
        return 3
    for hole in holes:
        print(f"audit: {hole}")
    if skipped:
        print(
            f"audit: {len(skipped)} packages could not be asked about, {', '.join(skipped[:3])} …: "
            "nothing is known of newer advisories for them"
        )
    return 1 if holes else 3 if skipped else 0


def main(arguments: list[str]) -> int:
    match arguments:
        case ["floors"]:
            lines = below_floors()
            for line in lines:
                print(line, file=sys.stderr)
            return 1 if lines else 0
        case ["advisories", report]:
            return advisories(Path(report))
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
