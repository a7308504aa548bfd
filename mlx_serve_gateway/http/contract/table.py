"""Every endpoint of the gateway."""

from mlx_serve_gateway.http.contract import chat, inference, ollama, operations

ENDPOINTS = (
    *inference.ENDPOINTS,
    *chat.ENDPOINTS,
    *ollama.ENDPOINTS,
    *operations.ENDPOINTS,
)
