"""Which methods a path takes."""

from litestar import Litestar
from litestar.exceptions import HTTPException


def allowed(app: Litestar, path: str) -> list[str]:
    """The methods of a path, for the Allow header; empty where there is nothing at the path."""
    found = [method for method in ("GET", "POST", "PATCH", "DELETE") if _takes(app, path, method)]
    return [*found, *(["HEAD"] if "GET" in found else []), *(["OPTIONS"] if found else [])]


def _takes(app: Litestar, path: str, method: str) -> bool:
    try:
        app.asgi_router.handle_routing(path=path, method=method)
    except HTTPException:
        return False
    return True
