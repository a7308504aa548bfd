"""``python -P -m mlx_serve_worker.job import …``: one piece of work on model files, then the end.

Invariants: standard output carries ``JobEvent`` lines and nothing else; the last one tells success
or the error, and the exit code (0 or 1) agrees with it. What is for developers goes to stderr.
"""

import argparse
import contextlib
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent, encode_event
from mlx_serve_worker.job_arguments import conversion, kind, parse
from mlx_serve_worker.lifeline import die_with_parent, end_with_listener

if TYPE_CHECKING:
    from mlx_serve_common.models import Manifest
    from mlx_serve_worker.inspection import Origin

log = logging.getLogger(__name__)

Report = Callable[[JobEvent], None]


class _Interrupted(BaseException):
    """Not an Exception, so that nothing on the way takes it for a failure of its own."""


def _import(arguments: argparse.Namespace, report: Report) -> JobEvent:
    # Here, so that a wrong argument is answered without loading MLX.
    from mlx_serve_common.store import Store
    from mlx_serve_worker.installation import IfInstalled, install

    _die_with(arguments.die_with)
    if_installed: IfInstalled = "refuse"
    if arguments.replace:
        if_installed = "replace"
    elif arguments.exist_ok:
        if_installed = "keep"
    origin = _origin(arguments)._replace(is_given_away=arguments.given_away)
    manifest = install(
        arguments.source,
        Store(arguments.models_dir),
        origin,
        if_installed,
        report,
        conversion(arguments),
    )
    return _success(manifest)


def _appraise(arguments: argparse.Namespace, _: Report) -> JobEvent:
    from mlx_serve_worker.inspection import appraise

    _die_with(arguments.die_with)
    settings = appraise(arguments.source, _origin(arguments))
    if conversion(arguments) is not None:
        from mlx_serve_worker.converting import refuse_quantized

        refuse_quantized(settings, arguments.source_id or arguments.name)
    return JobEvent(status="success")


def _origin(arguments: argparse.Namespace) -> "Origin":
    from mlx_serve_worker.inspection import Origin

    return Origin(
        arguments.name,
        kind(arguments),
        arguments.source_id,
        arguments.revision,
        arguments.custom_models,
    )


def _die_with(parent: int | None) -> None:
    if parent is not None:
        die_with_parent()
        if os.getppid() != parent:
            raise _Interrupted


def _pull(arguments: argparse.Namespace, report: Report) -> JobEvent:
    from mlx_serve_common.store import Store
    from mlx_serve_worker.patience import Patience
    from mlx_serve_worker.pull import pull
    from mlx_serve_worker.pull_wish import Wish

    patience = Patience()
    if arguments.stall_seconds is not None:
        patience = Patience(stall_s=arguments.stall_seconds)
    wish = Wish.of(arguments.repo)._replace(
        name=arguments.name,
        kind=kind(arguments),
        replace=arguments.replace,
        custom_models=arguments.custom_models,
        conversion=conversion(arguments),
    )
    try:
        return pull(Store(arguments.models_dir), wish, report, patience)
    except _Interrupted:
        return JobEvent(
            error="interrupted; what was downloaded is kept, and the same pull continues with it",
            code=ErrorCode.CANCELLED,
        )


def _verify(arguments: argparse.Namespace, report: Report) -> JobEvent:
    from mlx_serve_worker.reverification import reverify

    folder: Path = arguments.model_dir
    verified = reverify(folder, report, arguments.custom_models)
    if not verified.passed:
        return JobEvent(error="; ".join(verified.problems), code=ErrorCode.INVALID_MODEL)
    return JobEvent(status="success", model=folder.name)


def _quantize(arguments: argparse.Namespace, report: Report) -> JobEvent:
    from mlx_serve_common.store import Store
    from mlx_serve_worker.quantizing import Wish, quantize_model

    _die_with(arguments.die_with)
    wanted = conversion(arguments)
    if wanted is None:
        message = "say what to convert the model to: --bits, --mode or --dtype"
        raise ServeError(ErrorCode.INVALID_REQUEST, message)
    wish = Wish(arguments.model, wanted, arguments.name, arguments.custom_models)
    return _success(quantize_model(Store(arguments.models_dir), wish, report))


def _success(manifest: "Manifest") -> JobEvent:
    """With what it has cost, if the model was converted."""
    return JobEvent(
        status="success",
        model=manifest.name,
        original_size=manifest.original_size,
        quantized_size=manifest.quantized_size,
        quality=manifest.quality,
    )


_FULL = (ErrorCode.INSUFFICIENT_STORAGE, "the disk is full")
_FORBIDDEN = (ErrorCode.ACCESS_DENIED, "this user may not read or write what is needed")
_OS_ERRORS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: _FORBIDDEN,
}

_COMMANDS = {
    "import": _import,
    "appraise": _appraise,
    "pull": _pull,
    "verify": _verify,
    "quantize": _quantize,
}


def _last_event(events: BinaryIO) -> JobEvent:
    def report(event: JobEvent) -> None:
        try:
            events.write(encode_event(event) + b"\n")
        except BrokenPipeError:
            raise _Interrupted from None

    try:
        arguments = parse()
        return _COMMANDS[arguments.command](arguments, report)
    except ServeError as error:
        return JobEvent(error=error.message, code=error.code)
    except OSError as error:
        log.exception("the job failed")
        code, reason = _OS_ERRORS.get(
            error.errno or 0, (ErrorCode.INTERNAL_ERROR, error.strerror or type(error).__name__)
        )
        named = f": {Path(error.filename).name}" if isinstance(error.filename, str) else ""
        return JobEvent(error=f"{reason}{named}", code=code)
    except _Interrupted:
        return JobEvent(error="the job was interrupted", code=ErrorCode.CANCELLED)
    except Exception:
        log.exception("the job failed")
        return JobEvent(error="an internal error; the log says more", code=ErrorCode.INTERNAL_ERROR)


def main() -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _interrupt)
    # Libraries that print, in Python or in C, must not print into the events.
    with os.fdopen(os.dup(1), "wb", buffering=0) as events:
        os.dup2(2, 1)
        end_with_listener(events.fileno())
        last = _last_event(events)
        with contextlib.suppress(BrokenPipeError):
            events.write(encode_event(last) + b"\n")
    return 0 if last.error is None else 1


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise _Interrupted


if __name__ == "__main__":
    sys.exit(main())
