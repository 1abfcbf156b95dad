"""OHIF (npm @ohif/app) in Chromium: what a radiologist sees of this archive. Screenshots stay in tests/artefacts."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from tests import builders
from tests.clients import phantoms
from tests.clients.browser import Browser, Page
from tests.clients.needs import needs
from tests.clients.ohif import Ohif
from tests.server import PROJECT, Server
from tests.wire.clients import qido, stow

pytestmark = needs("chromium", "npm", npm_packages=["@ohif/app"])

ARTEFACTS = PROJECT / "tests" / "artefacts"
NO_TOUR = "localStorage.setItem('shownTours', '[\"basicViewerTour\"]')"
CENTRE_OF_TEXT = """(text => {
    const walker = document.createTreeWalker(document, NodeFilter.SHOW_TEXT)
    for (let node; (node = walker.nextNode()); ) {
        const box = node.parentElement.getBoundingClientRect()
        if (node.textContent.trim() === text && box.width) return [box.x + box.width / 2, box.y + box.height / 2]
    }
    return null
})"""
VIEWPORT = """(() => {
    const box = document.querySelector('.cornerstone-canvas')?.getBoundingClientRect()
    return box && [box.x, box.y, box.width, box.height]
})()"""


@dataclass(frozen=True)
class Desk:
    """An archive with two studies, the viewer that shows it, and a browser."""

    server: Server
    ohif: Ohif
    browser: Browser
    ct_study_uid: str
    ultrasound: pydicom.Dataset

    def open(self, path: str = "/") -> Page:
        return self.browser.open(self.ohif.url + path, before=NO_TOUR)

    def open_study(self, study_uid: str) -> Page:
        page = self.open(f"/viewer?StudyInstanceUIDs={study_uid}")
        page.wait_for(VIEWPORT)
        return page


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("ohif")
    series = phantoms.ct_series()
    study_uid = str(pydicom.dcmread(BytesIO(series[0])).StudyInstanceUID)
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "examples_ybr_color.dcm"
    files = [*series, phantoms.segmentation(series), path.read_bytes()]
    files.append(phantoms.encapsulated_pdf(study_uid, phantoms.pdf_document()))
    with (
        Ohif() as ohif,
        Server(folder / "archive", {"CORS_ALLOWED_ORIGINS": ohif.url}) as server,
        Browser(folder / "browser", webgl=True) as browser,
    ):
        ohif.configure(server.dicomweb_url)
        assert stow(server, files).status_code == 200
        yield Desk(server, ohif, browser, study_uid, pydicom.dcmread(path))


def test_the_study_list_shows_the_studies_and_filters_them(desk: Desk) -> None:
    page = desk.open()
    page.wait_for(f"{CENTRE_OF_TEXT}('Phantom, Disc')")
    text = page.run("document.body.innerText")
    for shown in ("31-Jan-2024 10:15 AM", "Disc and bar", "A1", "14", "PLA", "03-May-2016 12:08 PM", "US"):
        assert shown in text, shown
    picture = page.screenshot(ARTEFACTS / "ohif-list.png")
    assert picture.std() > 5
    page.run("document.querySelector('input').focus()")
    page.call("Input.insertText", {"text": "phan"})
    page.wait_for(f"!{CENTRE_OF_TEXT}('PLA') && !!{CENTRE_OF_TEXT}('Phantom, Disc')")
    check_requests(desk, page)
    page.close()


def test_the_study_list_filters_by_several_modalities(desk: Desk) -> None:
    page = desk.open("/?modalities=CT,US")
    page.wait_for(f"!!{CENTRE_OF_TEXT}('Phantom, Disc') && !!{CENTRE_OF_TEXT}('PLA')")
    assert any("ModalitiesInStudy=CT%2CUS" in exchange.url for exchange in page.seen.exchanges.values())
    page.close()
    page = desk.open("/?modalities=MR,CT")
    page.wait_for(f"!!{CENTRE_OF_TEXT}('Phantom, Disc') && !{CENTRE_OF_TEXT}('PLA')")
    check_requests(desk, page)
    page.close()


def test_a_study_without_any_modality_does_not_break_the_study_list(desk: Desk) -> None:
    odd = builders.ct(rows=32, columns=32, Modality=..., PatientID="ODD", PatientName="Odd^Study")
    assert stow(desk.server, [odd]).status_code == 200
    page = desk.open()
    page.wait_for(f"!!{CENTRE_OF_TEXT}('Odd, Study') && !!{CENTRE_OF_TEXT}('PLA')", timeout_s=20)
    check_requests(desk, page)
    page.close()
    page = desk.open_study(str(pydicom.dcmread(BytesIO(odd)).StudyInstanceUID))
    page.wait_for("document.body.innerText.includes('1/1')")
    check_requests(desk, page)
    page.close()


def test_a_ct_series_is_shown_slice_by_slice(desk: Desk) -> None:
    page = desk.open_study(desk.ct_study_uid)
    page.wait_for("/I:\\s*\\d+ \\(1\\/12\\)/.test(document.body.innerText)")
    seen = set()
    for position in (1, 2, 3):
        page.wait_for(f"document.body.innerText.includes('({position}/12)')")
        number = instance_number(page)
        seen.add(number)
        expected = np.clip((phantoms.hounsfield(number) - 39.5) / 399 + 0.5, 0, 1) * 255
        wait_until_like(page, expected, ARTEFACTS / f"ohif-ct-{position}.png")
        page.scroll(*centre_of(page), 100)
    assert len(seen) == 3
    check_requests(desk, page)
    page.close()


def test_a_colour_multi_frame_is_shown_frame_by_frame(desk: Desk) -> None:
    frames = desk.ultrasound.pixel_array  # pydicom makes RGB of it
    page = desk.open_study(desk.ultrasound.StudyInstanceUID)
    for position in (1, 2, 3):
        page.wait_for(f"document.body.innerText.includes('({position}/30)')")
        wait_until_like(page, frames[position - 1], ARTEFACTS / f"ohif-us-{position}.png", share=0.02)
        page.scroll(*centre_of(page), 100)
    check_requests(desk, page)
    page.close()


def test_a_segmentation_is_laid_over_its_series(desk: Desk) -> None:
    page = desk.open_study(desk.ct_study_uid)
    page.wait_for("/I:\\s*\\d+ \\(1\\/12\\)/.test(document.body.innerText)")
    page.click(*page.wait_for(f"{CENTRE_OF_TEXT}('Quarter of the disc')"), count=2)
    page.click(*page.wait_for(f"{CENTRE_OF_TEXT}('Yes')"))
    inside, outside = np.zeros((2, phantoms.SIZE, phantoms.SIZE), bool)
    inside[32:58, 32:58] = True
    outside[32:58, 66:90] = True
    deadline = time.monotonic() + 60
    while True:
        shown = samples(page, inside.shape, ARTEFACTS / "ohif-seg.png").astype(int)
        redness = shown[..., 0] - shown[..., 2]
        if redness[inside].min() > 30:
            break
        assert time.monotonic() < deadline, f"no segment is seen: redness {redness[inside].mean()}"
        time.sleep(0.2)
    assert abs(redness[outside]).max() <= 2
    check_requests(desk, page)
    page.close()


def test_an_encapsulated_pdf_is_shown(desk: Desk) -> None:
    page = desk.open_study(desk.ct_study_uid)
    page.wait_for("/I:\\s*\\d+ \\(1\\/12\\)/.test(document.body.innerText)")
    page.click(*page.wait_for(f"{CENTRE_OF_TEXT}('Report')"), count=2)
    url = page.wait_for("document.querySelector('object[type=\"application/pdf\"]')?.data")
    fetched = page.run(f"fetch({json.dumps(url)}).then(a => a.text())")
    assert fetched.rstrip("\0") == phantoms.pdf_document().decode()
    deadline = time.monotonic() + 60
    while True:
        grey = page.screenshot(ARTEFACTS / "ohif-pdf.png")[:, 300:1360].mean(axis=2)
        # The page's upper half is white, its lower half black.
        columns = np.flatnonzero((grey > 250).sum(axis=0) > 150)
        if len(columns) > 200:
            break
        assert time.monotonic() < deadline, "no page of the PDF is seen"
        time.sleep(0.2)
    column = grey[:, columns[len(columns) // 2]]
    last_white = int(np.flatnonzero(column > 250)[-1])
    assert column[last_white + 10 : last_white + 150].max() < 5
    check_requests(desk, page)
    page.close()


def test_files_are_uploaded_from_the_study_list(desk: Desk, tmp_path: Path) -> None:
    files = phantoms.ct_series(PatientID="UPLOADED", PatientName="Up^Loaded")[:3]
    paths = [tmp_path / f"{number}.dcm" for number in range(len(files))]
    for path, file in zip(paths, files, strict=True):
        path.write_bytes(file)
    page = desk.open()
    page.click(*page.wait_for(f"{CENTRE_OF_TEXT}('Upload')"))
    page.wait_for("!!document.querySelector('input[type=file]')")
    page.choose_files("input[type=file]", paths)
    deadline = time.monotonic() + 60
    while len(qido(desk.server, "/instances", {"PatientID": "UPLOADED"})) < len(files):
        assert time.monotonic() < deadline, page.run("document.body.innerText")
        time.sleep(0.2)
    page.wait_for("document.body.innerText.includes('3 files completed')")
    page.screenshot(ARTEFACTS / "ohif-upload.png")
    check_requests(desk, page)
    page.close()


def check_requests(desk: Desk, page: Page) -> None:
    """Nothing that the viewer asked was refused, failed, or warned about by the browser."""
    asked = [exchange for exchange in page.seen.exchanges.values() if exchange.url.startswith(desk.server.http_url)]
    assert asked
    assert [exchange for exchange in asked if exchange.status >= 400 or exchange.failure] == []
    # 499: closing a page ends what it still fetches.
    refused = re.findall(r"^.* http method=.* status=(?!499)[45]\d\d .*$", desk.server.log(), re.MULTILINE)
    assert refused == []
    complaints = [line for line in page.seen.console if line.startswith(("error:", "exception:"))]
    assert complaints == []


def instance_number(page: Page) -> int:
    found = re.search(r"I:\s*(\d+) \(", page.run("document.body.innerText"))
    assert found is not None
    return int(found[1])


def centre_of(page: Page) -> tuple[float, float]:
    x, y, width, height = page.run(VIEWPORT)
    return x + width / 2, y + height / 2


def wait_until_like(
    page: Page, expected: NDArray[np.float64] | NDArray[np.uint8], path: Path, *, share: float = 0.04
) -> None:
    """Wait until the viewport shows this picture, (rows, columns) or (rows, columns, 3), 0 to 255.

    share: of the pixels that may differ, since edges are interpolated.
    """
    rows, columns = expected.shape[:2]
    if expected.ndim == 2:
        expected = np.repeat(expected[..., np.newaxis], 3, axis=2)
    # Its texts, arrows, sliders and buttons lie over the edges of the picture.
    inner = np.s_[rows // 6 : -(rows // 6), columns // 8 : -(columns // 8)]
    deadline = time.monotonic() + 60
    while True:
        difference = np.abs(samples(page, (rows, columns), path)[inner] - expected[inner].astype(float)).max(axis=2)
        if np.mean(difference > 12) < share:
            return
        assert time.monotonic() < deadline, f"the picture differs: {np.mean(difference > 12):.1%} of its pixels"
        time.sleep(0.2)


def samples(page: Page, shape: tuple[int, ...], path: Path) -> NDArray[np.uint8]:
    """The viewport's pixels at the centre of each pixel of an image of this shape that is fitted into it."""
    x, y, width, height = page.run(VIEWPORT)
    rows, columns = shape[:2]
    scale = min(width / columns, height / rows)
    at_x = x + width / 2 + (np.arange(columns) + 0.5 - columns / 2) * scale
    at_y = y + height / 2 + (np.arange(rows) + 0.5 - rows / 2) * scale
    return page.screenshot(path)[at_y.astype(int)[:, np.newaxis], at_x.astype(int)]
