"""Bodies that are parts of files: the kernel sends them, and what goes wrong is noticed all the same."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, web

from pacs.errors import Corrupt, PacsError
from pacs.services.file_span import FileSpan, Piece
from pacs.web.bridge import Bridge

IDLE_S = 1.0
FILE = os.urandom(3 << 20)


class Site:
    """A server with one resource: ``pieces``, whose lengths add up to the Content-Length."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.pieces: list[Piece] = []
        self.closed = threading.Event()
        self.taken = 0
        self.url = ""
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = sum(map(len, self.pieces))
        try:
            return await self.bridge.send(request, response, self._body(), on_close=self.closed.set)
        except PacsError as error:
            return web.Response(status=500, text=str(error))

    def _body(self) -> Iterator[Piece]:
        for piece in self.pieces:
            self.taken += 1
            yield piece


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    bridge = Bridge(threads=2, idle_s=IDLE_S)
    made = Site(bridge)
    app = web.Application()
    app.router.add_get("/", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    made.url = f"http://127.0.0.1:{made.port}/"
    yield made
    await runner.cleanup()
    await asyncio.to_thread(bridge.close)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(FILE)
    return tmp_path / "file"


def open_files_of(path: Path) -> int:
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            count += str(entry.readlink()).startswith(str(path))
    return count


async def closed(site: Site) -> bool:
    return await asyncio.to_thread(site.closed.wait, 10)


async def test_bytes_and_parts_of_files_arrive_in_order_on_a_connection_that_stays(site: Site, path: Path) -> None:
    site.pieces = [
        b"head",
        FileSpan(path, 10, 1 << 20),
        b"",
        FileSpan(path, 5, 0),
        b"mid",
        FileSpan(path, 0, len(FILE)),
        b".",
    ]
    expected = b"head" + FILE[10 : 10 + (1 << 20)] + b"mid" + FILE + b"."
    async with ClientSession() as session:
        for _ in range(3):
            async with session.get(site.url) as response:
                assert response.content_length == len(expected)
                assert await response.read() == expected
    assert await closed(site)
    assert open_files_of(path) == 0


async def test_many_small_parts_are_not_held_open_together(site: Site, path: Path) -> None:
    site.pieces = [piece for at in range(2000) for piece in (b"--", FileSpan(path, at, 1000))]
    expected = b"".join(b"--" + FILE[at : at + 1000] for at in range(2000))
    async with ClientSession() as session, session.get(site.url) as response:
        await response.content.read(1)
        assert open_files_of(path) < 10
        assert await response.read() == expected[1:]


async def test_a_missing_file_at_the_beginning_is_told(site: Site, path: Path) -> None:
    site.pieces = [b"head", FileSpan(path.with_name("gone"), 0, 100)]
    async with ClientSession() as session, session.get(site.url) as response:
        assert response.status == 500
        assert "missing" in await response.text()
    assert await closed(site)


@pytest.mark.parametrize("what", ["gone", "short"])
async def test_a_file_that_is_not_whole_later_on_cuts_the_connection(site: Site, path: Path, what: str) -> None:
    if what == "short":
        path.with_name("short").write_bytes(b"x" * 50)
    site.pieces = [FileSpan(path, 0, len(FILE)), FileSpan(path.with_name(what), 0, 100), b"end"]
    async with ClientSession() as session:
        with pytest.raises(ClientError):
            async with session.get(site.url) as response:
                await response.read()
    assert await closed(site)
    assert open_files_of(path.parent) == 0


async def test_a_client_that_goes_closes_the_file(site: Site, path: Path) -> None:
    site.pieces = [FileSpan(path, 0, len(FILE))] * 100
    async with ClientSession() as session:
        response = await session.get(site.url)
        await response.content.read(10)
        response.close()
    assert await closed(site)
    assert open_files_of(path) == 0
    assert site.taken < 100


async def test_a_client_that_stalls_holds_no_thread_and_is_given_up(site: Site, path: Path) -> None:
    site.pieces = [FileSpan(path, 0, len(FILE))] * 100
    stalled = []
    for _ in range(8):  # more than there are threads
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.read(10)
        stalled.append(writer)
    assert await asyncio.wait_for(site.bridge.run(lambda: 7), IDLE_S) == 7
    async with asyncio.timeout(10 * IDLE_S):
        while open_files_of(path):
            await asyncio.sleep(0.05)
    for writer in stalled:
        writer.close()


async def test_a_slow_client_gets_everything(site: Site, path: Path) -> None:
    site.pieces = [FileSpan(path, 0, len(FILE))] * 4
    received = bytearray()
    async with ClientSession() as session, session.get(site.url) as response:
        while piece := await response.content.read(1 << 20):
            received += piece
            await asyncio.sleep(0.05)
    assert received == FILE * 4


def test_a_part_of_a_part_is_cut_like_bytes(path: Path) -> None:
    span = FileSpan(path, 100, 1000)
    for part in (slice(None), slice(10, 20), slice(990, 5000), slice(5, None), slice(20, 10)):
        found, expected = span[part], FILE[100:1100][part]
        assert len(found) == len(expected)
        opened = found.open()
        read = b""
        while opened.left:
            read += opened.read(7)
        assert read == expected


def test_a_file_that_ends_before_its_time_is_not_read_as_if_whole(path: Path) -> None:
    opened = FileSpan(path, len(FILE) - 10, 20).open()
    assert opened.read(100) == FILE[-10:]
    with pytest.raises(Corrupt):
        opened.read(100)
    opened.close()
