"""The OpenAPI document and a page that shows it, all from this process: no address outside is asked for anything."""

from functools import cache
from pathlib import Path
from typing import Any, Final

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from api.service import Ready, answer

_VENDOR: Final = Path(__file__).parent.parent / "vendor" / "swagger-ui"
_FILES: Final = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>LSO: the HTTP interface</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START: Final = """SwaggerUIBundle({
  url: "/schema/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null
});
"""


@get("/docs", media_type="text/html")
async def get_docs() -> Response[str]:
    """The interface for people."""
    return Response(_PAGE, media_type="text/html", headers={"Content-Security-Policy": _POLICY})


@get("/docs/{name:str}")
async def get_docs_file(name: FromPath[str]) -> Response[bytes]:
    """The page's own files."""
    if name == "start.js":
        return _file(_START.encode(), _FILES["swagger-ui-bundle.js"])
    if name not in _FILES:
        raise NotFoundException
    return _file(_read(name), _FILES[name])


@get("/schema/openapi.json")
async def get_schema() -> Ready:
    """The interface for programs."""
    from api import openapi  # noqa: PLC0415 - a start has no time for what few ask for

    return answer(openapi.document_bytes())


def _file(body: bytes, media_type: str) -> Response[bytes]:
    headers = {"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"}
    return Response(body, media_type=media_type, headers=headers)


@cache
def _read(name: FromPath[str]) -> bytes:
    return (_VENDOR / name).read_bytes()


HANDLERS: tuple[Any, ...] = (get_docs, get_docs_file, get_schema)
