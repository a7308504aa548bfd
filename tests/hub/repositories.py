"""Folders as the hub shows them: a commit, and of every file the hashes by which it is known."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

_LFS_SUFFIXES = (".safetensors", ".bin", ".gguf", ".onnx")


@dataclass(frozen=True)
class HubFile:
    name: str
    content: bytes

    @property
    def is_lfs(self) -> bool:
        return self.name.endswith(_LFS_SUFFIXES)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def blob_id(self) -> str:
        """Git's hash: of the content, or of the pointer that stands in for it."""
        content = self.content
        if self.is_lfs:
            content = b"oid sha256:%b\nsize %d\n" % (self.sha256.encode(), len(content))
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.blob_id

    def sibling(self) -> dict[str, Any]:
        """As in the answer about a repository."""
        size = len(self.content)
        entry: dict[str, Any] = {"rfilename": self.name, "size": size, "blobId": self.blob_id}
        if self.is_lfs:
            entry["lfs"] = {"sha256": self.sha256, "size": size, "pointerSize": 134}
        return entry

    def tree_entry(self) -> dict[str, Any]:
        """As in a listing of the tree."""
        size = len(self.content)
        entry: dict[str, Any] = {
            "type": "file", "path": self.name, "size": size, "oid": self.blob_id
        }  # fmt: skip
        if self.is_lfs:
            entry["lfs"] = {"oid": self.sha256, "size": size, "pointerSize": 134}
        return entry


class HubRepository:
    """One repository; its branch ``main`` is what the files are now."""

    def __init__(self, repo: str, files: dict[str, bytes]) -> None:
        self.repo = repo
        self.files = {name: HubFile(name, content) for name, content in files.items()}
        self.extra_siblings: list[dict[str, Any]] = []
        """Listed beside the files, whatever they claim."""
        self.tags: dict[str, str] = {}

    @classmethod
    def of_folder(cls, repo: str, folder: Path) -> "HubRepository":
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return cls(repo, {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})

    @cached_property
    def commit(self) -> str:
        state = "".join(f"{name} {self.files[name].sha256}\n" for name in sorted(self.files))
        return hashlib.sha1(f"{self.repo}\n{state}".encode()).hexdigest()

    def has(self, revision: str) -> bool:
        return revision in ("main", self.commit) or self.tags.get(revision) == self.commit

    def siblings(self) -> list[dict[str, Any]]:
        return [*(file.sibling() for file in self.files.values()), *self.extra_siblings]

    def content(self) -> dict[str, bytes]:
        return {name: file.content for name, file in self.files.items()}
