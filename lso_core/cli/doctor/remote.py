"""What the service says of itself."""

import http.client
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from lso_core.cli.doctor import checks
from lso_core.cli.doctor.checks import Check
from lso_core.cli.talk import Lso, TalkError
from lso_core.client.config import Address

UNAUTHORIZED, FORBIDDEN = 401, 403


def service(lso: Lso) -> Iterator[Check]:
    """Whether it answers, takes events, knows our key, and keeps up."""
    try:
        lso.get("/healthz")
    except TalkError as error:
        yield Check("service", "wrong", error.message, "start it with ./scripts/up, or name it with --url or LSO_URL")
        return
    yield Check("service", "well", f"answers at {lso.url}")
    yield _ready(lso)
    yield from _clock(lso.address)
    yield from _guarded(lso)


def _ready(lso: Lso) -> Check:
    try:
        lso.get("/readyz")
    except TalkError as error:
        return Check("ready", "wrong", error.message, "see the log of `lso up`; the checks below narrow it down")
    return Check("ready", "well", "takes events and folds them")


def _guarded(lso: Lso) -> Iterator[Check]:
    """What needs a key."""
    try:
        autoscale = lso.get("/autoscale")
    except TalkError as error:
        advice = "give a key with --api-key or LSO_API_KEY" if error.status in {UNAUTHORIZED, FORBIDDEN} else ""
        yield Check("key" if advice else "lag", "wrong", error.message, advice)
        return
    yield Check("key", "well", "the service lets us read" + ("" if lso.api_key else ", without a key"))
    yield from checks.lag(autoscale)


def _clock(address: Address) -> Iterator[Check]:
    """By the Date header, which has whole seconds."""
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.host, address.port, timeout=5)
    try:
        asked = time.time()
        connection.request("GET", address.prefix + "/healthz")
        date = connection.getresponse().getheader("Date")
        answered = time.time()
    except (OSError, http.client.HTTPException):
        return
    finally:
        connection.close()
    if date:
        theirs = parsedate_to_datetime(date).timestamp() + 0.5
        yield checks.clock((asked + answered) / 2 - theirs, 0.5 + (answered - asked) / 2, "the service")
