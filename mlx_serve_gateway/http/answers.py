"""What answers have in common."""

from typing import Any

import msgspec
from starlette.responses import Response


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


def computed_headers(compute_s: float, truncated: int) -> dict[str, str]:
    """How long the model computed, and how many inputs were cut to fit it: nothing is silent."""
    headers = {"x-compute-ms": f"{compute_s * 1000:.2f}"}
    if truncated:
        headers["x-truncated-inputs"] = str(truncated)
    return headers
