from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from aiohttp import ClientError, ClientSession, web

from pacs.errors import OutOfResources
from pacs.web.bridge import Bridge

Body = Callable[[], Iterator[bytes]]


class Site:
    """A server with one resource, whose body is what ``body`` gives."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.body: Body = lambda: iter([b"x"])
        self.closed = threading.Event()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await self.bridge.send(request, web.StreamResponse(), self.body(), on_close=self.closed.set)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    bridge = Bridge(threads=2, idle_s=5)
    made = Site(bridge)
    app = web.Application()
    app.router.add_get("/", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()
    await asyncio.to_thread(bridge.close)


async def closed(site: Site) -> bool:
    return await asyncio.to_thread(site.closed.wait, 10)


async def test_the_loop_turns_while_a_thread_works() -> None:
    bridge = Bridge(threads=1)
    release = threading.Event()
    waiting = asyncio.ensure_future(bridge.run(release.wait, 10))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    release.set()
    assert await waiting
    bridge.close()


async def test_pixels_that_keep_waiting_hold_up_nothing_else() -> None:
    bridge = Bridge(threads=2)
    release = threading.Event()
    waiting = [asyncio.ensure_future(bridge.run_pixels(release.wait, 10)) for _ in range(10)]
    await asyncio.sleep(0.01)
    assert await asyncio.wait_for(bridge.run(lambda: 7), 5) == 7
    release.set()
    assert all(await asyncio.gather(*waiting))
    bridge.close()


async def test_pieces_arrive_in_order_and_the_source_is_closed(site: Site) -> None:
    pieces = [bytes([number % 251]) * (number * 100) for number in range(500)]
    site.body = lambda: iter(pieces)
    async with ClientSession() as session, session.get(site.url) as response:
        assert await response.read() == b"".join(pieces)
    assert await closed(site)


async def test_a_source_that_fails_cuts_the_connection_and_is_closed(site: Site) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x" * (3 << 20)
        raise RuntimeError("the disk broke")

    site.body = failing
    async with ClientSession() as session:
        with pytest.raises(ClientError):
            async with session.get(site.url) as response:
                await response.read()
    assert await closed(site)


async def test_a_client_that_goes_closes_the_source(site: Site) -> None:
    ended = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * (1 << 20)
        finally:
            ended.set()

    site.body = endless
    async with ClientSession() as session:
        response = await session.get(site.url)
        await response.content.read(10)
        response.close()
    assert await asyncio.to_thread(ended.wait, 10)
    assert await closed(site)


async def test_a_client_that_does_not_read_stops_the_reading(site: Site) -> None:
    given = 0

    def endless() -> Iterator[bytes]:
        nonlocal given
        while True:
            given += 1 << 20
            yield b"x" * (1 << 20)

    site.body = endless
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.url.rsplit(":", 1)[1].strip("/")), limit=1024)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.read(10)
    await asyncio.sleep(0.5)
    stopped_at = given
    await asyncio.sleep(0.5)
    assert given == stopped_at
    assert given < 40 << 20  # what the sockets' buffers took, and two batches
    writer.close()


async def test_head_reads_nothing_and_still_closes(site: Site) -> None:
    began = threading.Event()

    def body() -> Iterator[bytes]:
        began.set()
        yield b"x"

    site.body = body
    async with ClientSession() as session, session.head(site.url) as response:
        assert response.status == 200
    assert await closed(site)
    assert not began.is_set()


async def test_more_pixels_than_may_wait_are_told_to_come_back_and_leave_room_when_done() -> None:
    bridge = Bridge(threads=2, pixel_queue=1)
    release = threading.Event()
    calls = [asyncio.ensure_future(bridge.run_pixels(release.wait, 10)) for _ in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(OutOfResources):
        await bridge.run_pixels(release.wait, 10)
    assert await bridge.run(int, "1") == 1
    release.set()
    assert await asyncio.gather(*calls) == [True, True]
    await asyncio.sleep(0.05)
    assert await bridge.run_pixels(int, "2") == 2
    bridge.close()
