"""The name of an endpoint where requests are counted: a route of ours, whatever the client sent."""

from collections.abc import Callable, Iterable

from starlette.routing import Route

OTHER = "other"


def endpoint_labels(routes: Iterable[Route]) -> Callable[[str], str]:
    """From a request's path to the route that serves it."""
    exact: set[str] = set()
    parents: dict[str, str] = {}
    for route in routes:
        before, brace, _ = route.path.partition("{")
        if brace:
            parents[before] = before + "{}"
        else:
            exact.add(route.path)

    def label(path: str) -> str:
        if path in exact:
            return path.rstrip("/") or "/"  # the same route with a slash at its end
        return next((name for start, name in parents.items() if path.startswith(start)), OTHER)

    return label
