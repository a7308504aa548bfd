"""Which of a model's prompts a request asks for.

Clients say it in four ways: the prompt itself, its name, what the input is for (Cohere, Voyage), or
a Jina task. Only the first two can be wrong. A query or a document that the model has no prompt for
goes without one, even if the model has a default; any other purpose leaves that to the model.
"""

from collections.abc import Iterable

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest

MAX_PROMPT_CHARACTERS = 8 * 1024

# Names that model cards give to the prompt for a purpose, the commonest first.
_NAMES = {
    "query": ("query", "search_query", "retrieval.query", "s2p_query", "web_search_query"),
    "document": (
        "document",
        "passage",
        "search_document",
        "retrieval.passage",
        "corpus",
        "text",
    ),
}
_PURPOSES = {
    "query": "query",
    "search_query": "query",
    "retrieval.query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
    "retrieval.passage": "document",
}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The ways of asking, as they stand in a request."""

    prompt: str | None = None
    prompt_name: str | None = None
    input_type: str | None = None
    task: str | None = None


def choose_prompt(asked: Asked, manifest: Manifest) -> str | None:
    """The text to put before each input; None leaves it to the model's default."""
    if asked.prompt is not None:
        if len(asked.prompt) > MAX_PROMPT_CHARACTERS:
            raise _invalid("prompt", f"is longer than {MAX_PROMPT_CHARACTERS} characters")
        return asked.prompt
    if asked.prompt_name is not None:
        if asked.prompt_name not in manifest.prompts:
            known = ", ".join(sorted(manifest.prompts)) or "none"
            raise _invalid("prompt_name", f"the model has no such prompt; it has: {known}")
        return manifest.prompts[asked.prompt_name]
    for purpose in (asked.input_type, asked.task):
        if purpose is not None:
            return _for_purpose(purpose, manifest)
    return None


def _for_purpose(purpose: str, manifest: Manifest) -> str | None:
    meant = _PURPOSES.get(purpose)
    names: Iterable[str] = (purpose, *(_NAMES[meant] if meant else ()))
    without = "" if meant else None
    return next((manifest.prompts[name] for name in names if name in manifest.prompts), without)


def _invalid(param: str, why: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, f"{param}: {why}", param=param)
