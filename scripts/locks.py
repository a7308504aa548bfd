"""Reads the lock files. Run by scripts/setup and scripts/check with the Python of .venv.

locks.py state LOCK...  prints a digest of what a .venv of these locks is made from;
                        exit code 1 and names when this Python lacks some of the packages
locks.py check          says what is wrong with the two lock files, exit code 1 if anything is
"""

import hashlib
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "pyproject.toml"
RUNTIME = ROOT / "requirements.lock"
DEV = ROOT / "requirements-dev.lock"


class Locked(NamedTuple):
    requirement: Requirement
    hashes: int

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        return str(self.requirement.specifier).removeprefix("==")


def read(lock: Path) -> list[Locked]:
    text = re.sub(r"^\s*#.*\n", "", lock.read_text("utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    split = (line.split(" --hash=") for line in lines if line.strip())
    return [Locked(Requirement(head.strip()), len(hashes)) for head, *hashes in split]


def applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate()


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def state(locks: list[Path]) -> str:
    digest = hashlib.sha256()
    # The scripts of an environment contain its path, so a moved one is another one.
    for part in (str(ROOT), sys.version, *(f.read_text("utf-8") for f in (PROJECT, *locks))):
        digest.update(f"{part}\0".encode())
    return digest.hexdigest()


def missing(locks: list[Path]) -> list[str]:
    wanted = (entry for lock in locks for entry in read(lock) if applies(entry.requirement))
    return sorted({e.name for e in wanted if installed(e.name) != e.version})


def problems() -> list[str]:
    project = tomllib.loads(PROJECT.read_text("utf-8"))
    excluded = {canonicalize_name(name) for name in project["tool"]["uv"]["exclude-dependencies"]}
    found = []
    for lock in (RUNTIME, DEV):
        for number, line in enumerate(lock.read_text("utf-8").splitlines(), 1):
            # An option line or an address would tie every install to one package host.
            if re.search(r"://|\bfile:| @ |^-", line):
                found.append(f"{lock.name}:{number}: an address or an option: {line.strip()}")
    if found:
        return found

    for lock in (RUNTIME, DEV):
        for entry in read(lock):
            if not str(entry.requirement.specifier).startswith("==") or not entry.hashes:
                found.append(f"{lock.name}: {entry.name} is not pinned with hashes")
            if entry.name in excluded or entry.name == "torch":
                found.append(f"{lock.name}: {entry.name} must not be in it")

    runtime, dev = read(RUNTIME), read(DEV)
    pinned = {(entry.name, entry.version) for entry in runtime}
    names = {entry.name for entry in runtime}
    found += [
        f"{DEV.name}: {entry.name} {entry.version} is not the version of {RUNTIME.name}"
        for entry in dev
        if entry.name in names and (entry.name, entry.version) not in pinned
    ]

    groups = project["dependency-groups"]
    for pins, declared in (
        (runtime, project["project"]["dependencies"] + groups["build"]),
        (dev, groups["dev"]),
    ):
        for requirement in map(Requirement, declared):
            name = canonicalize_name(requirement.name)
            versions = [entry.version for entry in pins if entry.name == name]
            if not versions or not all(v in requirement.specifier for v in versions):
                found.append(f"{requirement} is not locked: run scripts/lock")
    return found


def main(arguments: list[str]) -> int:
    match arguments:
        case ["state", *names] if names:
            locks = [ROOT / name for name in names]
            lines = [f"not installed: {name}" for name in missing(locks)]
            print(state(locks))
        case ["check"]:
            lines = problems()
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
