"""What a client calls a model that may have to be fetched: a repository, by its name or an alias.

Pure. Invariants: what comes out is safe as an argument and as a part of an address: two plain
parts, and a revision without any part that climbs.
"""

import re
from typing import NamedTuple

# As the hub itself allows them.
_REPOSITORY = re.compile(
    r"(?P<id>[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95})"
    r"(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]{0,99}))?"
)
# How Ollama's clients name a repository of the hub.
_HUBS = ("hf.co/", "huggingface.co/", "https://huggingface.co/")


class Reference(NamedTuple):
    repository: str
    revision: str | None

    @property
    def model(self) -> str:
        """The name of the model when it is installed."""
        return self.repository.rpartition("/")[2]

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def read_reference(name: str) -> Reference | None:
    """``name`` as a repository, None if it is none."""
    for hub in _HUBS:
        name = name.removeprefix(hub)
    found = _REPOSITORY.fullmatch(name.removesuffix(":latest"))
    if found is None or _is_odd(found["id"]) or _is_odd(found["revision"] or ""):
        return None
    return Reference(found["id"], found["revision"])


def _is_odd(part: str) -> bool:
    return ".." in part or "--" in part or "//" in part or part.endswith((".", "-", "/", ".git"))
