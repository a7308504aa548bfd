"""The names that installed models may have: each is also the name of a folder.

Invariants: a checked name is one plain component of a path, the same on every file system.
"""

import unicodedata

from mlx_serve_common.errors import ErrorCode, ServeError

INDEX_FILE = "metadata.json"
"""Lies beside the models' folders, so that none of them can have this name."""

_MAX_CHARACTERS = 128
# What a file system allows for one component, on all that matter.
_MAX_BYTES = 255
_PUNCTUATION = frozenset("._-+")
# Letters, the marks that belong to them in many scripts, and digits.
_CATEGORIES = frozenset("LMN")


def check_name(name: str) -> str:
    """``name`` in its one spelling (NFC), or an error that says what is wrong with it."""
    name = unicodedata.normalize("NFC", name)
    if not name or len(name) > _MAX_CHARACTERS or len(_encoded(name)) > _MAX_BYTES:
        raise _refused(name, f"it has to have 1 to {_MAX_CHARACTERS} characters")
    if name[0] in ".-":
        raise _refused(name, f"it may not begin with {name[0]!r}")
    if clash_key(name) == INDEX_FILE:
        raise _refused(name, "the list of the models is kept there")
    for character in name:
        if character not in _PUNCTUATION and unicodedata.category(character)[0] not in _CATEGORIES:
            raise _refused(name, f"it may not contain {character!r}")
    return name


def clash_key(name: str) -> str:
    """Equal for names that some file system, or some reader, would take for the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _refused(name: str, reason: str) -> ServeError:
    return ServeError(
        ErrorCode.INVALID_REQUEST, f"{name[:80]!r} cannot be a model's name: {reason}", param="name"
    )
