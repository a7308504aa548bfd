"""A worker reads texts while it computes others: who asks for tokens alone waits for no pass."""

import pytest

from mlx_serve_common.chat import Conversation, Plain, Sampling
from mlx_serve_common.models import ModelKind
from mlx_serve_common.wire import Batch, Generate, Tokenize, TokenizeConversation
from tests.process.workers import WorkerRig
from tests.store import ModelStore

pytestmark = pytest.mark.process


async def test_texts_are_read_while_others_are_computed(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m"))
    await worker.ready()
    worker.submit("__sleep:60__")
    asked = Tokenize([100], ["text"], special=True, pieces=False)
    worker.handle.submit(Batch([asked]))
    await worker.answers([100])

    assert worker.seen.answered == [100]
    worker.process.kill()
    await worker.ended()


async def test_a_conversation_is_counted_while_an_answer_is_computed(
    rig: WorkerRig, store: ModelStore
) -> None:
    worker = rig.start(store.add("c", ModelKind.CHAT))
    await worker.ready()
    slow = Generate([1], [0], Plain("__sleep:60__"), Sampling())
    asked = TokenizeConversation([2], [Conversation([{"role": "user", "content": "ab"}])])
    for part in (slow, asked):
        worker.handle.submit(Batch([part]))
    await worker.answers([2])

    assert worker.seen.answered == [2]
    worker.process.kill()
    await worker.ended()
