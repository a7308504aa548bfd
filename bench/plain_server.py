"""``python plain_server.py PORT EMBEDDER RERANKER``: what one writes in thirty lines.

Run in an environment that has sentence-transformers, fastapi and uvicorn; nothing of ours is used.
"""

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from sentence_transformers import CrossEncoder, SentenceTransformer

app = FastAPI()
embedder = SentenceTransformer(sys.argv[2], device="cpu")
reranker = CrossEncoder(sys.argv[3], device="cpu")


@app.get("/health")
def health() -> str:
    return "ok"


@app.post("/v1/embeddings")
def embeddings(body: dict[str, Any]) -> Any:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    vectors = embedder.encode(texts, normalize_embeddings=True).tolist()
    return {"data": [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]}


@app.post("/v1/rerank")
def rerank(body: dict[str, Any]) -> Any:
    scores = reranker.predict([(body["query"], text) for text in body["documents"]]).tolist()
    return {"results": [{"index": i, "relevance_score": score} for i, score in enumerate(scores)]}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
