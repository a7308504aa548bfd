"""The list of everything that is installed with the product (CycloneDX 1.6), made from the lock.

sbom.py write VERSION      prints it
sbom.py check FILE PYTHON  holds it against the lock, and against what the environment of that
                           Python has installed; exit code 1 and names where they differ

Invariant: the same lock and version give the same bytes.
"""

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from locks import RUNTIME, Locked, read
from packaging.utils import canonicalize_name

NAME = "mlx-serve-gateway"
# What every new environment has.
_TOOLS = {"pip", "setuptools"}
_INSTALLED = """
import importlib.metadata as metadata
for each in metadata.distributions(): print(each.name, each.version)
"""
_PIN = re.compile(r"^\S+==.*\n(?:    .*\n)+", re.MULTILINE)

Bom = dict[str, Any]


class Pin(NamedTuple):
    """One version of one package; another may stand beside it for other machines."""

    locked: Locked
    hashes: list[str]
    users: list[str]
    """By whom it is needed."""

    @property
    def purl(self) -> str:
        return f"pkg:pypi/{self.locked.name}@{self.locked.version}"


def pins() -> list[Pin]:
    blocks = _PIN.findall(RUNTIME.read_text("utf-8"))
    return [
        Pin(locked, re.findall(r"--hash=sha256:(\w+)", block), _users(block))
        for locked, block in zip(read(RUNTIME), blocks, strict=True)
    ]


def _users(block: str) -> list[str]:
    # Ours stand with the file that says so.
    return re.sub(r" \([^)]*\)", "", block.partition("# via ")[2].strip()).split(", ")


def bom(version: str) -> Bom:
    own = f"pkg:pypi/{NAME}@{version}"
    everything = pins()
    refs: dict[str, list[str]] = {NAME: [own]}
    for pin in everything:
        refs.setdefault(pin.locked.name, []).append(pin.purl)
    needs: dict[str, set[str]] = {ref: set() for several in refs.values() for ref in several}
    for pin in everything:
        for user in pin.users:
            for ref in refs[canonicalize_name(user)]:
                needs[ref].add(pin.purl)
    seed = f"{NAME} {version} {RUNTIME.read_text('utf-8')}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, seed)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": NAME,
                "version": version,
                "purl": own,
                "licenses": [{"license": {"id": "MIT"}}],
            }
        },
        "components": [_component(pin) for pin in everything],
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(on)} for ref, on in sorted(needs.items())
        ],
    }


def _component(pin: Pin) -> Bom:
    component: Bom = {
        "type": "library",
        "bom-ref": pin.purl,
        "name": pin.locked.name,
        "version": pin.locked.version,
        "purl": pin.purl,
        # One for each of its files: which is installed depends on the machine.
        "externalReferences": [
            {
                "type": "distribution",
                "url": pin.purl,
                "hashes": [{"alg": "SHA-256", "content": each}],
            }
            for each in pin.hashes
        ],
    }
    if pin.locked.requirement.marker is not None:
        marker = str(pin.locked.requirement.marker)
        component["properties"] = [{"name": f"{NAME}:installed-where", "value": marker}]
    return component


def differences(written: Bom, installed: set[tuple[str, str]]) -> list[str]:
    listed = {(component["name"], component["version"]) for component in written["components"]}
    locked = {(entry.name, entry.version) for entry in read(RUNTIME)}
    found = [f"{name} {version} is not as in the lock" for name, version in listed ^ locked]
    found += [
        f"{name} {version} is installed and not listed"
        for name, version in installed - listed
        if name not in _TOOLS | {NAME}
    ]
    return sorted(found)


def _installed(python: str) -> set[tuple[str, str]]:
    told = subprocess.run([python, "-I", "-c", _INSTALLED], capture_output=True, check=True)
    lines = (line.split(" ") for line in told.stdout.decode().splitlines())
    return {(canonicalize_name(name), version) for name, version in lines}


def main(arguments: list[str]) -> int:
    match arguments:
        case ["write", version]:
            print(json.dumps(bom(version), indent=1))
            return 0
        case ["check", file, python]:
            written = json.loads(Path(file).read_text("utf-8"))
            lines = differences(written, _installed(python))
            for line in lines:
                print(f"sbom: {line}", file=sys.stderr)
            return 1 if lines else 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
