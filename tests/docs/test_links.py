"""Every link inside the repository leads somewhere, and every page is found from the index."""

import pytest

from tests.docs.markdown import PAGES, ROOT, Page

_OUTSIDE = ("https://", "http://")


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    page = PAGES[name]
    inside = [link for link in page.links if not link.startswith(_OUTSIDE)]
    assert [link for link in inside if not _leads_somewhere(page, link)] == []


def _leads_somewhere(page: Page, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.path.parent / path).resolve() if path else page.path
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or anchor in PAGES[target.relative_to(ROOT).as_posix()].anchors()


def test_the_index_has_every_page() -> None:
    linked = {link.partition("#")[0] for link in PAGES["docs/README.md"].links}
    pages = {path.name for path in (ROOT / "docs").iterdir()} - {"README.md"}
    assert sorted(pages - linked) == []
