"""Models that are loaded once for all tests that leave them idle."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from mlx_serve_worker.backends.generator import GeneratorBackend
from tests.engine.chat.conversing import chat_model, load


@pytest.fixture(scope="session")
def chat_path(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @cache
    def made(architecture: str) -> Path:
        return chat_model(tmp_path_factory.mktemp(architecture), architecture)

    return made


@pytest.fixture(scope="session")
def _backends(chat_path: Callable[[str], Path]) -> Callable[[str], GeneratorBackend]:
    return cache(lambda architecture: load(chat_path(architecture)))


@pytest.fixture
def backend_of(
    _backends: Callable[[str], GeneratorBackend],
) -> Iterator[Callable[[str], GeneratorBackend]]:
    """They are idle again afterwards, and know nothing of what was asked."""
    used: list[GeneratorBackend] = []

    def found(architecture: str) -> GeneratorBackend:
        used.append(_backends(architecture))
        return used[-1]

    yield found
    for backend in used:
        backend.stop(range(100))
        backend._schedule._prompts.shrink(0)
        assert backend.is_idle


@pytest.fixture
def backend(backend_of: Callable[[str], GeneratorBackend]) -> GeneratorBackend:
    return backend_of("qwen3")
