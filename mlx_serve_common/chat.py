"""What a chat model is asked and what it says: plain data that gateway and worker share.

Invariants: what is None is left to the model's own settings; a conversation is as chat templates
read it, whatever API it came by; nothing here knows a template, a tokenizer or a status code.
"""

from typing import Any, Literal

import msgspec

FinishReason = Literal["stop", "length", "tool_calls"]


class _Data(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


# --- asked ---------------------------------------------------------------------------------------


class Conversation(_Data, frozen=True, tag="conversation"):
    """To be put into words by the model's chat template."""

    messages: list[dict[str, Any]]
    """``role``, ``content`` (a text), and where they apply ``tool_calls`` (with arguments as an
    object), ``tool_call_id``, ``name``, ``reasoning_content``."""
    tools: list[dict[str, Any]] = []
    """In OpenAI's shape: ``{"type": "function", "function": {name, description, parameters}}``."""
    forced: list[str] = []
    """The answer must be a call of one of these tools."""
    is_parallel: bool = True
    """Several calls may be made at once."""
    thinking: bool | None = None
    """Reason before answering or not; None leaves it to the model."""
    effort: str | None = None
    """How much: low, medium or high, where the template knows that."""
    variables: dict[str, Any] = {}
    """What else the template is to know (``chat_template_kwargs``)."""
    continues: bool = False
    """The last message is the beginning of the answer."""


class Plain(_Data, frozen=True, tag="plain"):
    """A text to be continued as it stands; special tokens in it are read as such."""

    text: str


class TokenIds(_Data, frozen=True, tag="token_ids"):
    """The model's own ids."""

    ids: list[int]


Prompt = Conversation | Plain | TokenIds


class Sampling(_Data, frozen=True):
    """How the next token is chosen, and when the answer ends."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    """Choice k of a request uses ``seed + k``."""
    stop: list[str] = []
    """Texts that end the answer and are not part of it."""
    top_logprobs: int | None = None
    """Tell each token's probability, and those of so many of the likeliest; None tells none."""
    json_schema: str | None = None
    """The answer's text must be a JSON value that fits this schema."""


# --- said ----------------------------------------------------------------------------------------


class ToolCall(_Data, frozen=True):
    name: str
    arguments: str
    """A JSON object."""


class LikelyToken(_Data, frozen=True):
    text: str
    bytes: bytes
    logprob: float


class SaidToken(_Data, frozen=True):
    """A token of the answer's text, with those that were likeliest in its place."""

    token: LikelyToken
    top: list[LikelyToken] = []


class Finish(_Data, frozen=True):
    """The last that is said of one answer."""

    reason: FinishReason
    stop: str | None
    """Which of the asked stop texts ended it."""
    prompt_tokens: int
    cached_tokens: int
    """How many of these were known from an earlier request."""
    completion_tokens: int
    reasoning_tokens: int
    prefill_s: float
    decode_s: float


class Delta(_Data, frozen=True):
    """What was said since the last one; all deltas together are the answer."""

    text: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = []
    tokens: list[SaidToken] = []
    finish: Finish | None = None
