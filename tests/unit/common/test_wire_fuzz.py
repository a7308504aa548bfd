"""Whatever bytes arrive: a message, or one of the errors that a decoder is known to raise."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_serve_common.chat import Conversation, Delta, Finish, Plain, Sampling, TokenIds
from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.undecodable import UNDECODABLE
from mlx_serve_common.wire import (
    Batch,
    BatchBudget,
    Cancel,
    Detokenize,
    Detokenized,
    Drain,
    Embed,
    Embedded,
    EmbedTokens,
    Fatal,
    Generate,
    Generated,
    Loading,
    Note,
    Piece,
    Prefilled,
    Ready,
    Rejected,
    Rerank,
    Scored,
    Tokenize,
    TokenizeConversation,
    Tokenized,
    decode_from_worker,
    decode_to_worker,
    encode,
    settled,
)

# Thousands of cases each, and others may be computing.
pytestmark = pytest.mark.timeout(300)

_FINISH = Finish("stop", None, 1, 0, 1, 0, 0.1, 0.1)
_TALK = Conversation([{"role": "user", "content": "hello"}])

TO_WORKER = [
    Batch([Embed([1, 2], ["a", "b"], "float", "right", "p", 8, True)]),
    Batch([EmbedTokens([1], [[5, 6]], "model", "base64", "left"), Detokenize([2], [[1]])]),
    Batch([Rerank([1], "q", ["d"], None, "none"), Tokenize([2], ["a"], True, False)]),
    Batch([TokenizeConversation([1], [_TALK]), Generate([2], [0], Plain("p"), Sampling())]),
    Batch([Generate([2], [0], _TALK, Sampling()), Generate([3], [0], TokenIds([1]), Sampling())]),
    Cancel([1, 2]),
    Drain(),
]
FROM_WORKER = [
    Ready(1, 2, "cpu", 0.5, 100),
    Loading("weights", 0.5),
    BatchBudget(512, "measured"),
    Embedded([1, 2], [b"[1]", b"[2]"], [3, 4], [2], 0.1),
    Scored([1], [0.5], [0.1], [3], [], 0.1),
    Tokenized([1], [[1, 2]], [[Piece("a", 0, 1, False, "a"), Piece("b", 1, 2, False, "b")]]),
    Detokenized([1], ["a"]),
    Prefilled([1], [2], [3]),
    Generated([1, 2], [Delta("a"), Delta("b", finish=_FINISH)]),
    Rejected([1], ErrorCode.INFERENCE_FAILED, "no", "input"),
    Fatal(ErrorCode.INVALID_MODEL, "no"),
]
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(),
        st.text(max_size=8), st.binary(max_size=8),
        st.sampled_from([0, 1, -1, 2**31, "", "float", "right"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, messages: list[Any]) -> bytes:
    """A message of which some bytes are others, missing, or too many."""
    data = bytearray(encode(draw(st.sampled_from(messages))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del data[at : at + draw(st.integers(1, 8))]
            case 2:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case _:
                del data[at:]
    return bytes(data)


@st.composite
def misfit(draw: st.DrawFn, messages: list[Any]) -> bytes:
    """A message one of whose parts is something else."""
    parts = msgspec.msgpack.decode(encode(draw(st.sampled_from(messages))))
    holder = parts
    while isinstance(holder[-1], list) and holder[-1] and draw(st.booleans()):
        holder = holder[-1]
    holder[draw(st.integers(0, len(holder) - 1))] = draw(PLAIN)
    return msgspec.msgpack.encode(parts)


def anything(messages: list[Any]) -> st.SearchStrategy[bytes]:
    tags = st.sampled_from([msgspec.msgpack.decode(encode(message))[0] for message in messages])
    tagged = st.builds(
        lambda tag, rest: msgspec.msgpack.encode([tag, *rest]), tags, st.lists(PLAIN)
    )
    return st.one_of(st.binary(max_size=64), damaged(messages), misfit(messages), tagged)


@settings(max_examples=300)
@given(anything(FROM_WORKER))
def test_what_a_worker_may_say(data: bytes) -> None:
    try:
        message = decode_from_worker(data)
    except UNDECODABLE:
        return
    if not isinstance(message, Ready | Note | Fatal):
        assert set(settled(message)) <= set(message.ids)
    assert decode_from_worker(encode(message)) == message or "nan" in repr(message)


@settings(max_examples=300)
@given(anything(TO_WORKER))
def test_what_a_worker_may_be_told(data: bytes) -> None:
    try:
        message = decode_to_worker(data)
    except UNDECODABLE:
        return
    assert decode_to_worker(encode(message)) == message or "nan" in repr(message)


@pytest.mark.parametrize("decode", [decode_to_worker, decode_from_worker])
@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * 100_000 + b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x96\xa8embedded" + b"\xdd\x7f\xff\xff\xff" * 2,
    ],
    ids=["deep", "endless list", "endless bytes", "endless ids"],
)
def test_what_claims_to_be_endless(decode: Any, data: bytes) -> None:
    with pytest.raises(UNDECODABLE):
        decode(data)


def test_every_message_is_among_those_that_are_damaged_here() -> None:
    for message in TO_WORKER:
        assert decode_to_worker(encode(message)) == message
    for message in FROM_WORKER:
        assert decode_from_worker(encode(message)) == message
    batches = [message for message in TO_WORKER if isinstance(message, Batch)]
    assert {type(part) for batch in batches for part in batch.parts} == {
        Detokenize, Embed, EmbedTokens, Generate, Rerank, Tokenize, TokenizeConversation,
    }  # fmt: skip
