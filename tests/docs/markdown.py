"""What a page of the documentation consists of, as far as the tests ask."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[a-z ]+) -->\n)?"
    r"^(?P<indent> *)```(?P<language>[a-z]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_GENERATED = re.compile(r"^<!-- generated .*?: begin -->$.*?^<!-- .* end -->$", re.M | re.S)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    mark: str | None
    """The comment before it: ``runs``, ``prints`` …"""
    language: str
    code: str


class Heading(NamedTuple):
    level: int
    text: str

    @property
    def anchor(self) -> str:
        """As GitHub makes it of the heading."""
        plain = re.sub(r"[^\w\- ]", "", self.text.lower())
        return plain.replace(" ", "-")


class Page:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(ROOT).as_posix()
        text = path.read_text("utf-8")
        self.blocks = [
            Block(found["mark"], found["language"], found["code"])
            for found in _FENCE.finditer(text)
        ]
        prose = _FENCE.sub("", text)
        self.headings = [Heading(len(marks), heading) for marks, heading in _HEADING.findall(prose)]
        self.links: list[str] = _LINK.findall(_SPAN.sub("", prose))
        self.tables = [line for line in prose.splitlines() if line.startswith("|")]
        written = _GENERATED.sub("", prose)
        self.spans: list[str] = _SPAN.findall(written)

    def anchors(self) -> set[str]:
        return {heading.anchor for heading in self.headings}


PAGES = {
    page.name: page
    for page in map(Page, [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))])
}
