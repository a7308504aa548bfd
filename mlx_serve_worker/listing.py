"""What the model hub says a repository holds, checked before anybody uses it.

Invariants: every name in a listing is a plain relative path that is the same file on every file
system; a file's size and digest are what its content has to have, whoever delivers it.
"""

import re
from typing import Annotated, Literal, NamedTuple

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.undecodable import UNDECODABLE
from mlx_serve_worker.repository import MAX_FILES, unsafe

MAX_LISTING_BYTES = 32 * 1024**2

_MAX_PATH_BYTES = 1024
_MAX_PART_BYTES = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A drive, a stream of a file, or a device: what Windows makes of a name.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)

Size = Annotated[int, msgspec.Meta(ge=0)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
GitHash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{40}$")]


class Digest(NamedTuple):
    """Of large files their sha256, of small ones the hash that git has them under."""

    algorithm: Literal["sha256", "git"]
    hex: str


class RemoteFile(NamedTuple):
    name: str
    size: int
    digest: Digest


class Listing(NamedTuple):
    """A repository at one commit."""

    repo: str
    commit: str
    files: dict[str, RemoteFile]
    is_of_cache: bool = False
    """It is what was downloaded once, because nobody could be asked."""


class _Lfs(msgspec.Struct):
    sha256: Sha256
    size: Size


class _Sibling(msgspec.Struct, rename="camel"):
    rfilename: str
    size: Size | None = None
    blob_id: GitHash | None = None
    lfs: _Lfs | None = None


class _Repository(msgspec.Struct):
    sha: GitHash
    siblings: list[_Sibling]
    id: str = ""


_decode = msgspec.json.Decoder(_Repository).decode


def read_listing(data: bytes, repo: str) -> Listing:
    """The hub's answer about ``repo``."""
    try:
        found = _decode(data)
    except UNDECODABLE:
        raise not_of_the_hub() from None
    if len(found.siblings) > MAX_FILES:
        raise unsafe(f"{repo} has {len(found.siblings)} files; a model has {MAX_FILES} at most")
    files: dict[str, RemoteFile] = {}
    for sibling in found.siblings:
        name = checked_name(sibling.rfilename)
        if name in files:
            raise unsafe(f"{repo} lists {name[:80]!r} twice")
        files[name] = _remote_file(name, sibling)
    # The hub spells the name as its owner does; a renamed repository keeps the name asked for.
    canonical = found.id if found.id.casefold() == repo.casefold() else repo
    return Listing(canonical, found.sha, files)


def not_of_the_hub() -> ServeError:
    return ServeError(
        ErrorCode.UPSTREAM_ERROR,
        "what answered is not the model hub; a login page of this network may be in the way, or"
        " HF_ENDPOINT may be wrong",
    )


def _remote_file(name: str, sibling: _Sibling) -> RemoteFile:
    if sibling.lfs is not None:
        return RemoteFile(name, sibling.lfs.size, Digest("sha256", sibling.lfs.sha256))
    if sibling.size is None or sibling.blob_id is None:
        raise ServeError(
            ErrorCode.UPSTREAM_ERROR, "this hub does not tell the sizes and hashes of its files"
        )
    return RemoteFile(name, sibling.size, Digest("git", sibling.blob_id))


def checked_name(name: str) -> str:
    """``name`` if it is a safe one for a file in a repository."""
    parts = name.split("/")
    is_plain = (
        len(name.encode("utf-8", "surrogatepass")) <= _MAX_PATH_BYTES
        and not _CONTROL.search(name)
        and "\\" not in name
        and ":" not in name
        and all(_is_plain(part) for part in parts)
    )
    if not is_plain:
        raise unsafe(f"the repository lists {name[:80]!r}, which is no safe name for a file")
    return name


def _is_plain(part: str) -> bool:
    return (
        part not in ("", ".", "..")
        and part.casefold() != ".git"
        and len(part.encode("utf-8", "surrogatepass")) <= _MAX_PART_BYTES
        and not _DEVICE.match(part)
    )
