"""Which library a worker multiplies with: the one that is fastest at its kind of work.

They differ by what is asked of them. OpenBLAS packs a matrix anew for each product, which is most
of the time where a chat model multiplies it with the few rows of its next words; BLIS takes it as
it lies. Even where the figures are the same (AVX-512, for which OpenBLAS has kernels for few rows)
it reads a prompt and says the words of one answer a tenth faster.

Invariants: nothing is measured where there is no question; the first in order is taken unless
another is clearly faster, so that noise does not choose.
"""

import functools
import logging
from collections.abc import Mapping

from mlx_serve_gateway.blas.candidates import Candidate, candidates
from mlx_serve_gateway.blas.libraries import Kind
from mlx_serve_gateway.blas.measurement import Measurement, Speed

log = logging.getLogger(__name__)

_WORTH_IT = 1.25


def begin(environ: Mapping[str, str]) -> None:
    """Have it measured meanwhile, where that is a question."""
    if len(found := candidates(environ)) > 1:
        _measurement(found)


def chosen(environ: Mapping[str, str], *, is_chat: bool) -> Candidate | None:
    found = candidates(environ)
    return _chosen(found, is_chat) if len(found) > 1 else next(iter(found), None)


def fastest(speeds: Mapping[Candidate, Speed], *, is_chat: bool) -> Candidate | None:
    """In their order, but for chat models BLIS comes first; None if none computes."""
    best, most = None, 0.0
    for candidate in sorted(speeds, key=lambda each: is_chat and each.kind is not Kind.BLIS):
        if (found := _of_work(speeds[candidate], is_chat)) > _WORTH_IT * most:
            best, most = candidate, found
    return best


def _of_work(speed: Speed, is_chat: bool) -> float:
    """A chat model reads about as many tokens as it says; no other says any."""
    if not (speed.few and speed.many):
        return 0.0
    return 2 / (1 / speed.few + 1 / speed.many) if is_chat else speed.many


@functools.cache
def _chosen(found: tuple[Candidate, ...], is_chat: bool) -> Candidate:
    measurement = _measurement(found)
    speeds = {} if measurement is None else measurement.speeds
    best = fastest(speeds, is_chat=is_chat)
    if best is None or best is found[0]:
        return found[0]
    told = "; ".join(f"{each}: {few:.0f} and {many:.0f}" for each, (few, many) in speeds.items())
    work = "chat models" if is_chat else "all but chat models"
    log.info("%s compute with %s (GFLOP/s with few rows and with many: %s)", work, best, told)
    return best


@functools.cache
def _measurement(found: tuple[Candidate, ...]) -> Measurement | None:
    try:
        return Measurement(found)
    except OSError as error:
        log.warning("libraries for products of matrices could not be compared: %s", error)
        return None
