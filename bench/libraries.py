"""What servers compute with, without them: the texts of one request, each library in a process."""

import asyncio
import json
from pathlib import Path
from statistics import median

from bench import texts
from bench.loads.load import Found, Row
from bench.processes import last_words
from bench.subjects import Subject
from mlx_serve_gateway.worker_env import worker_environment

_TEXTS, _PASSES = 32, 10
MEDIAN = Row(f"{_TEXTS} short texts, without any server", "median", "ms")
ROWS = (MEDIAN,)


async def without_server(subject: Subject, folder: Path) -> Found:
    assert subject.library is not None
    log = folder / f"{subject.name}.library.log"
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *subject.library,
            str(_PASSES),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={**subject.env, **worker_environment()},
        )
        try:
            told, _ = await process.communicate(json.dumps(texts.short(_TEXTS)).encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode:
        raise RuntimeError(f"its library: {last_words(log)}")
    return {MEDIAN: 1000 * median(json.loads(told.splitlines()[-1]))}
