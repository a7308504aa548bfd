"""Models that are not installed yet: fetched because somebody asked, by one job however many ask.

Invariants: what is fetched is a repository that a name says without doubt; a waiting request gives
up after ``models.auto_download_timeout``, its download goes on; one that failed is not repeated for
``PAUSE_S`` by mere requests.
"""

import asyncio
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from mlx_serve_common.config import Config
from mlx_serve_common.conversion import Conversion
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent
from mlx_serve_common.models import InstalledModel, ModelKind
from mlx_serve_common.references import Reference, read_reference
from mlx_serve_gateway.jobs import Job, JobRequest, Jobs
from mlx_serve_gateway.orders import Pull, pull_of
from mlx_serve_gateway.registry import Registry

PAUSE_S = 30.0
_RETRY_AFTER_S = 10.0
_SHOWN = 100


class Downloads:
    def __init__(self, config: Config, registry: Registry, jobs: Jobs) -> None:
        self.configure(config)
        self._registry = registry
        self._jobs = jobs

    def configure(self, config: Config) -> None:
        self._config = config
        self._models = config.models

    def reference(self, name: str) -> Reference | None:
        return read_reference(self._registry.meant(name))

    def pull(
        self,
        name: str,
        kind: ModelKind | None = None,
        install_as: str | None = None,
        conversion: Conversion | None = None,
    ) -> Job:
        """Fetch what ``name`` stands for: a repository, or the one that a model came from."""
        order = pull_of(name, self._registry, conversion)
        if order is None:
            raise self._no_repository(name)
        wanted = replace(order, kind=kind, name=install_as or order.name)
        return self._jobs.start(self._request(wanted))

    async def fetch(self, reference: Reference) -> InstalledModel:
        """Have it installed, however long that takes."""
        last = await self.pull(str(reference)).ended()
        raise_failure(last)
        return self._registry.find(last.model or reference.model)

    async def fetch_in_time(self, name: str) -> InstalledModel:
        """For a request that named a model that is not here: it, or an error that says more."""
        reference = self.reference(name)
        if reference is None or reference.revision is not None:
            raise not_found(name)
        if not (self._models.auto_download and self._models.auto_download_on_request):
            raise _not_by_itself(name, reference)
        request = self._request(Pull(reference=reference))
        self._refuse_repetition(request)
        job = self._jobs.start(request)
        try:
            async with asyncio.timeout(self._models.auto_download_timeout):
                last = await job.ended()
        except TimeoutError:
            raise _still_downloading(name, job) from None
        raise_failure(last)
        return self._registry.find(last.model or reference.model)

    def _no_repository(self, name: str) -> ServeError:
        try:
            self._registry.find(name)
        except ServeError as error:
            message = f"{name[:_SHOWN]!r} is no repository; name one as org/name"
            return ServeError(error.code, message, param="model")
        return ServeError(
            ErrorCode.INVALID_REQUEST,
            f"the model {name[:_SHOWN]!r} did not come from a repository; "
            "name the one to pull as org/name",
            param="model",
        )

    def _request(self, order: Pull) -> JobRequest:
        return JobRequest("pull", order.installed_name, order.arguments(self._config))

    def _refuse_repetition(self, request: JobRequest) -> None:
        before = next((job for job in self._jobs.all() if job.request == request), None)
        if before is None or before.ended_at is None or before.last is None:
            return
        left = before.ended_at + timedelta(seconds=PAUSE_S) - datetime.now(UTC)
        if before.last.error is not None and left > timedelta(0):
            raise_failure(before.last)


def raise_failure(last: JobEvent) -> None:
    """The error that a job ended with, if it did, as one for whoever asked for the job."""
    if last.error is None:
        return
    code = last.code or ErrorCode.INTERNAL_ERROR
    if code is ErrorCode.INVALID_MODEL:
        # Of an installed model this is our fault; a repository of that kind is the caller's choice.
        code = ErrorCode.INVALID_REQUEST
    retry_after_s = _RETRY_AFTER_S if code is ErrorCode.MODEL_UNAVAILABLE else None
    raise ServeError(code, last.error, param="model", retry_after_s=retry_after_s)


def not_found(name: str) -> ServeError:
    return ServeError(
        ErrorCode.MODEL_NOT_FOUND, f"model {name[:_SHOWN]!r} not found", param="model"
    )


def _not_by_itself(name: str, reference: Reference) -> ServeError:
    return ServeError(
        ErrorCode.MODEL_NOT_FOUND,
        f"model {name[:_SHOWN]!r} is not installed, and requests do not download models here "
        f"(models.auto_download, models.auto_download_on_request): mlx-serve pull {reference}",
        param="model",
    )


def _still_downloading(name: str, job: Job) -> ServeError:
    return ServeError(
        ErrorCode.MODEL_LOADING,
        f"model {name[:_SHOWN]!r} is not here yet: {progress_text(job)}; try again later",
        param="model",
        retry_after_s=_RETRY_AFTER_S,
    )


def progress_text(job: Job) -> str:
    """How far a job is, in a few words."""
    event = job.progress
    if event is None:
        return "starting"
    if not event.total:
        return event.status or "starting"
    return f"{event.status} {100 * (event.completed or 0) // event.total} %"
