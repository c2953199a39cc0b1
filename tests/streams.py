"""Arrow streams, good and spoilt."""

import random
import struct
from typing import Any

import pyarrow as pa


def stream(*tables: pa.Table, options: Any = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, tables[0].schema, options=options) as writer:
        for table in tables:
            writer.write_table(table)
    return bytes(sink.getvalue())


def mutated(dice: random.Random, good: bytes) -> bytes:
    """A good stream with some bytes changed, dropped or doubled; mostly in the metadata, where it matters."""
    body = bytearray(good)
    for _ in range(dice.choice((1, 1, 2, 5))):
        at = dice.randrange(len(body))
        match dice.randrange(6):
            case 0:
                body[at] = dice.randrange(256)
            case 1:
                body[at] ^= 1 << dice.randrange(8)
            case 2:
                at -= at % 4
                body[at : at + 4] = struct.pack("<i", dice.choice((-1, 0, 1, 8, 2**31 - 1, -(2**31), len(body))))[
                    : len(body) - at
                ]
            case 3:
                at -= at % 8
                body[at : at + 8] = struct.pack("<q", dice.choice((-1, 0, 1, 2**40, 2**63 - 1, -(2**63))))[
                    : len(body) - at
                ]
            case 4:
                del body[at : at + dice.choice((1, 8, 64))]
            case _:
                body[at:at] = body[at : at + dice.choice((1, 8, 64))]
    return bytes(body) or b"\0"
