"""The Korean README says what the English one says, as far as that can be compared."""

import re

from tests.docs.markdown import PAGES, Page

ENGLISH, KOREAN = PAGES["README.md"], PAGES["README.ko.md"]


def test_the_same_headings_in_the_same_order() -> None:
    assert [heading.level for heading in KOREAN.headings] == [
        heading.level for heading in ENGLISH.headings
    ]


def test_the_same_code() -> None:
    assert _without_comments(KOREAN) == _without_comments(ENGLISH)


def _without_comments(page: Page) -> list[tuple[str | None, str, str]]:
    return [
        (block.mark, block.language, re.sub(r" +# .*", "", block.code)) for block in page.blocks
    ]


def test_the_same_tables() -> None:
    assert [_code(line) for line in KOREAN.tables] == [_code(line) for line in ENGLISH.tables]


def _code(line: str) -> list[str]:
    """The code in each cell; in another language the words around it have another order."""
    return [" ".join(sorted(re.findall(r"`[^`]+`", cell))) for cell in re.split(r"(?<!\\)\|", line)]


def test_the_same_code_and_links_in_the_text() -> None:
    assert sorted(KOREAN.spans) == sorted(ENGLISH.spans)
    others = {"README.md": "README.ko.md"}
    assert sorted(others.get(link, link) for link in KOREAN.links) == sorted(ENGLISH.links)
