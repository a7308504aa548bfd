"""The ``config.yaml`` to begin with: every key with what it is for, commented out at its default.

Invariants: it is valid as it stands and changes nothing; without the comment signs before its keys
it says exactly the defaults.
"""

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

from mlx_serve_common.config_layers import variable_of
from mlx_serve_common.config_schema import SCHEMA_FILE
from mlx_serve_common.settings import KEYS, SECTIONS, Key

_WIDTH = 88
_HEAD = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
#
# The configuration of mlx-serve. What is commented out is the default. A setting in here gives way
# to its environment variable, and that to a flag of `mlx-serve start`. A relative path lies below
# the home folder (MLX_SERVE_HOME, else ~/.mlx-serve).
#
# `mlx-serve config validate` checks this file, `mlx-serve config show --origin` tells what is in
# force and why. A file that holds server.admin_key must be yours alone: chmod 600.
"""


def example_text() -> str:
    return "\n".join([_HEAD.rstrip(), *_lines(), ""])


def yaml_text(value: Any) -> str:
    """The value as it stands behind its key, on one line."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, width=float("inf")
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _lines() -> Iterator[str]:
    for section in SECTIONS:
        yield from ("", f"{section}:")
        for key in KEYS.values():
            if key.name.startswith(f"{section}."):
                yield from _commented(key)


def _commented(key: Key) -> Iterator[str]:
    choices = f"one of {', '.join(key.choices)}; " if key.choices else ""
    told = f"{key.description}. ({choices}{variable_of(key.name)})"
    for line in textwrap.wrap(told, _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield f"  ## {line}"
    yield f"  # {key.name.partition('.')[2]}: {yaml_text(_plain(key.default))}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
