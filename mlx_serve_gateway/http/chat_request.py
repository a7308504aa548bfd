"""What OpenAI's clients send to /v1/chat/completions, made a conversation and how to answer it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlx_serve_common.chat import Conversation, Sampling
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.http.chat_abilities import require_tools
from mlx_serve_gateway.http.chat_messages import read_messages
from mlx_serve_gateway.http.chat_tools import Choice, choose_tools, read_tools
from mlx_serve_gateway.http.conversation_bounds import Messages, ToolList
from mlx_serve_gateway.http.reasoning import Effort, reasoning, switch_in
from mlx_serve_gateway.http.response_format import schema_of
from mlx_serve_gateway.http.sampling_request import (
    MOST_LOGPROBS,
    Count,
    SamplingRequest,
    refuse,
    unsupported,
)

# What the template is told anyway, and from elsewhere.
_RESERVED = frozenset({"messages", "tools", "add_generation_prompt", "self"})
_NOT_DONE: Mapping[str, str] = {
    "functions": "send tools",
    "function_call": "send tool_choice",
    "chat_template": "the model's own is used",
    "documents": "put them into the messages",
    "audio": "the model writes text only",
    "web_search_options": "offer a tool that your program runs",
}


class ChatRequest(SamplingRequest, kw_only=True):
    messages: Messages[Any]
    tools: ToolList[Any] | None = None
    tool_choice: Choice = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None
    response_format: dict[str, Any] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    modalities: list[str] | None = None
    # vLLM's
    enable_thinking: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    # what is not done
    functions: Any = None
    function_call: Any = None
    chat_template: Any = None
    documents: Any = None
    audio: Any = None
    web_search_options: Any = None

    def sampling(self) -> Sampling:
        refuse(self, _NOT_DONE)
        if self.verbosity not in (None, "medium"):
            raise unsupported("verbosity", "ask for it in a message")
        if self.modalities not in (None, ["text"]):
            raise unsupported("modalities", "the model writes text only")
        return msgspec.structs.replace(
            super().sampling(),
            max_tokens=self.max_completion_tokens or self.max_tokens,
            top_logprobs=self._top_logprobs(),
            json_schema=schema_of(self.response_format, "response_format"),
        )

    def conversation(self, model: InstalledModel) -> Conversation:
        tools = choose_tools(read_tools(self.tools), self.tool_choice)
        if tools.offered:
            require_tools(model)
        messages = read_messages(self.messages)
        variables = self._variables()
        in_variables = switch_in(variables)
        is_on = in_variables if self.enable_thinking is None else self.enable_thinking
        param = "reasoning_effort" if is_on is None else "enable_thinking"
        thinking, effort = reasoning(model, self.reasoning_effort, is_on, param=param)
        return Conversation(
            messages,
            tools=tools.offered,
            forced=tools.forced,
            is_parallel=self.parallel_tool_calls is not False,
            thinking=thinking,
            effort=effort,
            variables=variables,
            continues=self._continues(messages[-1]["role"]),
        )

    def _variables(self) -> dict[str, Any]:
        variables = dict(self.chat_template_kwargs or {})
        if reserved := sorted(_RESERVED & set(variables)):
            raise _invalid("chat_template_kwargs", f"{reserved[0]!r} cannot be set this way")
        return variables

    def _continues(self, last_role: str) -> bool:
        if not self.continue_final_message:
            if self.add_generation_prompt is False:
                raise unsupported("add_generation_prompt", "send continue_final_message as well")
            return False
        if self.add_generation_prompt:
            raise _invalid(
                "continue_final_message", "contradicts add_generation_prompt: send one of them"
            )
        if last_role != "assistant":
            raise _invalid("continue_final_message", "the last message is not the assistant's")
        return True

    def _top_logprobs(self) -> int | None:
        if self.top_logprobs and not self.logprobs:
            raise _invalid("top_logprobs", "needs logprobs to be true")
        return (self.top_logprobs or 0) if self.logprobs else None


def _invalid(param: str, why: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, f"{param}: {why}", param=param)
