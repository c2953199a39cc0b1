"""Looks at the fleet, again and again, on a thread of its own: a server that hangs must not hold the keys."""

import contextlib
import itertools
import os
import queue
import threading
import time
from typing import Self

from lso_core.cli.talk import Lso, TalkError
from lso_core.cli.top.board import Picture


def look(lso: Lso, most: int) -> Picture:
    """The fleet, its worst `most` systems, and what LSO says of itself. Raises TalkError."""
    pages = lso.pages("/health")
    first = next(pages)
    lines = list(
        itertools.islice(itertools.chain(first["items"], (line for page in pages for line in page["items"])), most)
    )
    return Picture(first.get("counts", {}), lines, lso.get("/autoscale"), time.time())


class Feed(threading.Thread):
    """Puts a picture, or a sentence about why there is none, into `news` and a byte into `ready`."""

    def __init__(self, lso: Lso, interval_s: float, most: int) -> None:
        super().__init__(daemon=True)
        self._lso, self._interval_s, self._most = lso, interval_s, most
        self._stop = threading.Event()
        self.news: queue.SimpleQueue[Picture | str] = queue.SimpleQueue()
        self.ready, self.wake = os.pipe()
        os.set_blocking(self.ready, False)
        os.set_blocking(self.wake, False)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                self.news.put(look(self._lso, self._most))
            except TalkError as error:
                self.news.put(error.message)
            except Exception as error:  # noqa: BLE001 - whatever a server answers, the screen stays
                self.news.put(f"the answer makes no sense ({type(error).__name__}: {error})")
            with contextlib.suppress(BlockingIOError):
                os.write(self.wake, b"!")
            self._stop.wait(self._interval_s)

    def drain(self) -> None:
        """Forget the bytes that said there is news."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.ready, 4096):
                pass
