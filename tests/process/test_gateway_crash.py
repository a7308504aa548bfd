import pytest
from pathlib import Path
from tests.store import ModelStore
from tests.process.gateways import Gateway
from mlx_serve_worker.backends.fake import vector
import asyncio, httpx, msgspec
from collections import Counter


@pytest.mark.parametrize("n", range(8))
@pytest.mark.parametrize("boundary", [False, True])
async def test_poison(short_dir: Path, store: ModelStore, n, boundary) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", timeout=20) as c:

            async def one(t):
                r = await c.post("/v1/embeddings", json={"model": "m", "input": t})
                return t, r

            if boundary:
                texts = ["__sleep:0.3__"] + [f"innocent {i}" for i in range(5)] + ["__crash__"]
            else:
                texts = ["__sleep:0.3__"] + [f"innocent {i}" for i in range(20)]
                texts[7] = "__crash__"
            ts = []
            for t in texts:
                ts.append(asyncio.ensure_future(one(t)))
                if "sleep" in t:
                    await asyncio.sleep(0.1)
                if boundary:
                    await asyncio.sleep(0.01)
            rs = await asyncio.gather(*ts)
            c = Counter((t == "__crash__", r.status_code) for t, r in rs)
            w = gateway.worker("m")
            print("RESULT", boundary, c, w and w["restarts"])
