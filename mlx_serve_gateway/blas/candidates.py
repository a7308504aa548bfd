"""The libraries that a worker can start with, and what it has to be told for each.

Invariants: what the person has set for a library stands.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from mlx_serve_gateway.blas.libraries import Kind, installed
from mlx_serve_gateway.blas.openblas_core import THEIRS, cores

log = logging.getLogger(__name__)

OWN = "MLX_SERVE_BLAS"
"""For whoever wants a certain library: its name. No other is in question."""
THEIR_PREFIXES = ("BLIS_", "GOTO_", "KMP_", "MKL_", "OMP_", "OPENBLAS_")
"""Of the variables that these libraries read."""

_PATIENCE = {
    # Some 0.4 ms, as a power of two of the processor's ticks. By itself it is 27 ms after each
    # answer, of every core but one.
    Kind.OPENBLAS: ("OPENBLAS_THREAD_TIMEOUT", "20"),
    # Its threads wait for each other without giving their core away: where something else needs
    # one, a step takes ten times as long. Our lanes use all cores nevertheless.
    Kind.BLIS: ("BLIS_NUM_THREADS", "1"),
    # In milliseconds. By itself it is 200 after each product.
    Kind.MKL: ("KMP_BLOCKTIME", "0"),
}
"""How long its threads keep a core on which they have nothing to do."""


Settings = tuple[tuple[str, str], ...]


class Candidate(msgspec.Struct, frozen=True):
    kind: Kind
    path: str
    settings: Settings
    """What stands in the environment of a process that loads it."""

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": self.path, **dict(self.settings)}

    def __str__(self) -> str:
        core = dict(self.settings).get(THEIRS)
        return f"{self.kind} with its kernels for {core}" if core else self.kind


def candidates(environ: Mapping[str, str]) -> tuple[Candidate, ...]:
    """In the order in which they are taken where none is clearly faster, except for chat models."""
    return tuple(
        Candidate(kind, str(path), settings)
        for kind, path in _asked_for(installed(), environ.get(OWN)).items()
        for settings in _settings(kind, environ)
    )


def _asked_for(found: Mapping[Kind, Path], asked: str | None) -> Mapping[Kind, Path]:
    if not asked:
        return found
    for kind in found:
        if kind.casefold() == asked.casefold():
            return {kind: found[kind]}
    here = ", ".join(found) or "none"
    log.warning("%s is %r, and no such library is here (there is: %s)", OWN, asked, here)
    return found


def _settings(kind: Kind, environ: Mapping[str, str]) -> Iterator[Settings]:
    name, value = _PATIENCE[kind]
    theirs = {name: value for name, value in environ.items() if name.startswith(THEIR_PREFIXES)}
    given = {name: value} | theirs
    for core in cores(environ) if kind is Kind.OPENBLAS else [None]:
        named = {} if core is None else {THEIRS: core}
        yield tuple(sorted((given | named).items()))
