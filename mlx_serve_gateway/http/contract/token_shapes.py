"""What /tokenize is asked, as a type; for the contract alone, as in ``openai_shapes``."""

from mlx_serve_gateway.http.contract.openai_shapes import SentMessage
from mlx_serve_gateway.http.tokenize import TokenizeRequest


class TokenizeBody(TokenizeRequest, kw_only=True):
    """One of `input` (ours), `prompt` and `messages` (vLLM's), `content` (llama.cpp's) and
    `inputs` (TEI's), which decides what the answer looks like. A conversation may have all that
    a chat completion has.
    """

    messages: list[SentMessage] | None = None
