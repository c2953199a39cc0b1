"""The room that knows Redis: keys, scripts, connections and errors. Nobody outside it names a key or a command.

`Store`, which has all of it, is in `store.store`: what it holds loads numpy, which takes as long as all else that `lso up` and the
other commands load.
"""

from lso_core.store.breaker import Breakers
from lso_core.store.registry import Registry
from lso_core.store.server import Server

__all__ = ["Breakers", "Registry", "Server"]
