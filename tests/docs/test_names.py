"""What the documentation names exists: commands, options, settings, variables, endpoints."""

import re
from collections.abc import Iterator

import click
import pytest

from mlx_serve_common.config_layers import VARIABLES
from mlx_serve_common.settings import KEYS, SECTIONS
from mlx_serve_gateway.cli.ctl import mlx_serve_ctl
from mlx_serve_gateway.cli.llm import mlx_llm_server
from mlx_serve_gateway.cli.main import mlx_serve
from mlx_serve_gateway.http.contract.table import ENDPOINTS
from tests.docs.markdown import PAGES, ROOT, Page

_PROGRAMS: dict[str, click.Command] = {
    "mlx-serve": mlx_serve,
    "mlx-serve-ctl": mlx_serve_ctl,
    "mlx-llm-server": mlx_llm_server,
}
_COMMAND = re.compile(r"(?<![\w.-])(mlx-serve-ctl|mlx-llm-server|mlx-serve)((?: +[^\s|;&)>#]+)+)")
_VARIABLE = re.compile(r"\bMLX_SERVE_[A-Z_]*[A-Z]\b")
_OTHER_VARIABLES = {"MLX_SERVE_BLAS", "MLX_SERVE_HOME", "MLX_SERVE_OPENBLAS_CORETYPE"}
_KEY = re.compile(rf"({'|'.join(SECTIONS)})\.([a-z_]+)")
_FILES = {"json", "log", "md", "py", "service", "yaml"}
# Of MLX.
_NO_KEYS = {"cache.offset"}
_ENDPOINT = re.compile(
    r"(?:(?P<method>GET|POST|DELETE|HEAD) )?"
    r"(?P<path>/(?:v1|v2|api|admin|health|metrics|embed|rerank|reranking|score|tokenize|detokenize"
    r"|decode|livez|readyz|openapi)\b[a-z0-9_/.{}]*)"
)
_URL = re.compile(r"http://127\.0\.0\.1:\d+(/[a-z0-9_/]+)")
# What such a server is not, or not yet; and prefixes.
_NOT_OURS = {"/api", "/v1", "/admin", "/embed_sparse", "/embed_all", "/api/blobs/"}

_PACKAGES = ("mlx_serve_common", "mlx_serve_gateway", "mlx_serve_worker")

pages = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


def _code(page: Page) -> Iterator[str]:
    """What stands in the page as code, a line at a time."""
    for block in page.blocks:
        if block.language == "sh":
            yield from block.code.replace("\\\n", " ").splitlines()
        else:
            yield from (line for line in block.code.splitlines() if line.startswith("$ "))
    yield from page.spans


@pages
def test_commands_and_their_options(page: Page) -> None:
    wrong = [
        f"{program}{words}: {problem}"
        for line in _code(page)
        for program, words in _COMMAND.findall(line)
        if (problem := _problem(_PROGRAMS[program], words))
    ]
    assert wrong == []


def _problem(command: click.Command, words: str) -> str | None:
    """What is wrong with the words that follow a program's name."""
    left = iter(re.sub(r"[][`'\",…]", " ", words).split())
    for word in left:
        if word.startswith("-"):
            option = word.partition("=")[0]
            if option not in _options(command):
                return f"no {option}"
            if isinstance(command, click.Group) and _takes_value(command, option):
                next(left, None)
        elif isinstance(command, click.Group):
            found = command.commands.get(word)
            if found is None:
                return None if word.isupper() else f"no {word}"
            command = found
    return None


def _takes_value(command: click.Command, name: str) -> bool:
    return any(
        isinstance(option, click.Option) and name in option.opts and not option.is_flag
        for option in command.params
    )


def _options(command: click.Command) -> set[str]:
    return {"-h", "--help"} | {name for option in command.params for name in option.opts}


@pages
def test_settings(page: Page) -> None:
    named = {
        span for span in page.spans if (found := _KEY.fullmatch(span)) and found[2] not in _FILES
    }
    assert sorted(named - KEYS.keys() - _NO_KEYS) == []


@pages
def test_variables(page: Page) -> None:
    named = {name for line in _code(page) for name in _VARIABLE.findall(line)}
    assert sorted(named - VARIABLES.keys() - _OTHER_VARIABLES) == []


_KNOWN = {
    (endpoint.method, re.sub(r"\{.*?\}", "{}", path))
    for endpoint in ENDPOINTS
    for path in endpoint.paths
}
_PATHS = {path for _, path in _KNOWN}


@pages
def test_endpoints(page: Page) -> None:
    asked = {("", path) for line in _code(page) for path in _URL.findall(line)}
    told = {
        (found["method"] or "", found["path"])
        for span in page.spans
        if (found := _ENDPOINT.fullmatch(span))
    }
    assert sorted(one for one in asked | told if not _exists(*one)) == []


def _exists(method: str, path: str) -> bool:
    path = re.sub(r"\{.*?\}", "{}", path.rstrip("/")) or path
    if not method:
        return path in _PATHS or path in _NOT_OURS
    return (method, path) in _KNOWN


def test_the_api_page_has_every_endpoint() -> None:
    text = PAGES["docs/api.md"].path.read_text("utf-8")
    assert sorted(path for path in _PATHS if path.partition("{")[0] not in text) == []


def test_files_of_the_architecture_exist() -> None:
    named = [span for span in PAGES["docs/architecture.md"].spans if span.endswith((".py", "/"))]
    assert [name for name in named if not _is_a_file(name.removeprefix("../"))] == []


def _is_a_file(name: str) -> bool:
    return (ROOT / name).exists() or any(any((ROOT / top).rglob(name)) for top in _PACKAGES)
