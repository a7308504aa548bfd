"""A model's chat template, which puts a conversation into words.

Invariants: rendered as transformers does it, but bounded (see ``template_bounds``); what a template
refuses, or loses without a word, is told to whoever sent the conversation.
"""

import json
import logging
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.chat.template_bounds import BoundedEnvironment, Budget, TooMuch

_MAX_TOLD = 300
_MAX_INDENT = 16

log = logging.getLogger(__name__)


class Refused(jinja2.TemplateError):
    """The template's own words: ``raise_exception``."""


class ChatTemplate:
    def __init__(self, source: str, tokens: dict[str, str]) -> None:
        """``tokens`` are the tokenizer's special ones, by what they are for."""
        self._tokens = tokens
        self._environment = _environment()
        try:
            parsed = self._environment.parse(source)
            self.variables = meta.find_undeclared_variables(parsed)
            self._template = self._environment.from_string(parsed)
        except (jinja2.TemplateError, RecursionError, SyntaxError) as error:
            raise ServeError(
                ErrorCode.INVALID_MODEL, f"the model's chat template is no template: {_told(error)}"
            ) from None
        self.source = source

    def render(self, messages: list[dict[str, Any]], **variables: Any) -> str:
        budget = self._environment.budget = Budget()
        known = {**self._tokens, "documents": None, **variables, "messages": messages}
        pieces: list[str] = []
        try:
            with budget.counting_steps():
                for piece in self._template.generate(**known):
                    budget.spend(len(piece))
                    pieces.append(piece)
        except Refused as error:
            raise _refused(f"the model's chat template refuses this: {_told(error)}") from None
        except (TooMuch, MemoryError, RecursionError) as error:
            raise _refused(f"the model's chat template is stopped: {_told(error)}") from None
        except jinja2.TemplateError as error:
            raise _refused(f"the model's chat template fails on this: {_told(error)}") from None
        except Exception as error:
            log.info("a chat template failed", exc_info=error)
            what = f"{type(error).__name__}: {_told(error)}"
            raise _refused(f"the model's chat template fails on this: {what}") from None
        return "".join(pieces)


def _environment() -> BoundedEnvironment:
    made = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    made.add_filter("tojson", _tojson)
    made.globals["raise_exception"] = _raise_exception
    made.globals["strftime_now"] = _strftime_now
    made.globals["dict"] = _Dict()
    made.globals["namespace"] = _Namespace
    return made


class _Generation(Extension):
    """Marks what the assistant says, for training; nothing to us."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Dict:
    """The real one would lend itself to be taken apart."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(jinja2.utils.Namespace):
    """Whose names do not begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        # So that one of the names can be self.
        self, values = args[0], dict(*args[1:], **kwargs)
        for name in values:
            _check_name(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace has no {name!r}")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    # Without the escapes for HTML that jinja2's own has.
    if len(indent) > _MAX_INDENT if isinstance(indent, str) else (indent or 0) > _MAX_INDENT:
        raise TooMuch("it indents too far")
    if sum(map(len, separators or ())) > _MAX_INDENT:
        raise TooMuch("it separates too far")
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: Any) -> None:
    raise Refused(str(message))


def _strftime_now(format: str) -> str:
    if len(format) > _MAX_TOLD or any(character.isdigit() for character in format):
        raise TooMuch("it writes the time too long")
    return datetime.now().strftime(format)


def _told(error: BaseException) -> str:
    return " ".join(str(error).split())[:_MAX_TOLD] or type(error).__name__


def _refused(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, message, param="messages")
