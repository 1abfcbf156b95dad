"""`pacs viewer install`, and OHIF as this server serves it: by one click, behind a proxy, with accounts.

Screenshots stay in tests/artefacts.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote

import aiohttp
import numpy as np
import pydicom
import pytest
import requests
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.clients import npm, phantoms
from tests.clients.browser import Browser, Page
from tests.clients.needs import needs
from tests.clients.test_ohif import ARTEFACTS, CENTRE_OF_TEXT, NO_TOUR, VIEWPORT, instance_number, wait_until_like
from tests.server import Server
from tests.wire.clients import stow

pytestmark = [needs("chromium", "npm", npm_packages=["@ohif/app"]), pytest.mark.slow]

PASSWORD = "correct horse"  # noqa: S105
PACKAGE = next(package for package in npm.wanted() if package.startswith("@ohif/app@"))
OPEN = "document.querySelector('.space .row .open a')"
ENGLISH = "localStorage.setItem('pacs.language', 'en');"


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the command has filled, for servers to serve from."""
    folder = tmp_path_factory.mktemp("install") / "viewer"
    server = Server(folder.parent, {"VIEWER_FOLDER": str(folder)})
    assert server.pacs("viewer", "status").returncode == 1
    done = server.pacs("viewer", "install", "--from", str(npm.tarball(PACKAGE)))
    assert done.returncode == 0, done.stderr
    status = json.loads(server.pacs("viewer", "status", "--json").stdout)
    assert status["version"] == PACKAGE.rpartition("@")[2]
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser"), webgl=True) as running:
        yield running


class Proxy:
    """A reverse proxy on a free port with the server below a path of its own, as nginx would have it."""

    def __init__(self, server: Server, prefix: str) -> None:
        self._server = server
        self._prefix = prefix
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> str:
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(60)
        return f"http://127.0.0.1:{port}{self._prefix}"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _start(self) -> int:
        self._session = aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", f"{self._prefix}/{{rest:.*}}", self._pass_on)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _pass_on(self, request: web.Request) -> web.Response:
        url = URL(self._server.http_url + request.rel_url.raw_path_qs.removeprefix(self._prefix), encoded=True)
        headers = {**request.headers, "X-Forwarded-Prefix": self._prefix, "X-Forwarded-For": "127.0.0.1"}
        body = await request.read()
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            kept = CIMultiDict(answer.headers)
            for name in ("Transfer-Encoding", "Content-Length", "Connection", "Keep-Alive"):
                kept.popall(name, None)
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


def check_shown(page: Page, name: str) -> None:
    """The pixels of a CT slice are on the screen, and the browser complained about nothing."""
    page.wait_for(VIEWPORT)
    page.wait_for("/I:\\s*\\d+ \\(1\\/12\\)/.test(document.body.innerText)")
    expected = np.clip((phantoms.hounsfield(instance_number(page)) - 39.5) / 399 + 0.5, 0, 1) * 255
    wait_until_like(page, expected, ARTEFACTS / f"viewer-{name}.png")
    assert [line for line in page.seen.console if line.startswith(("error:", "exception:"))] == []
    assert [each for each in page.seen.exchanges.values() if each.status >= 400 or each.failure] == []


def test_one_click_in_the_study_list_opens_the_study_in_ohif(viewer: Path, browser: Browser, tmp_path: Path) -> None:
    with Server(tmp_path, {"VIEWER_FOLDER": str(viewer)}) as server:
        assert stow(server, phantoms.ct_series()).status_code == 200
        page = browser.open(f"{server.http_url}/", before=NO_TOUR + ";" + ENGLISH)
        page.wait_for(f"!!{OPEN}")
        box = page.run(
            f"(() => {{ const b = {OPEN}.getBoundingClientRect(); return [b.x, b.y, b.width, b.height] }})()"
        )
        page.click(box[0] + box[2] / 2, box[1] + box[3] / 2)
        page.wait_for("location.pathname === '/viewer/viewer'")
        check_shown(page, "click")
        assert all(each.url.startswith((server.http_url, "data:", "blob:")) for each in page.seen.exchanges.values())
        # Its own list of studies, from the study, and an address of the list typed in.
        page.call("Page.navigate", {"url": f"{server.http_url}/viewer"})
        page.wait_for(f"!!{CENTRE_OF_TEXT}('Phantom, Disc')")
        assert not page.run(f"!!{CENTRE_OF_TEXT}('Upload')")
        page.close()


