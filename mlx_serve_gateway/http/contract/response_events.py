"""The events that /v1/responses streams, as types; for the contract alone."""

import msgspec

from mlx_serve_gateway.http.contract.openai_shapes import SaidToken
from mlx_serve_gateway.http.contract.responses_shapes import (
    ModelResponse,
    OutputItem,
    OutputText,
    SummaryText,
)


class _Event(msgspec.Struct, kw_only=True):
    sequence_number: int


class _Whole(_Event, kw_only=True):
    response: ModelResponse


class Created(_Whole, tag="response.created"):
    pass


class InProgress(_Whole, tag="response.in_progress"):
    pass


class Completed(_Whole, tag="response.completed"):
    pass


class Incompleted(_Whole, tag="response.incomplete"):
    pass


class Failed(_Whole, tag="response.failed"):
    pass


class _OfItem(_Event, kw_only=True):
    output_index: int
    item: OutputItem


class ItemAdded(_OfItem, tag="response.output_item.added"):
    pass


class ItemDone(_OfItem, tag="response.output_item.done"):
    pass


class _InItem(_Event, kw_only=True):
    item_id: str
    output_index: int


class _OfContent(_InItem, kw_only=True):
    content_index: int


class _OfContentPart(_OfContent, kw_only=True):
    part: OutputText


class PartAdded(_OfContentPart, tag="response.content_part.added"):
    pass


class PartDone(_OfContentPart, tag="response.content_part.done"):
    pass


class TextDelta(_OfContent, kw_only=True, tag="response.output_text.delta"):
    delta: str
    logprobs: list[SaidToken]


class TextDone(_OfContent, kw_only=True, tag="response.output_text.done"):
    text: str
    logprobs: list[SaidToken]


class _OfSummary(_InItem, kw_only=True):
    summary_index: int


class _OfSummaryPart(_OfSummary, kw_only=True):
    part: SummaryText


class SummaryAdded(_OfSummaryPart, tag="response.reasoning_summary_part.added"):
    pass


class SummaryDone(_OfSummaryPart, tag="response.reasoning_summary_part.done"):
    pass


class SummaryTextDelta(_OfSummary, kw_only=True, tag="response.reasoning_summary_text.delta"):
    delta: str


class SummaryTextDone(_OfSummary, kw_only=True, tag="response.reasoning_summary_text.done"):
    text: str


class ArgumentsDelta(_InItem, kw_only=True, tag="response.function_call_arguments.delta"):
    delta: str


class ArgumentsDone(_InItem, kw_only=True, tag="response.function_call_arguments.done"):
    name: str
    arguments: str


ResponseEvent = (
    Created
    | InProgress
    | Completed
    | Incompleted
    | Failed
    | ItemAdded
    | ItemDone
    | PartAdded
    | PartDone
    | TextDelta
    | TextDone
    | SummaryAdded
    | SummaryDone
    | SummaryTextDelta
    | SummaryTextDone
    | ArgumentsDelta
    | ArgumentsDone
)
