"""What is asked of each subject, a file for each kind of model."""

from bench.loads import chat, embedding, gateway, mixed, reranking
from bench.loads.load import Load, Sizes


def all_loads(sizes: Sizes, marks: list[int]) -> list[Load]:
    """In the order in which they are run."""
    return [
        *gateway.loads(sizes),
        *embedding.loads(sizes),
        *reranking.loads(sizes),
        *chat.loads(sizes, marks),
        *mixed.loads(sizes, marks),
    ]
