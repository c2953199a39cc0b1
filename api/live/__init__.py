"""The fleet as it changes, for any number of viewers: read once a second for a process, encoded once for a filter."""

from api.live.frames import Filter
from api.live.hub import Hub, Viewer

__all__ = ["Filter", "Hub", "Viewer"]
