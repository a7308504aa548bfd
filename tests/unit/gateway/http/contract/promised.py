"""The contract, by method and path."""

from mlx_serve_gateway.http.contract.endpoint import Endpoint
from mlx_serve_gateway.http.contract.table import ENDPOINTS

PROMISED: dict[tuple[str, str], Endpoint] = {
    (endpoint.method, path): endpoint for endpoint in ENDPOINTS for path in endpoint.paths
}
