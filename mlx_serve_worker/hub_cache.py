"""What huggingface_hub has downloaded before, for whoever has no network.

Its layout: ``refs`` say which commit a name meant, ``trees`` what a commit holds, ``snapshots``
have the files of a commit as links to ``blobs``, whose names are the hashes of their content.

Invariants: nothing is written, and nothing is taken for granted: what is found here is checked like
what the hub sends; a model is never put together of the half that somebody happened to load.
"""

import re
from pathlib import Path

import msgspec

from mlx_serve_common.undecodable import UNDECODABLE
from mlx_serve_worker.listing import (
    MAX_LISTING_BYTES,
    Digest,
    GitHash,
    Listing,
    RemoteFile,
    Sha256,
    Size,
    checked_name,
)

_COMMIT = _GIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DEFAULT_REVISION = "main"
_TREE_VERSION = 1
# It decides how vectors are made; a loader that had no use for it has not fetched it.
_DECISIVE_FILE = "modules.json"
# Only what fetches everything fetches these.
_SIGNS_OF_ALL = (".gitattributes", "README.md")


class _TreeFile(msgspec.Struct):
    size: Size
    blob_id: GitHash
    lfs_sha256: Sha256 | None = None
    lfs_size: Size | None = None


class _Tree(msgspec.Struct):
    format_version: int
    files: dict[str, _TreeFile]


class HubCache:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def blob(self, repo: str, file: RemoteFile) -> Path | None:
        """Where the file should be; what is there may be anything."""
        path = self._repository(repo) / "blobs" / file.digest.hex
        return path if path.is_file() else None

    def listing(self, repo: str, revision: str | None) -> Listing | None:
        """What the repository was when it was downloaded; None if that cannot be told."""
        folder = self._repository(repo)
        commit = _commit(folder, revision or _DEFAULT_REVISION)
        if commit is None:
            return None
        files = _tree(folder / "trees" / f"{commit}.json")
        if files is None:
            files = _snapshot(folder, commit)
        if not files:
            return None
        return Listing(repo, commit, {file.name: file for file in files}, is_of_cache=True)

    def _repository(self, repo: str) -> Path:
        return self._folder / f"models--{repo.replace('/', '--')}"


def _commit(folder: Path, revision: str) -> str | None:
    if _COMMIT.fullmatch(revision):
        return revision
    try:
        commit = (folder / "refs" / revision).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def _tree(path: Path) -> list[RemoteFile] | None:
    try:
        if path.stat().st_size > MAX_LISTING_BYTES:
            return None
        tree = msgspec.json.decode(path.read_bytes(), type=_Tree)
    except (OSError, *UNDECODABLE):
        return None
    if tree.format_version != _TREE_VERSION:
        return None
    return [_of_tree(checked_name(name), file) for name, file in tree.files.items()]


def _of_tree(name: str, file: _TreeFile) -> RemoteFile:
    if file.lfs_sha256 is not None:
        return RemoteFile(name, file.lfs_size or file.size, Digest("sha256", file.lfs_sha256))
    return RemoteFile(name, file.size, Digest("git", file.blob_id))


def _snapshot(folder: Path, commit: str) -> list[RemoteFile] | None:
    """As older versions leave it: without a list, so that it has to show that it is whole."""
    snapshot = folder / "snapshots" / commit
    files = []
    for path in snapshot.rglob("*"):
        name = path.relative_to(snapshot).as_posix()
        if (file := _of_snapshot(checked_name(name), path)) is not None:
            files.append(file)
    names = {file.name for file in files}
    is_known_absent = (folder / ".no_exist" / commit / _DECISIVE_FILE).exists()
    is_whole = is_known_absent or not names.isdisjoint((_DECISIVE_FILE, *_SIGNS_OF_ALL))
    return files if is_whole else None


def _of_snapshot(name: str, path: Path) -> RemoteFile | None:
    if not path.is_symlink() or not path.is_file():
        return None
    blob = path.resolve()
    size = blob.stat().st_size
    if _SHA256.fullmatch(blob.name):
        return RemoteFile(name, size, Digest("sha256", blob.name))
    return RemoteFile(name, size, Digest("git", blob.name)) if _GIT.fullmatch(blob.name) else None
