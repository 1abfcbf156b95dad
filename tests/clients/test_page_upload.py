"""Uploading on the web page, in a real browser: files dropped as people drop them, and what becomes of each."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import builders
from tests.clients.browser import Browser, Page
from tests.clients.needs import needs
from tests.server import Server
from tests.wire import clients

pytestmark = needs("chromium")

COUNT = "document.querySelectorAll('.upload .files tbody tr').length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("pacs")) as running:
        yield running


def fifty(folder: Path, root: str) -> list[Path]:
    """Two studies of 25 files each, of two patients: root.0 and root.1."""
    folder.mkdir()
    paths = []
    for number in range(50):
        study = f"{root}.{number % 2}"
        path = folder / f"image {number:02}.dcm"
        who = {"PatientName": ("Doe^Jane", "Wang^XiaoDong")[number % 2], "PatientID": f"{root}-{number % 2}"}
        path.write_bytes(builders.ct(study, f"{study}.1", f"{study}.1.{number}", StudyDescription="CT Thorax", **who))
        paths.append(path)
    return paths


def opened(
    browser: Browser, server: Server, at: str = "/upload", language: str = "en", theme: str = "light", width: int = 1400
) -> Page:
    before = f"localStorage.setItem('pacs.language', '{language}'); localStorage.setItem('pacs.theme', '{theme}')"
    page = browser.open(f"{server.http_url}/#{at}", before=before, width=width, height=900 if width > 600 else 844)
    page.wait_for("document.querySelector('.drop-veil') !== null && document.querySelector('#main > *') !== null")
    return page


def drop(page: Page, *paths: Path) -> None:
    """As from the desktop."""
    for event in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        page.call("Input.dispatchDragEvent", {"type": event, "x": 200, "y": 300, "data": data})


def ended(page: Page) -> dict[str, int]:
    """Waits for the end; how many files have each result."""
    page.wait_for("document.querySelector('.upload .progress.good, .upload .progress.bad') !== null")
    return dict(
        page.run("import('./ui/core/upload.js').then(({uploads}) => uploads.counts)"),
    )


def chips(page: Page) -> list[list[str]]:
    """Name, result and reason of each file of the list."""
    rows: Any = page.run(
        "[...document.querySelectorAll('.upload .files tbody tr')].map((row) => [row.querySelector('.name').innerText,"
        " row.querySelector('.chip').innerText, row.querySelector('.why')?.innerText || ''])"
    )
    return list(rows)


def stored(server: Server, root: str) -> int:
    """How many instances of the two studies of ``fifty`` there are."""
    return sum(len(clients.qido(server, "/instances", {"StudyInstanceUID": f"{root}.{number}"})) for number in (0, 1))


def no_errors(page: Page) -> None:
    assert [line for line in page.seen.console if line.startswith(("exception", "error"))] == []


def test_fifty_files_dropped_on_another_view_are_uploaded_and_lead_to_their_studies(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    paths = fifty(tmp_path / "scans", "1.2.51")
    page = opened(browser, server, at="/nowhere")
    drop(page, *paths)
    page.wait_for("location.hash === '#/upload'")
    assert {name: count for name, count in ended(page).items() if count} == {"stored": 50}
    page.wait_for("document.body.innerText.includes('Doe, Jane')")
    page.screenshot(tmp_path / "upload-light.png")
    links = page.run("[...document.querySelectorAll('.upload .studies a')].map((link) => link.getAttribute('href'))")
    assert sorted(links) == ["#/studies/1.2.51.0", "#/studies/1.2.51.1"]
    assert stored(server, "1.2.51") == 50
    posts = [each for each in page.seen.exchanges.values() if each.method == "POST"]
    assert 4 <= len(posts) <= 10  # several files a request
    no_errors(page)

    drop(page, *paths[:3])
    page.wait_for("document.querySelectorAll('.upload .files tbody tr').length === 53")
    assert {name: count for name, count in ended(page).items() if count} == {"stored": 50, "same": 3}
    page.close()


def test_a_folder_with_a_zip_and_files_that_are_no_images_tells_what_became_of_each(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "disk"
    good = fifty(tmp_path / "scans", "1.2.52")
    (folder / "series").mkdir(parents=True)
    (folder / "series" / "a.dcm").write_bytes(good[0].read_bytes())
    (folder / "readme.txt").write_text("Not an image, but a text.")
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "DICOMDIR").write_bytes(good[1].read_bytes()[:400])
    (folder / "broken.dcm").write_bytes(good[2].read_bytes()[:200])
    other = builders.ct("1.2.52.0", "1.2.52.0.1", "1.2.52.0.1.0", PatientName="Somebody^Else")
    (folder / "z-conflict.dcm").write_bytes(other)
    with zipfile.ZipFile(folder / "more.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(good[3], "in/b.dcm")
        packed.writestr("in/note.txt", "hello")
        packed.write(good[5], "in/c.dcm", zipfile.ZIP_STORED)
    (folder / "torn.zip").write_bytes((folder / "more.zip").read_bytes()[:300])
    page = opened(browser, server, language="zh-Hant", theme="dark")
    drop(page, folder / "series", folder / "readme.txt")
    ended(page)
    drop(page, *sorted(path for path in folder.iterdir() if path.is_file() and path.name != "readme.txt"))
    page.wait_for(f"{COUNT} === 10")
    ended(page)
    page.screenshot(tmp_path / "upload-dark-zh.png")
    found = {name: (result, why) for name, result, why in chips(page)}
    assert found["series/a.dcm"] == ("已儲存", "")
    assert found["more.zip:in/b.dcm"] == found["more.zip:in/c.dcm"] == ("已儲存", "")
    assert found["more.zip:in/note.txt"] == found["readme.txt"] == ("已略過", "不是 DICOM 檔案")
    assert found["DICOMDIR"] == ("已略過", "DICOMDIR 目錄檔，並非影像")
    assert found["empty.dcm"] == ("已略過", "檔案是空的")
    assert found["broken.dcm"] == ("遭拒絕", "檔案損壞或不完整，無法解讀 (C000H)")
    assert found["z-conflict.dcm"] == ("遭拒絕", "已有內容不同但 SOP Instance UID 相同的物件 (0111H)")
    assert found["torn.zip"] == ("失敗", "ZIP 檔已損壞")
    assert stored(server, "1.2.52") == 3
    assert [line for line in page.seen.console if line.startswith("exception")] == []
    page.close()


def test_the_results_are_to_be_had_as_a_table_that_no_spreadsheet_takes_for_formulas(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    bad = tmp_path / '=HYPERLINK("x").dcm'
    bad.write_bytes(builders.ct("1.2.9", "1.2.9.1", "1.2.9.1.1")[:150])
    page = opened(browser, server)
    page.run("URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return '#'; }")
    drop(page, bad)
    ended(page)
    page.run("[...document.querySelectorAll('.upload .head button')].find((b) => b.innerText.includes('CSV')).click()")
    head, line = csv.reader(io.StringIO(page.wait_for("window.saved").lstrip("\ufeff")))
    assert head[:4] == ["file", "bytes", "result", "reason"]
    assert line[0] == '\'=HYPERLINK("x").dcm'
    assert line[2:5] == ["Refused", "The file is damaged or incomplete, and cannot be understood (C000H)", "C000"]
    page.close()


def test_nothing_is_lost_while_the_server_is_away(browser: Browser, server: Server, tmp_path: Path) -> None:
    paths = fifty(tmp_path / "scans", "1.2.53")
    page = opened(browser, server)
    server.kill()
    drop(page, *paths)
    page.wait_for("document.querySelector('.upload .progress.waits')?.innerText.includes('does not answer')")
    page.screenshot(tmp_path / "upload-away.png")
    server.start()
    page.run("[...document.querySelectorAll('.upload button')].find((b) => b.innerText.includes('Try now'))?.click()")
    assert ended(page)["stored"] == 50
    assert stored(server, "1.2.53") == 50
    page.close()


def test_a_server_that_has_no_room_is_left_alone_and_asked_again(browser: Browser, tmp_path: Path) -> None:
    full = Server(tmp_path / "full", {"MIN_FREE_BYTES": str(10**18)})
    with full:
        page = opened(browser, full)
        drop(page, *fifty(tmp_path / "scans", "1.2.54"))
        page.wait_for("document.querySelector('.upload .state')?.innerText.startsWith('The server is busy')")
        seconds = int(page.run("/in ([0-9]+) s/.exec(document.querySelector('.upload .state').innerText)[1]"))
        assert 15 < seconds <= 30  # what Retry-After says
        posts = len([each for each in page.seen.exchanges.values() if each.method == "POST"])
        assert posts <= 4
        del full.env["MIN_FREE_BYTES"]
        full.restart()
        page.run(
            "[...document.querySelectorAll('.upload button')].find((b) => b.innerText.includes('Try now')).click()"
        )
        assert ended(page)["stored"] == 50
        page.close()


def test_pausing_and_cancelling_keep_what_is_stored(browser: Browser, server: Server, tmp_path: Path) -> None:
    paths = fifty(tmp_path / "scans", "1.2.55")
    page = opened(browser, server)
    page.call("Network.emulateNetworkConditions", _slow(40_000))
    press = "[...document.querySelectorAll('.upload .head button')].find((b) => b.innerText.includes('{}')).click()"
    drop(page, *paths)
    page.wait_for("(document.querySelector('.upload progress')?.value || 0) > 20000")  # progress within a request
    page.run(press.format("Pause"))
    page.wait_for("document.querySelector('.upload .state').innerText === 'Paused'")
    page.run(press.format("Go on"))
    page.run(press.format("Cancel upload"))
    page.wait_for("document.querySelector('.upload .state').innerText.startsWith('Cancelled')")
    page.call("Network.emulateNetworkConditions", _slow(-1))
    assert page.run("document.querySelectorAll('.upload .head button').length") == 3
    page.run(press.format("failed"))
    counts = ended(page)
    assert (counts["stored"] + counts["same"], counts["cancelled"]) == (50, 0)
    page.close()


def test_ten_thousand_files_do_not_freeze_the_page(browser: Browser, server: Server) -> None:
    page = opened(browser, server, width=390)
    page.run(
        """(async () => {
          const {uploads} = await import('./ui/core/upload.js');
          window.longest = 0;
          new PerformanceObserver((found) => {
            for (const task of found.getEntries()) window.longest = Math.max(window.longest, task.duration);
          }).observe({type: 'longtask'});
          const text = new Blob(['no image at all, but a text']), open = async () => text;
          async function* many() {
            for (let n = 0; n < 10000; n += 1) yield {name: `folder/${n}.txt`, size: text.size, open};
          }
          uploads.add(many());
        })()"""
    )
    assert ended(page)["skipped"] == 10_000
    assert page.run(COUNT) == 100
    assert page.run("window.longest") < 400
    assert page.run("document.documentElement.scrollWidth") == 390
    page.close()


def test_it_fits_a_telephone(browser: Browser, server: Server, tmp_path: Path) -> None:
    paths = fifty(tmp_path / "scans", "1.2.56")
    paths[7].write_bytes(paths[7].read_bytes()[:300])
    page = opened(browser, server, width=390)
    drop(page, *paths[:20])
    assert ended(page)["stored"] == 19
    page.wait_for("document.body.innerText.includes('Doe, Jane')")
    page.screenshot(tmp_path / "upload-phone.png")
    assert page.run("document.getElementById('main').scrollWidth") <= 390
    page.close()


def _slow(bytes_per_s: float) -> dict[str, Any]:
    return {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_s}
