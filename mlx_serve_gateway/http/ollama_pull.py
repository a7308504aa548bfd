"""POST /api/pull: a download, perhaps converted on arrival; who asks for the same joins it."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.conversion import Dtype, Form, conversion
from mlx_serve_common.models import ModelKind
from mlx_serve_gateway.http.codec import CONTROL_BODY_BYTES, decode, read_body
from mlx_serve_gateway.http.job_answer import job_answer
from mlx_serve_gateway.http.ollama_models import required_name
from mlx_serve_gateway.services import Services


class PullRequest(msgspec.Struct, kw_only=True):
    model: str | None = None
    name: str | None = None
    stream: bool | None = None
    # The others are ours.
    type: ModelKind | None = None
    """What the model is for, where its repository does not tell."""
    install_as: str | None = None
    """Its name here, where the repository's own is taken."""
    quantize: Form | None = None
    dtype: Dtype | None = None


_decoder = msgspec.json.Decoder(PullRequest)


class OllamaPullApi:
    def __init__(self, services: Services) -> None:
        self._downloads = services.downloads

    async def pull(self, request: Request) -> Response:
        body = decode(_decoder, await read_body(request, CONTROL_BODY_BYTES))
        name = required_name(body.model or body.name)
        wanted = conversion(body.quantize, body.dtype)
        job = self._downloads.pull(name, body.type, body.install_as, wanted)
        return await job_answer(job, request, stream=body.stream is not False)