def test_ohif_works_below_a_path_of_a_proxy_and_asks_to_log_in(viewer: Path, browser: Browser, tmp_path: Path) -> None:
    settings = {"VIEWER_FOLDER": str(viewer), "ADMIN_PASSWORD": PASSWORD, "TRUSTED_PROXIES": "127.0.0.1"}
    series = phantoms.ct_series()
    study_uid = str(pydicom.dcmread(BytesIO(series[0])).StudyInstanceUID)
    with Server(tmp_path, settings) as server, Proxy(server, "/x-ray/archive") as url:
        for file in series:
            sent = requests.post(
                f"{server.dicomweb_url}/studies",
                data=file,
                headers={"Content-Type": "application/dicom"},
                auth=("admin", PASSWORD),
                timeout=30,
            )
            assert sent.status_code == 200
        wanted = f"{url}/viewer/viewer?StudyInstanceUIDs={study_uid}"
        page = browser.open(wanted, before=NO_TOUR + ";" + ENGLISH)
        page.wait_for("location.hash.startsWith('#/login') && !!document.getElementById('login-name')")
        assert "next=viewer/viewer?StudyInstanceUIDs" in unquote(page.run("location.hash"))
        page.run("document.getElementById('login-name').value = 'admin'")
        page.run(f"document.getElementById('login-password').value = '{PASSWORD}'")
        page.run("document.querySelector('form button[type=submit]').click()")
        page.wait_for(f"location.href === {json.dumps(wanted)}")
        check_shown(page, "proxy")
        # A request of the viewer's that changes something carries the session's token, or it would be refused.
        status = page.run(
            "new Promise((done) => { const asked = new XMLHttpRequest();"
            f" asked.open('POST', '{url}/dicom-web/studies'); asked.onloadend = () => done(asked.status);"
            " asked.setRequestHeader('Content-Type', 'application/dicom'); asked.send('no DICOM') })"
        )
        assert status == 409
        page.call("Network.clearBrowserCookies")
        page.close()


def test_files_are_served_as_they_should_be_and_nothing_else(viewer: Path, tmp_path: Path) -> None:
    (viewer.parent / "secret.js").write_text("none of its business")
    (viewer / "link.js").symlink_to(viewer.parent / "secret.js")
    with Server(tmp_path, {"VIEWER_FOLDER": str(viewer)}) as server:
        root = f"{server.http_url}/viewer"
        page = requests.get(f"{root}/viewer/dicomweb?x=1", timeout=60)
        assert 'src="../app-config.js"' in page.text
        assert "<script>" not in page.text
        bundle = next(path.name for path in viewer.glob("app.bundle.*.js"))
        got = requests.get(f"{root}/{bundle}", timeout=60)
        assert got.headers["Content-Encoding"] == "gzip"
        assert got.content == (viewer / bundle).read_bytes()
        assert "immutable" in got.headers["Cache-Control"]
        assert "'unsafe-eval'" in got.headers["Content-Security-Policy"]
        same = requests.get(f"{root}/{bundle}", headers={"If-None-Match": got.headers["ETag"]}, timeout=60)
        assert same.status_code == 304
        plain = requests.get(f"{root}/{bundle}", headers={"Accept-Encoding": "identity"}, timeout=60)
        assert "Content-Encoding" not in plain.headers
        assert plain.content == got.content
        for name in (
            "nothing.js",
            "..%2fsecret.js",
            "%2e%2e/secret.js",
            "link.js",
            "assets%2f..%2f..%2fsecret.js",
            "%00.js",
        ):
            refused = requests.get(f"{root}/{name}", timeout=60)
            assert refused.status_code == 404, name
            assert "none of its business" not in refused.text
        # What is removed is gone at once, for the page as well, and is back as soon as it is installed again.
        assert requests.get(f"{server.http_url}/ui/config.json", timeout=60).json()["viewer"] == "viewer/"
        (viewer / "link.js").unlink()
        viewer.rename(viewer.with_name("away"))
        assert requests.get(f"{server.http_url}/ui/config.json", timeout=60).json()["viewer"] == ""
        assert "pacs viewer install" in requests.get(f"{root}/", timeout=60).json()["detail"]
        viewer.with_name("away").rename(viewer)
        assert requests.get(f"{root}/", timeout=60).status_code == 200


def test_what_fails_leaves_the_viewer_that_is_there(viewer: Path, tmp_path: Path) -> None:
    server = Server(tmp_path, {"VIEWER_FOLDER": str(viewer)})
    before = sorted(viewer.rglob("*"))
    broken = tmp_path / "broken.tgz"
    broken.write_bytes(npm.tarball(PACKAGE).read_bytes()[:1_000_000])
    for arguments, code, said in (
        (("--from", str(broken)), 2, "not a package of npm's"),
        (("--from", str(tmp_path / "none.tgz")), 2, "No such file"),
        (("--from", str(npm.tarball(PACKAGE)), "--version", "3.9.0"), 2, "say --version 3.13.2"),
        (("--version", "latest"), 2, "expected an exact version"),
    ):
        failed = server.pacs("viewer", "install", *arguments)
        assert (failed.returncode, said in failed.stderr) == (code, True), failed.stderr
    without = dict(server.env, PATH="/nonexistent")
    server.env = without
    failed = server.pacs("viewer", "install")
    assert failed.returncode == 2
    assert "npm pack @ohif/app@" in failed.stderr
    assert sorted(viewer.rglob("*")) == before
    assert [path.name for path in viewer.parent.iterdir() if path.name.startswith(".viewer.")] == [".viewer.lock"]


def test_only_a_viewer_is_removed(tmp_path: Path) -> None:
    other = tmp_path / "photos"
    other.mkdir()
    (other / "holiday.jpg").write_bytes(b"x")
    server = Server(tmp_path, {"VIEWER_FOLDER": str(other)})
    for action in ("remove", "install"):
        refused = server.pacs("viewer", action)
        assert refused.returncode == 2
        assert "holds something else" in refused.stderr
    assert (other / "holiday.jpg").exists()
