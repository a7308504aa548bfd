"""What a job is told on its command line, and what that means.

Invariant: a wrong argument is an ``invalid_request`` like every other, before anything is loaded.
"""

import argparse
from pathlib import Path
from typing import NoReturn

from mlx_serve_common.conversion import Conversion, scheme
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind


class _Arguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ServeError(ErrorCode.INVALID_REQUEST, message)


def parse() -> argparse.Namespace:
    parser = _Arguments(prog="mlx_serve_worker.job", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Arguments)
    command = commands.add_parser("import", allow_abbrev=False)
    command.add_argument("--models-dir", type=Path, required=True)
    command.add_argument("--exist-ok", action="store_true")
    command.add_argument("--replace", action="store_true")
    command.add_argument("--given-away", action="store_true")
    _add_origin(command)
    _add_conversion(command)
    command = commands.add_parser("appraise", allow_abbrev=False)
    _add_origin(command)
    _add_conversion(command)
    command = commands.add_parser("pull", allow_abbrev=False)
    command.add_argument("--repo", required=True)
    command.add_argument("--models-dir", type=Path, required=True)
    command.add_argument("--name")
    command.add_argument("--type", choices=[kind.value for kind in ModelKind])
    command.add_argument("--replace", action="store_true")
    command.add_argument("--custom-models", type=Path)
    command.add_argument("--stall-seconds", type=float)
    _add_conversion(command)
    command = commands.add_parser("verify", allow_abbrev=False)
    command.add_argument("--model-dir", type=Path, required=True)
    command.add_argument("--custom-models", type=Path)
    command = commands.add_parser("quantize", allow_abbrev=False)
    command.add_argument("--models-dir", type=Path, required=True)
    command.add_argument("--model", required=True)
    command.add_argument("--name")
    command.add_argument("--custom-models", type=Path)
    command.add_argument("--die-with", type=int)
    _add_conversion(command)
    return parser.parse_args()


def _add_origin(command: argparse.ArgumentParser) -> None:
    command.add_argument("--source", type=Path, required=True)
    command.add_argument("--name", required=True)
    command.add_argument("--type", choices=[kind.value for kind in ModelKind])
    command.add_argument("--source-id")
    command.add_argument("--revision")
    command.add_argument("--custom-models", type=Path)
    command.add_argument("--die-with", type=int)


def _add_conversion(command: argparse.ArgumentParser) -> None:
    command.add_argument("--mode")
    command.add_argument("--bits", type=int)
    command.add_argument("--group-size", type=int)
    command.add_argument("--dtype", choices=["float16", "bfloat16", "float32"])


def conversion(arguments: argparse.Namespace) -> Conversion | None:
    """What the model is to be converted to; None to leave it as it is."""
    scheme_words = (arguments.mode, arguments.bits, arguments.group_size)
    if any(word is not None for word in scheme_words):
        return Conversion(scheme(*scheme_words), arguments.dtype)
    return None if arguments.dtype is None else Conversion(dtype=arguments.dtype)


def kind(arguments: argparse.Namespace) -> ModelKind | None:
    return None if arguments.type is None else ModelKind(arguments.type)
