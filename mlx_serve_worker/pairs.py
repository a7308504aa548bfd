"""A query and a document to the token ids of one input, as cross-encoders read them.

Invariants: the ids and types are the tokenizer's own for the pair; what does not fit is cut from
the document and never from the query; a document that cannot be tokenized fails alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Rerank, Truncate
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.tokenization import Read, TextTokenizer
from mlx_serve_worker.tokenizer_file import TokenizerFailed, guarded

_PROBES = (("a", "b"), ("1", "2"), ("가", "나"))
_QUERY, _DOCUMENT = 0, 1


class Segment(NamedTuple):
    """Special tokens and their types."""

    ids: list[int]
    types: list[int]


class PairTemplate(NamedTuple):
    """What the tokenizer puts around a pair, and the types it gives to its two texts."""

    before: Segment
    between: Segment
    after: Segment
    query_type: int
    document_type: int

    @property
    def tokens(self) -> int:
        return len(self.before.ids) + len(self.between.ids) + len(self.after.ids)

    def types(self, query: int, document: int) -> list[int]:
        """The type of every token of a pair whose texts have that many tokens."""
        return [
            *self.before.types,
            *[self.query_type] * query,
            *self.between.types,
            *[self.document_type] * document,
            *self.after.types,
        ]


def pair_template(tokenizer: Any) -> PairTemplate:
    for query, document in _PROBES:
        try:
            found = guarded(tokenizer.encode, query, document)
            bare = [
                guarded(tokenizer.encode, text, add_special_tokens=False).ids
                for text in (query, document)
            ]
        except TokenizerFailed:
            break
        if (template := _template(found)) is not None and _fits(template, bare, found.ids):
            return template
    raise ServeError(ErrorCode.INVALID_MODEL, "tokenizer.json pairs texts in an unknown way")


def _template(found: Any) -> PairTemplate | None:
    places = [
        [at for at, text in enumerate(found.sequence_ids) if text == which]
        for which in (_QUERY, _DOCUMENT)
    ]
    if not all(places):
        return None
    query, document = places

    def segment(start: int, stop: int) -> Segment:
        return Segment(found.ids[start:stop], found.type_ids[start:stop])

    return PairTemplate(
        segment(0, query[0]),
        segment(query[-1] + 1, document[0]),
        segment(document[-1] + 1, len(found.ids)),
        found.type_ids[query[0]],
        found.type_ids[document[0]],
    )


def _fits(template: PairTemplate, bare: Sequence[list[int]], ids: list[int]) -> bool:
    query, document = bare
    between, after = template.between.ids, template.after.ids
    return [*template.before.ids, *query, *between, *document, *after] == ids


class PairTokenizer:
    def __init__(
        self, texts: TextTokenizer, template: PairTemplate, *, token_types: int, prompt: str = ""
    ) -> None:
        """``token_types`` is how many the model tells apart, 0 if it does not ask for them."""
        self._texts = texts
        self._template = template
        self._has_types = token_types > 0
        self._prompt = prompt
        if self._has_types and max(template.types(1, 1)) >= token_types:
            raise ServeError(
                ErrorCode.INVALID_MODEL,
                f"the tokenizer tells more types of token apart than the model's {token_types}",
            )

    def prepare(self, part: Rerank) -> list[Prepared | ServeError]:
        query = self._texts.read([part.query], before=self._prompt)[0]
        if isinstance(query, ServeError):
            return [query for _ in part.documents]
        documents = self._texts.read(part.documents, from_end=part.truncate == "left")
        return [
            read if isinstance(read, ServeError) else self._fit(query, read, part.truncate)
            for read in documents
        ]

    def _fit(self, query: Read, document: Read, truncate: Truncate) -> Prepared | ServeError:
        room = self._texts.max_tokens - self._template.tokens - len(query.ids)
        if not query.whole or room < min(1, len(document.ids)):
            return query_too_long(query, self._texts.max_tokens, self._template.tokens)
        truncated = len(document.ids) > room or not document.whole
        if truncated and truncate == "none":
            taken = len(query.ids) + self._template.tokens
            return document_too_long(document, self._texts.max_tokens, taken)
        kept = cut(document.ids, room, truncate) if truncated else document.ids
        before, between, after = self._template[:3]
        ids = [*before.ids, *query.ids, *between.ids, *kept, *after.ids]
        if error := self._texts.beyond_vocabulary(ids):
            return error
        types = self._template.types(len(query.ids), len(kept)) if self._has_types else None
        return Prepared(ids, len(ids), truncated, context=types)


def cut(ids: list[int], room: int, truncate: Truncate) -> list[int]:
    return ids[len(ids) - room :] if truncate == "left" and len(ids) > room else ids[:room]


def query_too_long(query: Read, max_tokens: int, special: int) -> ServeError:
    count = f"{len(query.ids)}" if query.whole else f"more than {len(query.ids)}"
    return ServeError(
        ErrorCode.CONTEXT_LENGTH_EXCEEDED,
        f"this model takes up to {max_tokens} tokens for query and document together; the query"
        f" has {count} and {special} are special tokens, which leaves none for the document",
        param="query",
    )


def document_too_long(document: Read, max_tokens: int, taken: int) -> ServeError:
    count = f"{len(document.ids)}" if document.whole else f"more than {len(document.ids)}"
    return ServeError(
        ErrorCode.CONTEXT_LENGTH_EXCEEDED,
        f"this model takes up to {max_tokens} tokens for query and document together; the query"
        f" and the special tokens take {taken}, and the document has {count}",
        param="documents",
    )
