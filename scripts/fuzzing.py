"""fuzzing.py [OPTION...]: schemathesis against a server of fake models.

Invariants: the document is the one that the server gives, but that requests name models which are
there; what ends the server, fetches something or does not end is left out.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_serve_common.models import ModelKind  # noqa: E402
from tests.process.gateways import Gateway  # noqa: E402
from tests.process.homes import Home  # noqa: E402
from tests.unit.gateway.http.chat_models import ABLE  # noqa: E402

LEFT_OUT = "^/admin/(drain|events)|^/api/(pull|quantize|delete|copy)"
# No schema can say all that makes a request a good one: roles, the one of several fields.
NOT_CHECKED = "positive_data_acceptance"


def main(options: list[str]) -> int:
    with Home() as home:
        home.store.add("embedder")
        home.store.add("reranker", ModelKind.RERANKER)
        home.store.add("talker", ModelKind.CHAT, chat=ABLE)
        with Gateway(home.path, home.store) as gateway:
            document = gateway.ask("GET", "/openapi.json").json
            for schema in _requests(document):
                _narrow(schema)
            file = home.path / "openapi.json"
            file.write_bytes(msgspec.json.encode(document))
            return subprocess.run(
                [
                    "schemathesis",
                    "run",
                    str(file),
                    f"--url=http://127.0.0.1:{gateway.port}",
                    f"--exclude-path-regex={LEFT_OUT}",
                    f"--exclude-checks={NOT_CHECKED}",
                    "--phases=coverage,fuzzing",
                    "--continue-on-failure",
                    *options,
                ],
                cwd=home.path,
            ).returncode


def _requests(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        for operation in path.values():
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]["application/json"]
                name = content["schema"]["$ref"].rpartition("/")[2]
                yield document["components"]["schemas"][name]


def _narrow(schema: dict[str, Any]) -> None:
    if (model := schema["properties"].get("model")) is not None:
        absent = [None] if "anyOf" in model else []
        schema["properties"]["model"] = {"enum": ["embedder", "reranker", "talker", *absent]}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
