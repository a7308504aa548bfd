"""The tokens of a chat model: its tokenizer, and which of its tokens mean what.

Invariants: an id that the model has no row for is none of its tokens.
"""

from pathlib import Path

from tokenizers import Tokenizer

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ChatFacts, Manifest
from mlx_serve_worker.chat.detokenizing import TokenTexts
from mlx_serve_worker.mlx_lm_runtime import CallFormat, call_format
from mlx_serve_worker.tokenization import TextTokenizer
from mlx_serve_worker.tokenizer_file import load_tokenizer


class ChatVocabulary:
    def __init__(self, folder: Path, manifest: Manifest, chat: ChatFacts, vocab_size: int) -> None:
        self.tokenizer = load_tokenizer(folder, manifest)
        self.vocab_size = vocab_size
        self.max_tokens = manifest.max_tokens or 0
        if self.max_tokens < 1:
            raise ServeError(
                ErrorCode.INVALID_MODEL, "the manifest does not say how much the model reads"
            )
        self.texts = TextTokenizer(
            self.tokenizer, vocab_size=vocab_size, max_tokens=self.max_tokens
        )
        self.calls: CallFormat | None = (
            None if chat.tool_parser is None else call_format(chat.tool_parser)
        )
        self.said = TokenTexts(self.tokenizer, _ids_in(self.tokenizer, _marks(chat, self.calls)))
        self.ends = [id for id in chat.ends if 0 <= id < vocab_size]


def _marks(chat: ChatFacts, calls: CallFormat | None) -> list[str]:
    """What a model writes between the parts of an answer, which may be special tokens."""
    thinking = chat.thinking
    return [
        *((thinking.start, thinking.end) if thinking is not None else ()),
        *((calls.start, calls.end) if calls is not None else ()),
    ]


def _ids_in(tokenizer: Tokenizer, marks: list[str]) -> set[int]:
    return {
        id for mark in marks if mark for id in tokenizer.encode(mark, add_special_tokens=False).ids
    }
