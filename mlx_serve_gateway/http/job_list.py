"""GET /api/jobs: the downloads and conversions that run, and the last ones that ended."""

from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.errors import ErrorCode
from mlx_serve_gateway.http.answers import json_response
from mlx_serve_gateway.job_process import JobKind
from mlx_serve_gateway.jobs import Job
from mlx_serve_gateway.services import Services


class JobEntry(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: int
    kind: JobKind
    model: str
    state: Literal["running", "succeeded", "failed"]
    started_at: str
    ended_at: str | None = None
    status: str | None = None
    detail: str | None = None
    digest: str | None = None
    total: int | None = None
    completed: int | None = None
    rate: int | None = None
    error: str | None = None
    code: ErrorCode | None = None


class JobList(msgspec.Struct):
    jobs: list[JobEntry]


class JobsApi:
    def __init__(self, services: Services) -> None:
        self._jobs = services.jobs

    async def list(self, request: Request) -> Response:
        return json_response(JobList([_entry(job) for job in self._jobs.all()]))


def _entry(job: Job) -> JobEntry:
    progress = job.progress
    entry = JobEntry(
        id=job.id,
        kind=job.request.kind,
        model=job.request.model,
        state=_state(job),
        started_at=job.started_at.isoformat(),
        ended_at=None if job.ended_at is None else job.ended_at.isoformat(),
        error=None if job.last is None else job.last.error,
        code=None if job.last is None else job.last.code,
    )
    if progress is None:
        return entry
    return msgspec.structs.replace(
        entry,
        status=progress.status,
        detail=progress.detail,
        digest=progress.digest,
        total=progress.total,
        completed=progress.completed,
        rate=progress.rate if job.last is None else None,
    )


def _state(job: Job) -> Literal["running", "succeeded", "failed"]:
    if job.last is None:
        return "running"
    return "failed" if job.last.error is not None else "succeeded"
