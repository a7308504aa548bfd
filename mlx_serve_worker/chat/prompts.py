"""What a request gives a chat model to read, as token ids.

Invariants: ids outside of the vocabulary and prompts that leave no room for an answer never leave
this module; what the model's template cannot say is refused, not dropped.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from tokenizers import Tokenizer

from mlx_serve_common.chat import Conversation, Plain, Prompt, TokenIds
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ChatFacts
from mlx_serve_worker.chat.template import ChatTemplate
from mlx_serve_worker.tokenization import TextTokenizer
from mlx_serve_worker.tokenizer_file import special_tokens

# Put after the beginning of an answer, to find it again in what the template made of it.
_END_MARK = "END_OF_WHAT_IS_TO_BE_CONTINUED"
# Roles whose words a template may rewrite: those of others have to be found in what it makes.
_REWRITTEN = ("user", "assistant", "tool")
_MAX_MESSAGES = 10_000


class Reading(NamedTuple):
    ids: list[int]
    is_thinking: bool
    """The model has to go on in the middle of its thoughts."""
    may_think: bool
    """It is asked to begin with thoughts, and to mark them itself."""


class PromptReader:
    def __init__(
        self,
        tokenizer: Tokenizer,
        texts: TextTokenizer,
        chat: ChatFacts,
    ) -> None:
        self._texts = texts
        self._chat = chat
        self._first = special_tokens(tokenizer).before
        self._template = None if chat.template is None else ChatTemplate(chat.template, chat.tokens)

    def read(self, prompt: Prompt, *, is_bound: bool) -> Reading:
        """``is_bound`` if the answer has to fit a schema: then the model thinks only if asked to,
        and what it thinks is not bound.
        """
        match prompt:
            case Conversation():
                if is_bound and prompt.thinking is None and prompt.effort is None:
                    prompt = msgspec.structs.replace(prompt, thinking=False)
                text = self._words(prompt)
                thinks = self._ends_in_thought(text, prompt)
                may_think = not thinks and bool(prompt.thinking or prompt.effort)
                return Reading(self._encode(text, "messages"), thinks, may_think)
            case Plain(text):
                ids = self._encode(text, "prompt")
                has_first = ids[: len(self._first)] == self._first
                return Reading(ids if has_first else [*self._first, *ids], False, False)
            case TokenIds(ids):
                return Reading(self._checked(ids), False, False)

    def _words(self, conversation: Conversation) -> str:
        """The conversation as the model reads it."""
        if self._template is None:
            message = "this model has no chat template: it only continues texts (/v1/completions)"
            raise ServeError(ErrorCode.UNSUPPORTED_PARAMETER, message, param="messages")
        self._refuse_unsupported(conversation, self._template)
        messages = [_as_templates_read(message) for message in conversation.messages]
        if "developer" not in self._template.source:
            messages = [_as_system(message) for message in messages]
        if conversation.continues:
            return self._continued(messages, conversation, self._template)
        text = self._render(messages, conversation, self._template, add_generation_prompt=True)
        _refuse_lost(messages, text)
        return text

    def _render(
        self,
        messages: list[dict[str, Any]],
        conversation: Conversation,
        template: ChatTemplate,
        *,
        add_generation_prompt: bool,
    ) -> str:
        variables: dict[str, Any] = dict(conversation.variables)
        thinking = self._chat.thinking
        if conversation.thinking is not None and thinking is not None and thinking.variable:
            variables[thinking.variable] = conversation.thinking
        if conversation.effort is not None:
            variables["reasoning_effort"] = conversation.effort
        return template.render(
            messages,
            **variables
            | {
                "tools": conversation.tools or None,
                "add_generation_prompt": add_generation_prompt,
            },
        )

    def _continued(
        self, messages: list[dict[str, Any]], conversation: Conversation, template: ChatTemplate
    ) -> str:
        last = messages[-1]
        if last.get("role") != "assistant" or not isinstance(last.get("content"), str):
            raise _refused("only an assistant's message, the last one, can be continued")
        marked = [*messages[:-1], {**last, "content": last["content"] + _END_MARK}]
        text = self._render(marked, conversation, template, add_generation_prompt=False)
        before, mark, _ = text.rpartition(_END_MARK)
        if not mark:
            raise _refused("this model's chat template cannot leave an answer unfinished")
        _refuse_lost(messages[:-1], before)
        return before

    def _refuse_unsupported(self, conversation: Conversation, template: ChatTemplate) -> None:
        if not conversation.messages:
            raise ServeError(ErrorCode.EMPTY_INPUT, "there are no messages", param="messages")
        if len(conversation.messages) > _MAX_MESSAGES:
            found = len(conversation.messages)
            raise _refused(f"a conversation has up to {_MAX_MESSAGES} messages, this one {found}")
        if conversation.tools and not self._chat.reads_tools:
            message = "this model's chat template knows no tools"
            raise ServeError(ErrorCode.UNSUPPORTED_PARAMETER, message, param="tools")
        if conversation.thinking and self._chat.thinking is None:
            message = "this model does not reason before it answers"
            raise ServeError(ErrorCode.UNSUPPORTED_PARAMETER, message, param="thinking")

    def _ends_in_thought(self, text: str, conversation: Conversation) -> bool:
        thinking = self._chat.thinking
        if thinking is None:
            return False
        if conversation.continues:
            said = str(conversation.messages[-1]["content"])
            return said.rfind(thinking.start) > said.rfind(thinking.end)
        return text.rstrip().endswith(thinking.start)

    # --- ids -------------------------------------------------------------------------------------

    def _encode(self, text: str, param: str) -> list[int]:
        if not text:
            raise ServeError(ErrorCode.EMPTY_INPUT, "the prompt is empty", param=param)
        read = self._texts.read([text])[0]
        if isinstance(read, ServeError):
            raise ServeError(read.code, read.message, param=param)
        if not read.whole or len(read.ids) >= self._texts.max_tokens:
            raise self._too_long(len(read.ids), read.whole, param)
        if error := self._texts.beyond_vocabulary(read.ids):
            raise error
        return read.ids

    def _checked(self, ids: Sequence[int]) -> list[int]:
        if not ids:
            raise ServeError(ErrorCode.EMPTY_INPUT, "the prompt is empty", param="prompt")
        if error := self._texts.range_error(ids):
            raise ServeError(error.code, error.message, param="prompt")
        if len(ids) >= self._texts.max_tokens:
            raise self._too_long(len(ids), True, "prompt")
        return list(ids)

    def _too_long(self, count: int, is_whole: bool, param: str) -> ServeError:
        found = f"{count} tokens" if is_whole else f"more than {count} tokens, or endless words"
        return ServeError(
            ErrorCode.CONTEXT_LENGTH_EXCEEDED,
            f"this model's context is {self._texts.max_tokens} tokens, the answer's included; the"
            f" prompt has {found}",
            param=param,
        )


def _as_templates_read(message: dict[str, Any]) -> dict[str, Any]:
    """Templates add to the content, and know thoughts by two names."""
    made = {**message, "content": message.get("content") or ""}
    if (reasoning := message.get("reasoning_content")) is not None:
        made["thinking"] = reasoning
    return made


def _as_system(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "role": "system"} if message.get("role") == "developer" else message


def _refuse_lost(messages: list[dict[str, Any]], text: str) -> None:
    """Templates pass over messages with a role that they do not know."""
    for message in messages:
        role, content = message.get("role"), message["content"]
        if role in _REWRITTEN or not isinstance(content, str):
            continue
        if content.strip() not in text:
            raise _refused(
                f"this model's chat template has no place for the role {str(role)[:64]!r}"
            )


def _refused(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, message, param="messages")
