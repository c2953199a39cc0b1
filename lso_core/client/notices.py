"""The client's own log lines, on the logger `lso`: each of them once, not once an event."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging

LOGGER = "lso"


def logger() -> logging.Logger:
    """`logging` is imported by whoever has something to say: it is a third of the time that importing the client may take."""
    import logging  # noqa: PLC0415

    return logging.getLogger(LOGGER)


class Notices:
    """Says a thing once, until it is told that the matter is over."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def warn(self, topic: str, text: str) -> None:
        if topic not in self._said:
            self._said.add(topic)
            logger().warning("%s", text)

    def say(self, text: str) -> None:
        """For what is news every time."""
        logger().warning("%s", text)

    def over(self, topic: str, text: str) -> None:
        """The matter is over; say so if it had been mentioned."""
        if topic in self._said:
            self._said.discard(topic)
            logger().info("%s", text)
