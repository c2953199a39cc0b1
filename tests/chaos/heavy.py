"""Bodies of which nothing is compressed away: for loads of hundreds of megabytes a second, and to fill a store soon."""

import base64
import json
import random
from typing import Final

from tests.e2e.systems import event

LARGEST: Final = 1_000
"""Events of the largest batch that the API takes: 16 MB."""
PAYLOAD_BYTES: Final = 12 * 1_000
"""Before base64, which LZ4 finds nothing in; 16 KiB is the most that an event may carry."""


def heavy_body(dice: random.Random, events: int = LARGEST) -> bytes:
    """A batch of 16 KB an event."""
    return json.dumps({"events": [event(payload={"noise": _noise(dice)}) for _ in range(events)]}).encode()


def _noise(dice: random.Random) -> str:
    return base64.b64encode(dice.randbytes(PAYLOAD_BYTES)).decode()
