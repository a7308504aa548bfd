"""A job told to whoever asked for it: as it goes, or when it is done.

Invariants: a stream ends with ``success`` or with an ``error`` line, and no other line has a key of
that name; who leaves stops listening, the job goes on.
"""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mlx_serve_common.errors import ServeError
from mlx_serve_common.events import JobEvent
from mlx_serve_gateway.downloads import raise_failure
from mlx_serve_gateway.http.answers import json_response
from mlx_serve_gateway.http.disconnect import unless_gone
from mlx_serve_gateway.http.errors import error_body
from mlx_serve_gateway.jobs import Job

_DIGEST = "sha256:"
_OF_A_CONVERSION = ("model", "original_size", "quantized_size", "quality")


async def job_answer(job: Job, request: Request, *, stream: bool) -> Response:
    if stream:
        lines = _lines(job, request.scope["path"])
        return StreamingResponse(lines, media_type="application/x-ndjson")
    await unless_gone(request.scope, _success(job))
    return json_response(progress_line(await job.ended()))


async def _success(job: Job) -> None:
    raise_failure(await job.ended())


async def _lines(job: Job, path: str) -> AsyncIterator[bytes]:
    told = None
    async for event in job.follow():
        try:
            raise_failure(event)
        except ServeError as error:
            line = error_body(error, path)
        else:
            line = progress_line(event)
        if line != told:
            told = line
            yield msgspec.json.encode(line) + b"\n"


def progress_line(event: JobEvent) -> dict[str, Any]:
    """A normal event in Ollama's words; ours that it has none for are kept."""
    line: dict[str, Any] = {"status": _status(event)}
    if event.digest is not None and event.digest.startswith(_DIGEST):
        line["digest"] = event.digest
    for name in ("total", "completed"):
        if (value := getattr(event, name)) is not None:
            line[name] = value
    if event.quality is not None:
        line |= {name: getattr(event, name) for name in _OF_A_CONVERSION}
    return line


def _status(event: JobEvent) -> str:
    match event.status:
        case "resolving":
            return "pulling manifest"
        case "downloading":
            digest = event.digest or ""
            subject = digest.removeprefix(_DIGEST)[:12] or event.detail or ""
            return f"pulling {subject}".rstrip()
        case "success":
            return "success"  # this very word is what clients wait for
        case status:
            # With a total it counts files: one line of Ollama's command for all of them.
            return f"{status}: {event.detail}" if event.detail and not event.total else f"{status}"
