"""A model from the hub into the store: resolved, weighed, downloaded, and then imported.

Invariants: the files are the hub's, by their hashes, before anything reads them; a stranger's
files are read by a process that has no secrets; what can be continued later is kept, and
everything else is removed.
"""

import contextlib
import errno
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent
from mlx_serve_common.models import (
    InstalledModel,
    Manifest,
    ManifestError,
    ModelKind,
    read_manifest,
)
from mlx_serve_common.names import check_name
from mlx_serve_common.store import Store, name_taken
from mlx_serve_worker import downloads
from mlx_serve_worker.confined import run_confined
from mlx_serve_worker.download import Source
from mlx_serve_worker.flight import Flight, key_of
from mlx_serve_worker.gathering import Gathering
from mlx_serve_worker.hub import Hub
from mlx_serve_worker.listing import Listing
from mlx_serve_worker.meter import Meter
from mlx_serve_worker.patience import Patience

Report = Callable[[JobEvent], None]

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
# Of no use for a later attempt, or, on a full disk, in the way of everything else.
_NOT_KEPT = {ErrorCode.INSUFFICIENT_STORAGE, ErrorCode.INVALID_MODEL, ErrorCode.UNSAFE_MODEL}
_APPRAISAL_LIMIT_S = 120.0
_IMPORT_LIMIT_S = 900.0
# A slow disk: the limit is there for what never ends.
_IMPORT_BYTES_PER_S = 20e6


class Wish(NamedTuple):
    """What is asked for."""

    repo: str
    revision: str | None = None
    name: str | None = None
    kind: ModelKind | None = None
    replace: bool = False
    custom_models: Path | None = None

    @classmethod
    def of(cls, reference: str) -> Self:
        """From ``ORG/NAME`` or ``ORG/NAME@REVISION``."""
        repo, at, revision = reference.partition("@")
        is_plain = _REPOSITORY.fullmatch(repo) and (not at or _REVISION.fullmatch(revision))
        if not is_plain or any(odd in reference for odd in ("..", "--", "//")):
            raise ServeError(
                ErrorCode.INVALID_REQUEST,
                f"{reference[:80]!r} is no repository of the hub; name it as ORG/NAME",
                param="model",
            )
        return cls(repo, revision or None)

    @property
    def installed_name(self) -> str:
        return check_name(self.name or self.repo.rpartition("/")[2])


def pull(store: Store, wish: Wish, report: Report, patience: Patience) -> JobEvent:
    """The last event: of the model that is installed in the end."""
    report(JobEvent(status="resolving", detail=wish.repo))
    _sweep(store)
    if (installed := _installed(store, wish)) is not None:
        return installed
    hub = Hub(patience)
    listing = hub.listing(wish.repo, wish.revision)
    work = _work(listing.repo, listing.commit)
    terms = repr((wish.installed_name, wish.kind, wish.replace))
    with Flight(store.models_dir, work, terms, report) as flight:
        if flight.success is not None:
            return flight.success
        try:
            last = _installed(store, wish, listing.commit)
            if last is None:
                last = _Pull(store, wish, Source(hub, listing, patience), flight).run()
        except ServeError as error:
            flight.record(JobEvent(error=error.message, code=error.code))
            raise
        flight.record(last)
        return last


class _Pull:
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
        work = _work(self._listing.repo, self._listing.commit)
        digest = f"sha256:{hashlib.sha256(work.encode()).hexdigest()}"
        meter = Meter(self._flight.tell, digest)
        Gathering(self._source, self._folder, meter).gather(self._appraise)

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
            self._tell_of_import,
            limit_s=_IMPORT_LIMIT_S + size / _IMPORT_BYTES_PER_S,
            held=[self._flight.descriptor],
        )

    def _tell_of_import(self, event: JobEvent) -> None:
        # It begins like every import, by saying which model this is.
        if event != JobEvent(status="resolving", detail=self._wish.installed_name):
            self._flight.tell(event)

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
        return arguments

    @property
    def _listing(self) -> Listing:
        return self._source.listing


def _work(repo: str, commit: str) -> str:
    return f"{repo.lower()}@{commit}"


def _sweep(store: Store) -> None:
    done = {
        key_of(_work(manifest.source, manifest.revision))
        for manifest in _manifests(store.models_dir)
        if manifest.source is not None and manifest.revision is not None
    }
    # Killed between publishing and cleaning up, a pull leaves what it has installed.
    downloads.sweep(store.models_dir, lambda key: key not in done)


def _manifests(models_dir: Path) -> Iterator[Manifest]:
    for folder in models_dir.glob("[!.]*"):
        with contextlib.suppress(ManifestError):
            yield read_manifest(folder)


def _installed(store: Store, wish: Wish, commit: str | None = None) -> JobEvent | None:
    """That it is there already, if it is; an error if its name means something else."""
    name = wish.installed_name
    found = _found(store, wish, name)
    if found is None:
        store.refuse_other_spelling(name)
        return None
    manifest = found.manifest
    if manifest.source is not None and manifest.source.casefold() != wish.repo.casefold():
        raise name_taken(found.name, f"comes from {manifest.source}")
    if wish.replace:
        return None
    if wish.kind not in (None, manifest.kind):
        raise name_taken(found.name, f"is of type {manifest.kind}")
    if wish.revision is None or manifest.revision in (wish.revision, commit):
        detail = f"{found.name} is installed already"
        return JobEvent(status="success", model=found.name, detail=detail)
    if commit is None:
        return None  # only the hub knows what the revision is
    raise name_taken(found.name, f"is of revision {(manifest.revision or 'unknown')[:12]}")


def _found(store: Store, wish: Wish, name: str) -> InstalledModel | None:
    try:
        if (found := store.installed(name)) is not None or wish.name is not None:
            return found
    except ServeError:
        if wish.replace:  # a damaged one is what that is for
            return None
        raise
    # The hub takes a repository's name in any case.
    for other in store.names_like(name):
        found = store.installed(other)
        if found is not None and (found.manifest.source or "").casefold() == wish.repo.casefold():
            return found
    return None
