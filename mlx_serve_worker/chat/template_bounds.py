"""A sandbox for chat templates, which are programs that strangers wrote.

On top of what jinja2's own sandbox forbids, a rendering is bounded in steps, time, and the text
that it makes on the way. Invariants: what could make a value of any size in one go is refused
before it is done; everything else is counted while it is done.
"""

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_CHARACTERS = 128 * 1024**2
"""Of all texts that are made on the way."""
MAX_STEPS = 5_000_000
MAX_SECONDS = 3.0
_STEPS_BETWEEN_LOOKS = 64
_MAX_RANGE = 100_000
_MAX_REPEATED = 1_000_000
_MAX_REPLACED = 32 * 1024**2
_MAX_NUMBER = 10_000
_MAX_BITS = 512
_CHARACTERS_OF_AN_ITEM = 8

# Filters that make a text of whatever they are given, and those whose parts are as many as asked.
_AS_TEXT = ("center", "format", "indent", "replace", "urlize", "wordwrap")
_IN_PARTS = ("batch", "slice")
# A format whose width is another argument.
_NESTED_FORMAT = re.compile(r"\{[^{}]*:[^{}]*\{")

# What jinja2 calls the code that it makes of a template.
_TEMPLATE_CODE = "<template>"

_TraceFunction = Callable[[FrameType, str, Any], Any]


class TooMuch(Exception):
    """A template that asks for more than a template may; the message says of what."""


class Budget:
    """What one rendering has used."""

    def __init__(self) -> None:
        self._characters = 0
        self._steps = 0
        # Of this thread: another one may be computing meanwhile.
        self._end = time.thread_time() + MAX_SECONDS

    def spend(self, characters: int) -> None:
        self._characters += characters
        if self._characters > MAX_CHARACTERS:
            raise TooMuch(f"it makes more than {MAX_CHARACTERS // 1024**2} million characters")

    def step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise TooMuch(f"it takes more than {MAX_STEPS} steps")
        if self._steps % _STEPS_BETWEEN_LOOKS == 0 and time.thread_time() > self._end:
            raise TooMuch(f"it takes more than {MAX_SECONDS:g} seconds")

    @contextmanager
    def counting_steps(self) -> Iterator[None]:
        """Every line of a template's code that this thread runs is a step.

        There is no other way in: a loop without a body calls nothing.
        """

        def on_line(frame: FrameType, event: str, argument: Any) -> _TraceFunction:
            if event == "line":
                self.step()
            return on_line

        def on_call(frame: FrameType, event: str, argument: Any) -> _TraceFunction | None:
            return on_line if frame.f_code.co_filename == _TEMPLATE_CODE else None

        before = sys.gettrace()
        sys.settrace(on_call)
        try:
            yield
        finally:
            sys.settrace(before)


class _Generator(CodeGenerator):
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    code_generator_class = _Generator
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, **options: Any) -> None:
        # An optimizer would compute what a template says before anything is counted.
        super().__init__(**options, optimized=False)
        self.budget = Budget()
        self.concat = self.joined  # type: ignore[method-assign]
        self.globals["range"] = _bounded_range
        del self.globals["lipsum"]
        for name, function in self.filters.items():
            self.add_filter(name, function)

    def joined(self, parts: Iterable[Any]) -> str:
        text = "".join(map(str, parts))
        self.budget.spend(len(text))
        return text

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        match operator:
            case "*":
                _check_product(left, right)
            case "**":
                _check_power(left, right)
            case "%":
                _check_format(left)
            case _:
                pass
        return self._spent(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str | int):
            _check_text_call(__obj.__name__, str(owner), [*args, *kwargs.values()])
        return __self._spent(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_format(value.__self__)
        return wrapped

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        # jinja2 puts a context or itself before the value, for filters that say so.
        at = int(hasattr(function, "jinja_pass_arg"))

        @wraps(function)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            self.budget.step()
            value, others = args[at], [*args[at + 1 :], *kwargs.values()]
            if name == "sum" and any(not isinstance(each, str | int | float) for each in others):
                raise TooMuch("it adds up what is no number")
            if name == "join":
                value = list(value)
                args = (*args[:at], value, *args[at + 1 :])
                _check_join(others[0] if others else "", value)
            elif isinstance(value, str) or name in _AS_TEXT:
                _check_text_call(name, str(value), others)
            elif name in _IN_PARTS:
                _check_numbers(name, others)
            return self._spent(function(*args, **kwargs))

        self.filters[name] = bounded

    def _spent(self, value: Any) -> Any:
        if isinstance(value, str):
            self.budget.spend(len(value))
        elif isinstance(value, list | tuple):
            self.budget.spend(len(value) * _CHARACTERS_OF_AN_ITEM)
        return value


def _bounded_range(*arguments: int) -> range:
    made = range(*arguments)
    # Without len(), which fails where this matters.
    if made and abs(made[-1] - made[0]) // abs(made.step) >= _MAX_RANGE:
        raise TooMuch(f"it counts further than {_MAX_RANGE}")
    return made


def _check_product(left: Any, right: Any) -> None:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, str | list | tuple) and isinstance(other, int):
            _check_size(len(one) * other)
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())


def _check_power(base: Any, exponent: Any) -> None:
    if isinstance(base, int) and isinstance(exponent, int):
        _check_bits(base.bit_length() * max(exponent, 0))


def _check_bits(bits: int) -> None:
    if bits > _MAX_BITS:
        raise TooMuch("it computes with too large a number")


def _check_size(characters: int, most: int = _MAX_REPEATED) -> None:
    if characters > most:
        raise TooMuch("it makes too long a text")


def _check_format(text: Any) -> None:
    """A number in a format can be a width."""
    if not isinstance(text, str):
        return
    if _NESTED_FORMAT.search(text):
        raise TooMuch("it formats a text as wide as another says")
    digits = 0
    for character in text:
        digits = digits + 1 if character.isdigit() else 0
        if digits > 4 or character == "*":
            raise TooMuch("it formats a text too wide")


def _check_join(separator: Any, parts: Sequence[Any]) -> None:
    if isinstance(separator, str):
        _check_size(len(separator) * len(parts), _MAX_REPLACED)


def _check_numbers(name: str, arguments: Iterable[Any]) -> None:
    if any(isinstance(each, int) and abs(each) > _MAX_NUMBER for each in arguments):
        raise TooMuch(f"it calls {name} with too large a number")


def _check_text_call(name: str, text: str, arguments: Iterable[Any]) -> None:
    """A method of ``text``, or a filter on it, that could make much more of it."""
    others = list(arguments)
    _check_numbers(name, others)
    match name, others:
        case (("format" | "format_map"), _):
            _check_format(text)
        case (("encode" | "to_bytes" | "translate"), _):
            raise TooMuch(f"it calls {name}")
        case "replace", [str() as one, str() as other, *_]:
            # By their names, they come in any order.
            for old, new in ((one, other), (other, one)):
                _check_size(text.count(old) * (len(new) - len(old)), _MAX_REPLACED)
        case "expandtabs", [int() as width]:
            _check_size(text.count("\t") * width)
        case (("urlize" | "wordwrap"), _):
            added = sum(len(each) for each in others if isinstance(each, str))
            _check_size(len(text) * added, _MAX_REPLACED)
        case "indent", [str() as width, *_]:
            _check_size(text.count("\n") * len(width))
        case "indent", [int() as width, *_]:
            _check_size(text.count("\n") * width)
        case "join", [list() | tuple() as parts, *_]:
            _check_join(text, parts)
        case _:
            pass
