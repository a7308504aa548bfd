"""POST /api/quantize with a real model and the real job."""

import msgspec
import pytest

from tests.process.gateways import Gateway

pytestmark = [pytest.mark.process, pytest.mark.engine]


def test_quantized_over_http(gateway: Gateway) -> None:
    body = {"model": "raw", "mode": "mxfp8", "name": "raw-small"}
    answer = gateway.ask("POST", "/api/quantize", msgspec.json.encode(body))
    assert answer.status == 200
    lines = [msgspec.json.decode(line) for line in answer.body.splitlines()]
    assert "quantizing" in {line.get("status") for line in lines}
    last = lines[-1]
    assert (last["status"], last["model"]) == ("success", "raw-small")
    assert last["quality"]["mean_cosine"] > 0.99
    assert len(gateway.embed("raw-small", "a text").vectors()) == 1
    (job, *_) = gateway.ask("GET", "/api/jobs").json["jobs"]
    assert (job["kind"], job["model"], job["state"]) == ("quantize", "raw-small", "succeeded")

    again = gateway.ask("POST", "/api/quantize", msgspec.json.encode({**body, "stream": False}))
    assert (again.status, again.json["code"]) == (400, "invalid_request")
    assert gateway.ask("DELETE", "/api/delete", b'{"model": "raw-small"}').status == 200
