"""The dashboard's one page and its files, compressed once. Everything they show comes from the public interface."""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.types import Receive, Scope, Send

from api.service import Asked, reads_gzip

PAGE: Final = "/"
FILES: Final = "/assets/"
_FOLDER: Final = Path(__file__).parent.parent / "dashboard"
_KINDS: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=utf-8",
}
_MODULES: Final = {
    "preact": "vendor/preact.mjs",
    "preact/hooks": "vendor/hooks.mjs",
    "htm": "vendor/htm.mjs",
    "htm/preact": "vendor/htm-preact.mjs",
}
"""Packages by the names under which they import each other."""
_FIRST: Final = (
    *(f"{name}.js" for name in ("app", "api", "fleet", "format", "live", "parts", "route", "sparks", "tile")),
    *_MODULES.values(),
)
"""What the first page needs: asked for at once, and not one after the other as they import each other."""
_NAVIGABLE: Final = re.compile(r"/systems/\d{1,15}")


class Asset(msgspec.Struct, frozen=True):
    """A file, ready to be sent."""

    kind: str
    plain: bytes
    gzipped: bytes
    tag: str
    """Changes with its content (ETag)."""

    @classmethod
    def of(cls, kind: str, plain: bytes) -> "Asset":
        return cls(kind, plain, gzip.compress(plain, 9, mtime=0), f'"{hashlib.sha256(plain).hexdigest()[:20]}"')


class Sent:
    """The answer with an asset: compressed for whom reads that, and none for whom has it."""

    def __init__(self, asked: Asked, asset: Asset, headers: Mapping[str, str]) -> None:
        given = asked.headers
        self._known = asset.tag in given.get("if-none-match", "")
        packed = reads_gzip(given.get("accept-encoding", ""))
        self._body = b"" if self._known else (asset.gzipped if packed else asset.plain)
        self._headers = {"etag": asset.tag, "vary": "accept-encoding", "x-content-type-options": "nosniff", **headers}
        if not self._known:
            self._headers |= {"content-type": asset.kind, "content-length": str(len(self._body))}
            self._headers |= {"content-encoding": "gzip"} if packed else {}

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
        start: Any = {"type": "http.response.start", "status": 304 if self._known else 200, "headers": headers}
        await send(start)
        body: Any = {"type": "http.response.body", "body": self._body}
        await send(body)


@get(PAGE)
async def get_page(request: Asked) -> Sent:
    """The page, whichever view its address names."""
    asset, policy = page()
    headers = {
        "cache-control": "no-cache",
        "content-security-policy": policy,
        "referrer-policy": "no-referrer",
        "vary": "accept, accept-encoding",
    }
    return Sent(request, asset, headers)


@get(FILES + "{version:str}/{path:path}")
async def get_asset(request: Asked, version: FromPath[str], path: FromPath[str]) -> Sent:
    """One of its files. The version stands in the address, so that a browser may keep it for good."""
    asset = assets().get(path.lstrip("/"))
    if asset is None:
        raise NotFoundException
    keep = "public, max-age=31536000, immutable" if version == digest() else "no-cache"
    return Sent(request, asset, {"cache-control": keep})


def is_navigation(method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether somebody looks at a system with a browser: its path is also the interface's."""
    if method not in {"GET", "HEAD"} or not has_page(path):
        return False
    accept = b",".join(value for name, value in headers if name == b"accept").decode("latin-1")
    html = _quality(accept, "text/html")
    return html > 0 and html >= _quality(accept, "application/json")


def has_page(path: str) -> bool:
    """Whether the page answers at a path of the interface too."""
    return _NAVIGABLE.fullmatch(path) is not None


def _quality(accept: str, kind: str) -> float:
    """How much a kind is wanted that is named itself, 0 to 1 (RFC 9110, 12.5.1)."""
    for part in accept.lower().split(","):
        name, *parameters = (one.strip() for one in part.split(";"))
        if name == kind:
            said = next((one[2:] for one in parameters if one.startswith("q=")), "1")
            try:
                return float(said)
            except ValueError:
                return 0.0
    return 0.0


@cache
def assets() -> dict[str, Asset]:
    """Every file by its path."""
    files = (one for one in sorted(_FOLDER.rglob("*")) if one.suffix in _KINDS)
    return {one.relative_to(_FOLDER).as_posix(): Asset.of(_KINDS[one.suffix], one.read_bytes()) for one in files}


@cache
def digest() -> str:
    """Changes with any of the files."""
    return hashlib.sha256("".join(f"{path}{one.tag}" for path, one in assets().items()).encode()).hexdigest()[:12]


@cache
def page() -> tuple[Asset, str]:
    """The page and its Content-Security-Policy."""
    base = f"{FILES}{digest()}/"
    imports = json.dumps({"imports": {name: base + path for name, path in _MODULES.items()}})
    preloads = "\n".join(f'<link rel="modulepreload" href="{base}{path}">' for path in _FIRST)
    html = (_FOLDER / "index.html").read_text(encoding="utf-8")
    for name, text in {"imports": imports, "preloads": preloads, "base": base}.items():
        html = html.replace(f"{{{{{name}}}}}", text)
    allowed = base64.b64encode(hashlib.sha256(imports.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'self' 'sha256-{allowed}'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Asset.of("text/html; charset=utf-8", html.encode()), policy


HANDLERS: tuple[Any, ...] = (get_page, get_asset)
