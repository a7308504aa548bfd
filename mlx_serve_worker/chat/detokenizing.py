"""Token ids to text while they come.

Invariants: what is told never ends in half of a character; all pieces together are what the
tokenizer makes of all ids at once, without its special tokens except those that are ``kept``.
"""

import codecs
import re
from collections.abc import Callable, Collection
from typing import Any, Protocol

from tokenizers import Tokenizer, decoders

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_HALF = "\ufffd"


class Detokenizer(Protocol):
    def feed(self, id: int) -> str:
        """The text that is complete with this token."""

    def flush(self) -> str:
        """What is left, when no more tokens come."""


class TokenTexts:
    """The words of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer, kept: Collection[int] = ()) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.size = max(tokenizer.get_vocab().values(), default=-1) + 1
        self.specials = {id for id, token in added.items() if token.special}
        self._skipped = self.specials - set(kept)
        self._bytes: dict[int, bytes] = {}
        self._works_on_bytes = isinstance(tokenizer.decoder, decoders.ByteLevel)

    def detokenizer(self) -> Detokenizer:
        return _OfBytes(self.bytes_of) if self._works_on_bytes else _OfPieces(self)

    def bytes_of(self, id: int) -> bytes:
        """What the token stands for by itself: nothing for one that is left out."""
        known = self._bytes.get(id)
        if known is None:
            known = self._bytes[id] = self._find_bytes(id)
        return known

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def is_mute(self, id: int) -> bool:
        """Whether the token is left out of every text, or is none at all."""
        return id in self._skipped or self._tokenizer.id_to_token(id) is None

    def decode(self, ids: list[int]) -> str:
        seen = [id for id in ids if not self.is_mute(id)]
        return str(self._tokenizer.decode(seen, skip_special_tokens=False))

    def is_byte(self, id: int) -> bool:
        """Whether it is one of those that stand for a byte which no other token has."""
        return _BYTE.fullmatch(self._tokenizer.id_to_token(id) or "") is not None

    def _find_bytes(self, id: int) -> bytes:
        if self.is_mute(id):
            return b""
        token = str(self._tokenizer.id_to_token(id))
        if self._works_on_bytes:
            return _level_bytes(token)
        if self.is_byte(id):
            return bytes([int(token[3:5], 16)])
        # Behind another token, because at the start a decoder drops the blank before a word.
        return (self.decode([id, id])[len(self.decode([id])) :]).encode()


def _level_bytes(token: str) -> bytes:
    try:
        return bytes(_LEVEL[character] for character in token)
    except KeyError:
        return token.encode()


def _level_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: the printable stand for themselves, the others follow 255."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    shown = {chr(byte): byte for byte in printable}
    return shown | {chr(256 + at): byte for at, byte in enumerate(others)}


_LEVEL = _level_alphabet()


class _OfBytes:
    """For tokenizers whose tokens are bytes: most of today's."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder: Any = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, id: int) -> str:
        return str(self._decoder.decode(self._token_bytes(id)))

    def flush(self) -> str:
        return str(self._decoder.decode(b"", final=True))


class _OfPieces:
    """For every other tokenizer: decodes the last tokens again with each new one."""

    def __init__(self, texts: TokenTexts) -> None:
        self._texts = texts
        self._ids: list[int] = []
        self._told = 0
        """So many of the ids are told; they are kept for the sake of those behind them."""

    def feed(self, id: int) -> str:
        if self._texts.is_mute(id):
            return ""
        self._ids.append(id)
        # A run of bytes is decoded as one: what follows can still turn all of it into nonsense.
        if self._texts.is_byte(id):
            return ""
        text = self._new_text()
        if text.endswith(_HALF):
            return ""
        if text:
            self._ids = self._ids[self._told :]
            self._told = len(self._ids)
        return text

    def flush(self) -> str:
        text = self._new_text()
        self._ids, self._told = [], 0
        return text

    def _new_text(self) -> str:
        return self._texts.decode(self._ids)[len(self._texts.decode(self._ids[: self._told])) :]
