"""The system: one observed pipeline or service, as the registry keeps it."""

from typing import Annotated

import msgspec

from lso_core.model.errors import Finding, InputError
from lso_core.model.events import NAME_BYTES, Name
from lso_core.model.health import Thresholds
from lso_core.model.runs import Limits, Seconds
from lso_core.model.windows import SLOT_MS, Window

TAGS = 20
"""Most tags of a system."""
DESCRIPTION_BYTES = 2_000
PAGE_MAX = 500
"""Most lines on one page of a list."""

WindowSeconds = Annotated[int, msgspec.Meta(ge=60, le=3600)]
Tags = Annotated[tuple[Name, ...], msgspec.Meta(max_length=TAGS)]


class SystemSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller says of a new system. `window_seconds` is None where the server's default is meant."""

    name: Name
    description: Annotated[str, msgspec.Meta(max_length=DESCRIPTION_BYTES)] = ""
    tags: Tags = ()
    window_seconds: WindowSeconds | None = None
    thresholds: Thresholds = Thresholds()
    max_runtime_seconds: Seconds | None = None
    """A run that has not ended by then is TIMED_OUT and the system DEGRADED; None for no limit."""
    heartbeat_timeout_seconds: Seconds | None = None
    """A run without any event for so long is LOST; None for no limit."""

    def check(self) -> None:
        """Raise InputError for what the types alone cannot say."""
        check_texts(self.name, self.description, self.tags)
        check_window(self.window_seconds)
        self.thresholds.check()


class SystemPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A change of a system; what is absent stays. `thresholds` is replaced as a whole."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    description: Annotated[str, msgspec.Meta(max_length=DESCRIPTION_BYTES)] | msgspec.UnsetType = msgspec.UNSET
    tags: Tags | msgspec.UnsetType = msgspec.UNSET
    window_seconds: WindowSeconds | msgspec.UnsetType = msgspec.UNSET
    thresholds: Thresholds | msgspec.UnsetType = msgspec.UNSET
    max_runtime_seconds: Seconds | msgspec.UnsetType | None = msgspec.UNSET
    heartbeat_timeout_seconds: Seconds | msgspec.UnsetType | None = msgspec.UNSET

    def apply(self, system: "System") -> "System":
        """The system after the change, checked. Raises InputError."""
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not msgspec.UNSET}
        changed = msgspec.structs.replace(system, **given)
        changed.check()
        return changed


class System(msgspec.Struct, frozen=True, kw_only=True):
    """A registered system."""

    system_id: int
    name: str
    description: str
    tags: tuple[str, ...]
    window_seconds: int
    thresholds: Thresholds
    created_at: str
    """RFC 3339, from Redis' clock."""
    max_runtime_seconds: int | None = None
    heartbeat_timeout_seconds: int | None = None

    @property
    def window(self) -> Window:
        return Window(self.window_seconds)

    @property
    def run_limits(self) -> Limits:
        return Limits(self.max_runtime_seconds, self.heartbeat_timeout_seconds)

    def check(self) -> None:
        """Raise InputError for what the types alone cannot say."""
        check_texts(self.name, self.description, self.tags)
        check_window(self.window_seconds)
        self.thresholds.check()


def check_texts(name: str, description: str, tags: tuple[str, ...]) -> None:
    """Raise InputError where a text is over its cap in bytes, or is blank."""
    findings = [
        Finding(None, field, f"{field} has {len(text.encode())} bytes; the cap is {cap}")
        for field, text, cap in (
            ("name", name, NAME_BYTES),
            ("description", description, DESCRIPTION_BYTES),
            *((f"tags[{index}]", tag, NAME_BYTES) for index, tag in enumerate(tags)),
        )
        if len(text.encode()) > cap
    ]
    if not name.strip():
        findings.append(Finding(None, "name", "name is blank"))
    if findings:
        raise InputError("the system is not described right", tuple(findings))


def check_window(seconds: int | None) -> None:
    """Raise InputError where the window is not a whole number of slots."""
    if seconds is not None and seconds * 1_000 % SLOT_MS:
        message = f"window_seconds must be a multiple of {SLOT_MS // 1_000}, not {seconds}"
        raise InputError(message, (Finding(None, "window_seconds", message),))
