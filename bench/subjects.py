"""Who is measured: this server, what a user would pick instead, and the floor under all of them.

A peer is given by the virtual environment that it is installed in. Each is started as its own
documentation says, and asked for what it can do.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.models import NOTHING, ROOT, TALKER, WIDE, Models
from bench.processes import Server, free_port

OURS = "mlx-serve"
ECHO = "echo"
_START_S = 120.0


class Names(NamedTuple):
    """How a server calls the models; None for what it cannot do."""

    embedder: str | None = None
    reranker: str | None = None
    chat: str | None = None
    nothing: str | None = None
    wide: str | None = None
    talker: str | None = None


class Recipe(NamedTuple):
    """How a server is started, without the program that runs it."""

    program: str
    """In the ``bin`` folder of its environment."""
    arguments: tuple[str, ...]
    names: Names
    library: str | None = None
    """What it computes with, by its name in bench/library.py."""
    health: str = "/health"


class Subject(NamedTuple):
    name: str
    names: Names
    command: tuple[str, ...]
    health: str
    env: Mapping[str, str]
    library: tuple[str, ...] | None = None
    """The command that measures what it computes with, and its embedding model."""

    async def started(self, folder: Path) -> tuple[Server, float]:
        """The server, and the seconds that it took."""
        port = free_port()
        command = [word.replace("PORT", str(port)) for word in self.command]
        server = Server(command, port, self.health, self.env, folder / f"{self.name}.log")
        try:
            return server, await server.ready(_START_S)
        except BaseException:
            server.stop()
            raise


def ours(models: Models, home: Path) -> Subject:
    command = (
        sys.executable, "-P", "-m", "mlx_serve_gateway.cli.main", "start", "--foreground",
        "--host", "127.0.0.1", "--port", "PORT", "--models-dir", str(models.store),
    )  # fmt: skip
    own = {"MLX_SERVE_HOME": str(home), "MLX_SERVE_TEST_BACKENDS": "1"}
    # Its passes would be measured with those of whoever is being measured.
    own["MLX_SERVE_BATCH_CALIBRATE"] = "false"
    names = Names("embedder", "reranker", "chat", NOTHING, WIDE, TALKER)
    library = _library(sys.executable, "mlx_serve", models.store / "embedder")
    return Subject(OURS, names, command, "/health", _environment() | own, library)


def echo() -> Subject:
    command = (sys.executable, "-m", "bench.echo", "PORT")
    return Subject(ECHO, Names(nothing=NOTHING, wide=WIDE), command, "/", _environment())


def recipes(models: Models) -> dict[str, Recipe]:
    embedder, reranker, chat = str(models.embedder), str(models.reranker), str(models.chat)
    return {
        "sentence-transformers": Recipe(
            "python",
            (str(ROOT / "bench/plain_server.py"), "PORT", embedder, reranker),
            Names("embedder", "reranker"),
            library="sentence_transformers",
        ),
        "infinity": Recipe(
            "infinity_emb",
            (
                "v2", "--host", "127.0.0.1", "--port", "PORT", "--url-prefix", "/v1",
                "--device", "cpu", "--model-id", embedder, "--served-model-name", "embedder",
                "--model-id", reranker, "--served-model-name", "reranker",
            ),
            Names("embedder", "reranker"),
        ),
        "mlx_vlm.server": Recipe(
            "python",
            ("-m", "mlx_vlm.server", "--host", "127.0.0.1", "--port", "PORT"),
            Names(embedder, reranker),
            library="mlx_embeddings",
        ),
        "mlx_lm.server": Recipe(
            "python",
            ("-m", "mlx_lm", "server", "--model", chat, "--host", "127.0.0.1", "--port", "PORT"),
            Names(chat=chat),
        ),
    }  # fmt: skip


def peers(given: Sequence[str], models: Models) -> tuple[list[Subject], list[str]]:
    """Those given as ``NAME=VENV`` that are there, and a line about each that is not."""
    places = dict(each.split("=", 1) for each in given)
    found, absent = [], []
    for name, recipe in recipes(models).items():
        place = places.pop(name, None)
        program = None if place is None else Path(place).absolute() / "bin" / recipe.program
        if program is None or not program.exists():
            absent.append(f"{name}: {'not given' if program is None else f'no {program}'}")
            continue
        command = (str(program), *recipe.arguments)
        python = str(program.with_name("python"))
        measured = recipe.library
        library = None if measured is None else _library(python, measured, models.embedder)
        found.append(Subject(name, recipe.names, command, recipe.health, _with_blas(), library))
    if places:
        raise SystemExit(f"bench: unknown peers: {', '.join(places)}")
    return found, absent


def _library(python: str, name: str, embedder: Path) -> tuple[str, ...]:
    return python, str(ROOT / "bench/library.py"), name, str(embedder)


def _environment() -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MLX_SERVE")}
    return kept | {"PYTHONPATH": str(ROOT)}


def _with_blas() -> dict[str, str]:
    """Peers do not look for an optimised BLAS themselves: they get that of our embedding models."""
    from mlx_serve_gateway.worker_env import worker_environment

    return _environment() | worker_environment()
