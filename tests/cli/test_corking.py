"""Heads are held for their bodies, within a turn of the event loop, on real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from lso_core.cli.corking import Corked


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Corked, socket.socket]]:
    """A corked transport and the client's end of its connection."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    yield Corked(transport, loop), theirs
    transport.close()
    theirs.close()


def got(client: socket.socket) -> bytes:
    try:
        return client.recv(1_000)
    except BlockingIOError:
        return b"nothing"


async def test_a_head_goes_with_its_body(ends: tuple[Corked, socket.socket]) -> None:
    corked, client = ends
    corked.begin()
    corked.write(b"head ")
    assert got(client) == b"nothing"
    corked.write(b"body")
    assert got(client) == b"head body"
    corked.write(b" more")
    assert got(client) == b" more"


async def test_a_head_without_a_body_waits_no_longer_than_a_turn(ends: tuple[Corked, socket.socket]) -> None:
    corked, client = ends
    corked.begin()
    corked.write(b"head ")
    await asyncio.sleep(0)
    assert got(client) == b"head "
    corked.write(b"chunk")
    assert got(client) == b"chunk"


async def test_what_is_held_is_sent_before_the_connection_closes(ends: tuple[Corked, socket.socket]) -> None:
    corked, client = ends
    corked.begin()
    corked.write(b"head")
    corked.close()
    assert corked.is_closing()
    assert got(client) == b"head"


async def test_nothing_is_written_to_a_connection_that_is_gone(ends: tuple[Corked, socket.socket]) -> None:
    corked, client = ends
    corked.begin()
    corked.write(b"head")
    corked._transport.abort()
    await asyncio.sleep(0)
    assert got(client) == b""
