"""A model from the hub into the store: resolved, weighed, downloaded, perhaps converted.

Invariants: the files are the hub's, by their hashes, before anything reads them; a stranger's
files are read by a process that has no secrets; what can be continued later is kept, and
everything else is removed; of a model that is converted only the result is installed.
"""

import contextlib
import errno
import hashlib
from collections.abc import Callable
from functools import partial

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent
from mlx_serve_common.models import InstalledModel, ManifestError, read_manifest
from mlx_serve_common.store import Store
from mlx_serve_worker import downloads
from mlx_serve_worker.confined import run_confined
from mlx_serve_worker.download import Source
from mlx_serve_worker.flight import Flight, key_of
from mlx_serve_worker.gathering import Gathering
from mlx_serve_worker.hub import Hub
from mlx_serve_worker.listing import Listing
from mlx_serve_worker.meter import Meter
from mlx_serve_worker.patience import Patience
from mlx_serve_worker.pull_wish import Wish, installed, original

Report = Callable[[JobEvent], None]

# Of no use for a later attempt, or, on a full disk, in the way of everything else.
_NOT_KEPT = {ErrorCode.INSUFFICIENT_STORAGE, ErrorCode.INVALID_MODEL, ErrorCode.UNSAFE_MODEL}
_APPRAISAL_LIMIT_S = 120.0
_IMPORT_LIMIT_S = 900.0
# A slow disk: the limit is there for what never ends.
_IMPORT_BYTES_PER_S = 20e6


def pull(store: Store, wish: Wish, report: Report, patience: Patience) -> JobEvent:
    """The last event: of the model that is installed in the end."""
    report(JobEvent(status="resolving", detail=wish.repo))
    _sweep(store)
    if (there := installed(store, wish)) is not None:
        return there
    if (source := original(store, wish)) is not None:
        convert = partial(_convert, store, wish, source)
        return _once(store, wish, source.manifest.revision, report, convert)
    hub = Hub(patience)
    listing = hub.listing(wish.repo, wish.revision)
    if listing.is_of_cache:
        detail = f"{listing.repo} at {listing.commit[:12]}, as huggingface_hub's cache has it"
        report(JobEvent(status="resolving", detail=detail))
    get = partial(_get, store, wish, Source(hub, listing, patience))
    return _once(store, wish, listing.commit, report, get)


def _once(
    store: Store,
    wish: Wish,
    commit: str | None,
    report: Report,
    do: Callable[[Flight], JobEvent],
) -> JobEvent:
    """Done by this process, or by another that is at it already."""
    terms = repr((wish.installed_name, wish.kind, wish.conversion, wish.replace))
    with Flight(store.models_dir, _work(wish.repo, commit), terms, report) as flight:
        if flight.success is not None:
            return flight.success
        try:
            last = installed(store, wish, commit) or do(flight)
        except ServeError as error:
            flight.record(JobEvent(error=error.message, code=error.code))
            raise
        flight.record(last)
        return last


def _get(store: Store, wish: Wish, source: Source, flight: Flight) -> JobEvent:
    if (here := original(store, wish, source.listing.commit)) is not None:
        return _convert(store, wish, here, flight)
    return _Download(store, wish, source, flight).run()


def _convert(store: Store, wish: Wish, source: InstalledModel, flight: Flight) -> JobEvent:
    """Made of a model that is installed, and stays so."""
    assert wish.conversion is not None
    arguments = [
        f"--models-dir={store.models_dir}",
        f"--model={source.path.name}",
        f"--name={wish.installed_name}",
        *wish.conversion.arguments(),
    ]
    if wish.custom_models is not None:
        arguments.append(f"--custom-models={wish.custom_models}")
    return run_confined(
        ["quantize", *arguments],
        partial(_tell, flight, wish),
        limit_s=_limit_s(source.manifest.size_bytes),
        held=[flight.descriptor],
    )


class _Download:
    """By the process that leads."""

    def __init__(self, store: Store, wish: Wish, source: Source, flight: Flight) -> None:
        self._store = store
        self._wish = wish
        self._source = source
        self._flight = flight
        self._folder = downloads.folder(store.models_dir, flight.key)

    def run(self) -> JobEvent:
        keep = True
        try:
            self._gather()
            imported = self._import()
            keep = False
            return imported
        except ServeError as error:
            keep = error.code not in _NOT_KEPT
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            keep = False
            raise ServeError(ErrorCode.INSUFFICIENT_STORAGE, "the disk is full") from error
        finally:
            if keep:
                self._folder.remove_if_empty()
            else:
                self._folder.remove()

    def _gather(self) -> None:
        work = _work(self._wish.repo, self._listing.commit)
        digest = f"sha256:{hashlib.sha256(work.encode()).hexdigest()}"
        meter = Meter(self._flight.tell, digest)
        self._folder.make(self._wish.installed_name)
        gathering = Gathering(self._source, self._folder, meter, self._wish.conversion)
        try:
            gathering.gather(self._appraise)
        except ServeError as error:
            if self._listing.is_of_cache and error.code is ErrorCode.INVALID_MODEL:
                raise _incomplete(error) from None
            raise

    def _appraise(self) -> None:
        run_confined(
            ["appraise", *self._arguments()], self._flight.tell, limit_s=_APPRAISAL_LIMIT_S
        )

    def _import(self) -> JobEvent:
        size = sum(file.size for file in self._listing.files.values())
        how = "--replace" if self._wish.replace else "--exist-ok"
        return run_confined(
            [
                "import",
                f"--models-dir={self._store.models_dir}",
                "--given-away",
                how,
                *self._arguments(),
            ],
            partial(_tell, self._flight, self._wish),
            limit_s=_limit_s(size),
            held=[self._flight.descriptor],
        )

    def _arguments(self) -> list[str]:
        wish = self._wish
        arguments = [
            f"--source={self._folder.files}",
            f"--name={wish.installed_name}",
            f"--source-id={self._listing.repo}",
            f"--revision={self._listing.commit}",
        ]
        if wish.kind is not None:
            arguments.append(f"--type={wish.kind}")
        if wish.custom_models is not None:
            arguments.append(f"--custom-models={wish.custom_models}")
        if wish.conversion is not None:
            arguments += wish.conversion.arguments()
        return arguments

    @property
    def _listing(self) -> Listing:
        return self._source.listing


def _tell(flight: Flight, wish: Wish, event: JobEvent) -> None:
    # It begins like every job, by saying which model this is.
    if event != JobEvent(status="resolving", detail=wish.installed_name):
        flight.tell(event)


def _limit_s(size: int) -> float:
    return _IMPORT_LIMIT_S + size / _IMPORT_BYTES_PER_S


def _incomplete(error: ServeError) -> ServeError:
    return ServeError(
        ErrorCode.UPSTREAM_ERROR,
        f"the hub cannot be asked, and what its cache has is not enough: {error.message}",
    )


def _work(repo: str, commit: str | None) -> str:
    return f"{repo.lower()}@{commit}"


def _sweep(store: Store) -> None:
    # Killed between publishing and cleaning up, a pull leaves what it has installed.
    downloads.sweep(store.models_dir, lambda unfinished: not _is_installed(store, unfinished))


def _is_installed(store: Store, unfinished: downloads.Folder) -> bool:
    if not unfinished.meant_for:
        return False
    with contextlib.suppress(ManifestError):
        manifest = read_manifest(store.models_dir / unfinished.meant_for)
        if manifest.source is not None:
            return key_of(_work(manifest.source, manifest.revision)) == unfinished.path.name
    return False
