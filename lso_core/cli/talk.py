"""How a command talks to LSO: where it is, who asks, and what an answer that is not the wanted one means for the exit status."""

import contextlib
import functools
import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import rich_click as click
from click.shell_completion import CompletionItem

from lso_core.client.config import Address, ConfigError
from lso_core.client.transport import GZIP_FROM, GZIP_WINDOW, Reply, Transport, TransportError

DEFAULT_URL: Final = "http://127.0.0.1:8000"
TIMEOUT_S: Final = 10.0
AGAIN: Final = 1
"""Exit status: not possible now, a later try may help."""
NEVER: Final = 2
"""Exit status: wrong as it stands, no second try helps."""
_LATER = frozenset({0, 408, 425, 429})


class TalkError(click.ClickException):
    """No answer, or not the wanted one. `status` is HTTP's, 0 where there was none."""

    def __init__(self, message: str, *, status: int = 0, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        later = status in _LATER or status >= 500
        code = exit_code if exit_code is not None else (AGAIN if later else NEVER)
        self.exit_code = code  # type: ignore[misc]  # a class variable by declaration, looked up on the instance by click

    def saying(self, message: str) -> "TalkError":
        """The same error in other words."""
        return TalkError(message, status=self.status, exit_code=self.exit_code)

    def show(self, file: Any = None) -> None:
        """One sentence on stderr."""
        click.echo(f"lso: {self.message}", file=file, err=True)


class Line(Transport):
    """The SDK's connection, with the verbs that only an operator needs."""

    def send_json(self, method: str, path: str, body: Mapping[str, object] | None) -> Reply:
        if body is not None and method == "POST":
            return self.post_json(path, body)
        raw, headers = (None, {}) if body is None else (json.dumps(body).encode(), {"Content-Type": "application/json"})
        return self._exchange(method, path, raw, headers)

    def post_batch(self, system_id: int, body: bytes, key: str, *, skip_invalid: bool = False) -> Reply:
        """As `post_events`; with `skip_invalid` the good events of a batch are kept."""
        if not skip_invalid:
            return self.post_events(system_id, body, key)
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key}
        if len(body) >= GZIP_FROM:
            packer = zlib.compressobj(1, zlib.DEFLATED, GZIP_WINDOW)
            body = packer.compress(body) + packer.flush()
            headers["Content-Encoding"] = "gzip"
        return self._exchange("POST", f"/systems/{system_id}/events?on_invalid=skip", body, headers)


class Lso:
    """One LSO, as a command sees it. Everything here raises TalkError."""

    def __init__(self, url: str, api_key: str = "", timeout_s: float = TIMEOUT_S) -> None:
        try:
            self.address = Address.parse(url)
        except ConfigError as error:
            raise TalkError(f"--url or LSO_URL: {error}", exit_code=NEVER) from None
        key = api_key.strip()
        if not key.isascii() or not key.isprintable():
            raise TalkError(
                "--api-key or LSO_API_KEY holds characters that an HTTP header cannot carry", exit_code=NEVER
            )
        self.api_key = key
        self.line = Line(self.address, key, timeout_s)

    @property
    def url(self) -> str:
        return str(self.address)

    def close(self) -> None:
        self.line.close()

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """One GET; what is None is not asked for."""
        given = {name: str(value) for name, value in query.items() if value is not None}
        return self.send("GET", path + ("?" + urlencode(given, quote_via=quote) if given else ""))

    def send(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        reply = self._ask(lambda: self.line.send_json(method, path, body))
        if not 200 <= reply.status < 300:
            raise self.refusal(reply)
        if not reply.body and method != "DELETE":
            raise TalkError(f"what answers at {self.address} does not look like an LSO", exit_code=NEVER)
        return dict(reply.body)

    def pages(self, path: str, **query: object) -> Iterator[dict[str, Any]]:
        """The pages of a list, as long as the caller wants more."""
        cursor: object = None
        while True:
            page = self.get(path, **query, cursor=cursor)
            if not isinstance(page.get("items"), list):
                raise TalkError(f"what answers at {self.address} does not look like an LSO", exit_code=NEVER)
            yield page
            cursor = page.get("next")
            if cursor is None:
                return

    def items(self, path: str, **query: object) -> Iterator[dict[str, Any]]:
        for page in self.pages(path, **query):
            yield from page["items"]

    def find(self, system: str) -> int:
        """The id of a system given by id or name."""
        if system.isascii() and system.isdigit():
            return int(system)
        found = self.lookup(system)
        if found is None:
            raise TalkError(f"LSO knows no system {system!r}; `lso systems list` shows those there are", status=404)
        return int(found["system_id"])

    def lookup(self, name: str) -> dict[str, Any] | None:
        """The system of exactly that name."""
        return next((item for item in self.items("/systems", name=name) if item.get("name") == name), None)

    def find_or_register(self, system: str, *, register: bool = True) -> tuple[int, bool]:
        """The id, and whether the system is new."""
        known = system.isascii() and system.isdigit()
        if known or not register or self.lookup(system) is not None:
            return self.find(system), False
        try:
            return int(self.send("POST", "/systems", {"name": system})["system_id"]), True
        except TalkError as error:
            if error.status != 409:
                raise
        return self.find(system), False

    def refusal(self, reply: Reply) -> TalkError:
        """What a refusal says, in a sentence."""
        said = reply.body.get("detail") or reply.body.get("title") or "it gave no reason"
        hint = "; give a key with --api-key or LSO_API_KEY" if reply.status == 401 else ""
        return TalkError(f"LSO answered {reply.status}: {said}{_findings(reply)}{hint}", status=reply.status)

    def unreachable(self, error: TransportError) -> TalkError:
        hint = "" if error.reached else "; is `lso up` running?"
        return TalkError(f"LSO at {self.address} cannot be reached: {error}{hint}")

    def _ask(self, exchange: Callable[[], Reply]) -> Reply:
        try:
            return exchange()
        except TransportError as error:
            raise self.unreachable(error) from error


def talking(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command `--url` and `--api-key`, and the LSO they mean as its first argument."""

    @functools.wraps(command)
    def told(url: str, api_key: str, **given: Any) -> int:
        with contextlib.closing(Lso(url, api_key)) as lso:
            return command(lso, **given)

    key = click.option("--api-key", envvar="LSO_API_KEY", default="", metavar="KEY", help="API key [LSO_API_KEY]")
    url = click.option(
        "--url",
        envvar="LSO_URL",
        default=DEFAULT_URL,
        metavar="URL",
        help=f"where LSO is [LSO_URL, default {DEFAULT_URL}]",
    )
    return url(key(told))


def complete_system(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of systems for the shell; nothing where LSO is away."""
    try:
        url, key = ctx.params.get("url") or DEFAULT_URL, ctx.params.get("api_key") or ""
        with contextlib.closing(Lso(url, key, timeout_s=1.0)) as lso:
            page = lso.get("/systems", limit=500)
    except click.ClickException:
        return []
    names = [str(item.get("name", "")) for item in page.get("items", ())]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def pause_until(deadline: float) -> None:
    """Wait until the monotonic clock shows `deadline`; Ctrl-C ends it."""
    left = deadline - time.monotonic()
    if left > 0:
        time.sleep(left)


def _findings(reply: Reply) -> str:
    errors = reply.body.get("errors")
    found = (
        [e for e in errors if isinstance(e, dict) and e.get("message") != reply.body.get("detail")]
        if isinstance(errors, list)
        else []
    )
    told = "; ".join(str(e.get("message")) for e in found[:3])
    return f" ({told})" if told else ""
