"""Thoughts, answers and calls, told apart."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_serve_common.chat import ToolCall
from mlx_serve_worker.chat.speech import Calls, Said, Speech, Thoughts
from mlx_serve_worker.chat.tool_calls import parse_json

THOUGHTS = Thoughts("<think>", "</think>")
CALLS = Calls("<call>", "</call>", lambda text, tools: json.loads(text), [])
CALL = '{"name": "add", "arguments": {"one": 1}}'


def hear(pieces: Any, **options: Any) -> Said:
    speech = Speech(
        **{"thoughts": THOUGHTS, "is_thinking": False, "calls": CALLS, "stops": [], **options}
    )
    all_said = []
    for piece in pieces:
        all_said.append(speech.feed(piece))
        if all_said[-1].stop is not None:
            break
    else:
        all_said.append(speech.finish())
    return Said(
        "".join(said.text for said in all_said),
        "".join(said.reasoning for said in all_said),
        [call for said in all_said for call in said.calls],
        all_said[-1].stop,
    )


def both(text: str, **options: Any) -> Said:
    """The same whether it comes whole or letter by letter."""
    said = hear([text], **options)
    assert hear(text, **options) == said
    return said


def test_thoughts_come_apart_without_the_blanks_around_them() -> None:
    said = both("<think>\n\nHm, 1 + 1.\nTwo.\n\n</think>\n\nIt is 2. \n")
    assert said == Said("It is 2. \n", "Hm, 1 + 1.\nTwo.", [], None)


def test_thoughts_that_the_template_has_begun() -> None:
    assert both("Hm.\n</think>\nYes", is_thinking=True) == Said("Yes", "Hm.", [], None)


def test_thoughts_that_do_not_end() -> None:
    assert both("<think>Hm </th", is_thinking=False) == Said("", "Hm </th", [], None)


def test_a_model_without_thoughts_has_no_marks() -> None:
    assert both("<think>a</think>", thoughts=None).text == "<think>a</think>"


def test_calls_are_read() -> None:
    said = both(f"Let me see.<call>\n{CALL}\n</call>\n<call>{CALL}</call>")
    assert said.text == "Let me see."
    assert said.calls == [ToolCall("add", '{"one": 1}')] * 2


def test_a_call_among_thoughts_is_one() -> None:
    said = both(f"<think>So <call>{CALL}</call>")
    assert (said.reasoning, said.calls) == ("So", [ToolCall("add", '{"one": 1}')])


def test_a_call_without_an_end_is_read_to_the_end() -> None:
    assert both(f"<call>{CALL}").calls == [ToolCall("add", '{"one": 1}')]
    endless = CALLS._replace(end="")
    assert both(f"<call>{CALL}", calls=endless).calls == [ToolCall("add", '{"one": 1}')]


@pytest.mark.parametrize(
    "wrong",
    ["", "{", "[]", "1", '{"name": 1}', '{"name": ""}', '{"name": "a", "arguments": [1]}', "[{}]",
     '{"name": "a", "arguments": {"b": NaN}}', '{"name": "a", "arguments": "{"}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_call_is_text(wrong: str) -> None:
    said = hear([f"So: <call>{wrong}</call> Yes"])
    assert not said.calls
    assert said.text == f"So: <call>{wrong}</call>Yes"
    assert hear([f"<call>{wrong}"]).text == f"<call>{wrong}"


def test_arguments_in_a_text_are_read() -> None:
    said = both('<call>{"name": "a", "arguments": "{\\"b\\": \\"서울\\"}"}</call>')
    assert said.calls == [ToolCall("a", '{"b": "서울"}')]


def test_an_answer_that_is_a_call() -> None:
    only = Calls("", "", parse_json, [])
    assert both(CALL, calls=only) == Said("", "", [ToolCall("add", '{"one": 1}')], None)
    assert both(CALL[:-3], calls=only).text == CALL[:-3]
    assert both(f"Hm</think>{CALL}", calls=only, is_thinking=True).reasoning == "Hm"


def test_a_stop_ends_the_text_and_not_the_thoughts() -> None:
    said = both("<think>a END b</think>c END d", stops=["END", "never"])
    assert said == Said("c ", "a END b", [], "END")
    assert both("abcEN", stops=["END"]).text == "abcEN"


@given(st.text("<>/thinkcal \n{}", max_size=60), st.booleans())
def test_nothing_is_lost_but_marks_and_blanks(text: str, is_thinking: bool) -> None:
    said = both(text, is_thinking=is_thinking)
    kept = [each for each in said.reasoning + said.text if not each.isspace()]
    for mark in ("<think>", "</think>"):
        text = text.replace(mark, "")
    assert len(kept) >= len([each for each in text if not each.isspace()]) - 8 * text.count("<")
