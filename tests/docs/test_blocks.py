"""What a page marks as runnable runs, and prints what the page says.

``<!-- runs -->`` stands before a block that is run, ``<!-- runs in the background -->`` before one
that starts a server and stays, ``<!-- prints -->`` before what the block above it prints.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.markdown import PAGES, Block
from tests.docs.terminal import Terminal, says
from tests.engine import starter, tiny_chat, tiny_judges
from tests.hub.repositories import HubRepository
from tests.hub.server import Hub

pytestmark = pytest.mark.engine

STARTER = "sentence-transformers/all-MiniLM-L6-v2"
CHAT = "mlx-community/Qwen3-0.6B-4bit"
RERANKER = "Qwen/Qwen3-Reranker-0.6B"

_RUN = ("runs", "runs in the background")
_PROGRAMS = Path(sys.executable).parent
# The code of the Korean one is compared with the English one's instead.
MARKED = {
    name: page.blocks
    for name, page in PAGES.items()
    if name != "README.ko.md" and any(block.mark for block in page.blocks)
}
# The readers of the others have a server that runs.
FROM_NOTHING = ("README.md", "docs/installation.md", "docs/quickstart.md")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The starter model, and tiny ones under the names of those that the pages pull."""
    made = tmp_path_factory.mktemp("models")
    folders = {
        STARTER: starter.folder(),
        CHAT: tiny_chat.write_chat_repository(made / "chat"),
        RERANKER: tiny_judges.build(tiny_judges.LAYOUTS["saved"], made / "judge"),
    }
    with Hub() as hub:
        for repo, folder in folders.items():
            assert folder is not None, "scripts/test fetches the starter model; run that"
            hub.add(HubRepository.of_folder(repo, folder))
        yield hub


@pytest.fixture
def new_terminal(hub: Hub) -> Iterator[Terminal]:
    with _terminal(hub) as terminal:
        yield terminal


@pytest.fixture(scope="module")
def served(hub: Hub) -> Iterator[Terminal]:
    """One whose person has started a server with the starter model."""
    with _terminal(hub, _PROGRAMS) as terminal:
        terminal.type([Block("runs", "sh", f"mlx-serve pull {STARTER}\nmlx-serve start")])
        yield terminal


@contextmanager
def _terminal(hub: Hub, *path: Path) -> Iterator[Terminal]:
    home = Path(tempfile.mkdtemp(prefix="ms-", dir="/tmp"))
    terminal = Terminal(home, hub.environment(), path)
    try:
        yield terminal
    finally:
        terminal.close()
        shutil.rmtree(home)


@pytest.mark.parametrize("name", FROM_NOTHING)
def test_a_page_that_begins_with_nothing(name: str, new_terminal: Terminal) -> None:
    _check(MARKED[name], new_terminal)


@pytest.mark.parametrize("name", sorted(MARKED.keys() - set(FROM_NOTHING)))
def test_a_page_about_a_server_that_runs(name: str, served: Terminal) -> None:
    _check(MARKED[name], served)


def _check(blocks: list[Block], terminal: Terminal) -> None:
    said = iter(terminal.type([block for block in blocks if block.mark in _RUN]))
    text = ""
    for block in blocks:
        if block.mark in _RUN:
            text = next(said)
        elif block.mark == "prints":
            assert says(text, block.code), f"printed was\n{text}\nand not\n{block.code}"


@pytest.mark.parametrize("name", MARKED)
def test_every_mark_means_something(name: str) -> None:
    """A mistyped one would leave its block untried."""
    for block in MARKED[name]:
        assert block.mark in (None, *_RUN, "prints")
        assert block.mark not in _RUN or block.language in ("sh", "python")
