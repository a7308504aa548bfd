"""The question that Qwen3-Reranker was trained to answer, as token ids.

Invariants: the words are those of the model card and never a repository's template; what does not
fit is cut from the document, never from what is around it; the text between the fixed parts is
tokenized in one piece, as the card does.
"""

from typing import NamedTuple

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Rerank, Truncate
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.pairs import cut, document_too_long, query_too_long
from mlx_serve_worker.tokenization import Read, TextTokenizer

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
MAX_TOKENS = 8192
"""The length that the model card works with."""

SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct"
    ' provided. Note that the answer can only be "yes" or "no".'
)
BEFORE = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
QUESTION = "<Instruct>: {instruction}\n<Query>: {query}\n<Document>:"
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


class Prefix(NamedTuple):
    """The tokens that all documents of one query begin with."""

    ids: tuple[int, ...]
    repeats: bool
    """Whether there is more than one such document."""


class JudgePrompt:
    def __init__(self, texts: TextTokenizer, instruction: str) -> None:
        self._texts = texts
        self._instruction = instruction
        self._before = self._fixed(BEFORE)
        self._after = self._fixed(AFTER)

    def _fixed(self, text: str) -> list[int]:
        read = self._texts.read([text])[0]
        if isinstance(read, ServeError) or not read.whole:
            raise ServeError(ErrorCode.INVALID_MODEL, "the tokenizer cannot read the fixed prompt")
        if error := self._texts.beyond_vocabulary(read.ids):
            raise error
        return read.ids

    def prepare(self, part: Rerank) -> list[Prepared | ServeError]:
        instruction = self._instruction if part.instruction is None else part.instruction
        question = QUESTION.format(instruction=instruction, query=part.query)
        head = self._texts.read([question])[0]
        if isinstance(head, ServeError):
            return [head for _ in part.documents]
        if not head.whole or len(head.ids) >= self._room:
            fixed = len(self._before) + len(self._after)
            error = query_too_long(head, self._texts.max_tokens, fixed)
            return [error for _ in part.documents]
        prefix = Prefix((*self._before, *head.ids), len(part.documents) > 1)
        reads = self._texts.read(
            part.documents, before=f"{question} ", from_end=part.truncate == "left"
        )
        return [
            read if isinstance(read, ServeError) else self._fit(prefix, head, read, part.truncate)
            for read in reads
        ]

    @property
    def _room(self) -> int:
        return self._texts.max_tokens - len(self._before) - len(self._after)

    def _fit(
        self, prefix: Prefix, head: Read, read: Read, truncate: Truncate
    ) -> Prepared | ServeError:
        # A tokenizer may join the end of the question to the document; then nothing is shared.
        taken = len(head.ids)
        shares = read.ids[:taken] == head.ids
        document = read.ids[taken:]
        room = self._room - taken
        truncated = len(document) > room or not read.whole
        if truncated and truncate == "none":
            around = len(prefix.ids) + len(self._after)
            return document_too_long(Read(document, read.whole), self._texts.max_tokens, around)
        if truncated:
            document = cut(document, room, truncate)
        ids = [*self._before, *read.ids[:taken], *document, *self._after]
        if error := self._texts.beyond_vocabulary(ids):
            return error
        return Prepared(ids, len(ids), truncated, context=prefix if shares else None)
