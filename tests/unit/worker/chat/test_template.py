"""Chat templates: what they may do, and what they may not."""

import sys
import time
from typing import Any

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.chat.template import ChatTemplate

DOUBLING = (
    "{%% set ns = namespace(x=%s) %%}{%% for i in range(60) %%}{%% set ns.x = %s %%}{%% endfor %%}"
)
MESSAGES = [{"role": "user", "content": "Hello"}]

# --- as transformers renders them ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for message in messages %}\n  {{ message.role }}\n{% endfor %}", "  user\n"),
        ("{{ messages | tojson }}", '[{"role": "user", "content": "Hello"}]'),
        ('{{ {"a": "<서울>"} | tojson }}', '{"a": "<서울>"}'),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{% generation %}x{% endgeneration %}", "x"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}", "2"),
        ("{{ dict(a=1)['a'] }}{{ bos_token }}{{ more }}", "1<s>2"),
        ("{{ tools is none }}{{ documents is none }}{{ absent is defined }}", "TrueTrueFalse"),
        ("{{ messages[0]['content'].split('l')[-1] + 'a' * 3 }}{{ 7 % 4 }}", "oaaa3"),
        ("{{ ['a', 'b'] | join(', ') }}{{ '-'.join(['a', 'b']) }}", "a, ba-b"),
        ("{{ 'a-a' | replace('-', ' ') | upper | trim | length }}", "3"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(1) ~ 'a' }}", "[1]a"),
        ("{{ '%s is %02d' % ('a', 7) }}{{ '{}'.format(1) }}", "a is 071"),
        ("{{ messages | map(attribute='role') | list | last }}", "user"),
        ("{{ (messages | selectattr('role', 'equalto', 'user') | first).content }}", "Hello"),
    ],
)
def test_it_renders(source: str, expected: str) -> None:
    template = ChatTemplate(source, {"bos_token": "<s>"})
    assert template.render(MESSAGES, tools=None, more=2) == expected


def test_what_it_can_be_told_is_known() -> None:
    source = "{% if enable_thinking is defined %}{{ tools }}{% endif %}{{ messages }}"
    assert ChatTemplate(source, {}).variables == {"enable_thinking", "tools", "messages"}


# --- what it may not -----------------------------------------------------------------------------


def refusal(source: str, messages: list[dict[str, Any]] = MESSAGES) -> ServeError:
    with pytest.raises(ServeError) as caught:
        ChatTemplate(source, {}).render(messages)
    assert len(caught.value.message) < 500
    return caught.value


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(10 ** 9) %}{% endfor %}",
        "{{ range(0, 10 ** 12, 7) | list }}",
        "{{ 'a' * 10 ** 10 }}",
        "{{ ([0] * 10 ** 10) | length }}",
        "{{ (9 ** 99) ** 99 }}",
        DOUBLING % ("'aa'", "ns.x ~ ns.x"),
        DOUBLING % ("'aa'", "ns.x + ns.x"),
        DOUBLING % ("[1]", "ns.x + ns.x"),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}",
        "{{ 'a' | center(10 ** 9) }}",
        "{{ 'a'.ljust(10 ** 9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ ('a' * 999999).replace('a', 'b' * 999999) }}",
        "{{ ('a' * 999999) | replace('a', 'b' * 999999) }}",
        "{{ range(99999) | map('string') | join('x' * 999999) }}",
        "{{ ('x' * 999999).join(range(99999) | map('string') | list) }}",
        "{{ ('\\n' * 99999) | indent(9999) }}",
        "{{ ('a' * 99999).translate({97: 'b' * 99999}) }}",
        "{{ range(99999) | map('center', 9999) | join | length }}",
        "{{ [[0] * 99999] * 9999 | sum(start=[]) }}",
        "{{ [1] | tojson(indent=999999) }}",
        "{{ [1] | tojson(separators=('x' * 999999, '')) }}",
        "{{ [1] | slice(10 ** 9) | list }}",
        "{{ [1] | batch(10 ** 9, 0) | list }}",
        "{{ 1 | center(10 ** 9) }}",
        "{{ ['%1000000000d'] | format(1) }}",
        "{{ '{:{width}}'.format(1, width=1000000000) }}",
        "{{ 'x'.encode() * 1000000000 }}",
        "{{ (1).to_bytes(1000000000, 'little') }}",
        "{{ ('\\t' * 999999).expandtabs(9999) }}",
        "{{ ('a' * 999999) | replace(new='b' * 999999, old='a') }}",
        "{{ ('a ' * 99999) | wordwrap(1, true, 'x' * 999999) }}",
        "{{ strftime_now('%1000000000d') }}",
    ],
)
def test_it_is_stopped_before_it_takes_too_much(source: str) -> None:
    began = time.monotonic()
    error = refusal(source)
    assert time.monotonic() - began < 20
    assert error.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ self._TemplateReference__context.x }}",
        "{{ raise_exception.__globals__.x }}",
        "{% set ns = namespace(__class__=1) %}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{% include 'x' %}",
        "{{ lipsum() }}",
    ],
)
def test_it_cannot_reach_what_is_not_its_own(source: str) -> None:
    refusal(source)


def test_its_own_words_are_told_but_not_at_length() -> None:
    error = refusal("{{ raise_exception('no system\nrole' + 'x' * 9999) }}")
    assert "no system role" in error.message
    assert error.param == "messages"


def test_a_mistake_in_it_is_no_crash() -> None:
    assert "absent" in refusal("{{ absent.name }}").message
    refusal("{{ 1 + 'a' }}")
    refusal("{{ messages[0].content + 1 }}")


def test_what_is_no_template_is_a_fault_of_the_model() -> None:
    for source in ("{% if %}", "{{", "{% generation %}", "{{ x | nothing }}", "(" * 9 + "{{" * 99):
        with pytest.raises(ServeError) as caught:
            ChatTemplate(source, {})
        assert caught.value.code is ErrorCode.INVALID_MODEL


def test_whoever_watches_the_interpreter_still_does_afterwards() -> None:
    before = sys.gettrace()
    ChatTemplate("{{ messages }}", {}).render(MESSAGES)
    refusal("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
    assert sys.gettrace() is before


def test_long_conversations_are_no_burden() -> None:
    source = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content | trim }}\n{% endfor %}"
    began = time.monotonic()
    rendered = ChatTemplate(source, {}).render(MESSAGES * 10_000)
    assert len(rendered) == 10_000 * len("<|user|>\nHello\n")
    assert time.monotonic() - began < 5
