"""What is asked to be pulled, and what of it is in the store already.

Invariant: a name that means something else is never given away: not to another repository, another
kind of model, another revision, nor to another form of the same one.
"""

from pathlib import Path
from typing import NamedTuple, Self

from mlx_serve_common.conversion import Conversion
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent
from mlx_serve_common.models import InstalledModel, ModelKind
from mlx_serve_common.names import check_name
from mlx_serve_common.references import read_reference
from mlx_serve_common.store import Store, name_taken


class Wish(NamedTuple):
    repo: str
    revision: str | None = None
    name: str | None = None
    kind: ModelKind | None = None
    conversion: Conversion | None = None
    replace: bool = False
    custom_models: Path | None = None

    @classmethod
    def of(cls, reference: str) -> Self:
        """From ``ORG/NAME`` or ``ORG/NAME@REVISION``."""
        found = read_reference(reference)
        if found is None:
            raise ServeError(
                ErrorCode.INVALID_REQUEST,
                f"{reference[:80]!r} is no repository of the hub; name it as ORG/NAME",
                param="model",
            )
        return cls(found.repository, found.revision)

    @property
    def original_name(self) -> str:
        """That of the model as it comes."""
        return self.repo.rpartition("/")[2]

    @property
    def installed_name(self) -> str:
        if self.name is not None or self.conversion is None:
            return check_name(self.name or self.original_name)
        return check_name(self.conversion.name_of(self.original_name))


def installed(store: Store, wish: Wish, commit: str | None = None) -> JobEvent | None:
    """That it is there already, if it is; an error if its name means something else."""
    name = wish.installed_name
    found = _found(store, wish, name)
    if found is None:
        store.refuse_other_spelling(name)
        return None
    manifest = found.manifest
    if manifest.source is not None and not _is_of(found, wish.repo):
        raise name_taken(found.name, f"comes from {manifest.source}")
    if wish.replace:
        return None
    if wish.kind not in (None, manifest.kind):
        raise name_taken(found.name, f"is of type {manifest.kind}")
    if manifest.conversion != wish.conversion:
        raise name_taken(found.name, "is converted in another way, or not at all")
    if wish.revision is None or manifest.revision in (wish.revision, commit):
        detail = f"{found.name} is installed already"
        return JobEvent(status="success", model=found.name, detail=detail)
    if commit is None:
        return None  # only the hub knows what the revision is
    raise name_taken(found.name, f"is of revision {(manifest.revision or 'unknown')[:12]}")


def original(store: Store, wish: Wish, commit: str | None = None) -> InstalledModel | None:
    """The installed model that what is asked for can be made of, so that nothing has to come."""
    if wish.conversion is None or wish.replace:
        return None
    try:
        found = _found(store, wish._replace(name=None), wish.original_name)
    except ServeError:
        return None  # it is damaged
    if found is None or not _is_of(found, wish.repo) or found.manifest.conversion is not None:
        return None
    is_other_kind = wish.kind not in (None, found.kind)
    is_right = wish.revision is None or found.manifest.revision in (wish.revision, commit)
    return found if is_right and not is_other_kind else None


def _is_of(model: InstalledModel, repo: str) -> bool:
    return (model.manifest.source or "").casefold() == repo.casefold()


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
        if found is not None and _is_of(found, wish.repo):
            return found
    return None
