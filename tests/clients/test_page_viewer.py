"""The quick viewer of the web page in Chromium. Screenshots stay in tests/artefacts."""

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

from pacs.dicom.uids import new_uid
from tests import builders
from tests.clients import phantoms, view_pictures
from tests.clients.browser import Browser
from tests.clients.needs import needs
from tests.clients.view_pictures import Picture
from tests.clients.viewer import Viewer
from tests.server import PROJECT, Server
from tests.wire.clients import stow

pytestmark = needs("chromium")

ARTEFACTS = PROJECT / "tests" / "artefacts"
PICTURES = view_pictures.pictures()


SERIES = phantoms.ct_series()
CT = pydicom.dcmread(BytesIO(SERIES[0]))
PLACES = re.compile(r"Image (\d+)/(\d+) \(no\. (\d+)\)")


@dataclass(frozen=True)
class Desk:
    server: Server
    browser: Browser
    viewer: Viewer

    def open_ct(self, **query: str | int) -> Viewer:
        self.viewer.open(CT.StudyInstanceUID, **query)
        self.viewer.wait_for_text(".where", "/12")
        return self.viewer


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("viewer")
    documents = [phantoms.segmentation(SERIES), phantoms.encapsulated_pdf(CT.StudyInstanceUID, phantoms.pdf_document())]
    with Server(folder / "archive") as server, Browser(folder / "browser") as browser:
        answer = stow(server, [*(picture.file for picture in PICTURES), *SERIES, *documents])
        assert answer.status_code == 200, answer.text
        yield Desk(server, browser, Viewer(browser, server.http_url))


@pytest.fixture(autouse=True)
def _nothing_complained(desk: Desk) -> Iterator[None]:
    """The console of the browser stays empty but for what a test says it expects."""
    desk.viewer.page.seen.console.clear()
    yield
    assert desk.viewer.complaints() == []


def place(viewer: Viewer) -> tuple[int, int, int]:
    """Which image is shown, of how many, and its Instance Number."""
    found = PLACES.search(viewer.text(".where"))
    assert found, viewer.text(".where")
    return int(found[1]), int(found[2]), int(found[3])


def window(viewer: Viewer) -> tuple[float, float]:
    """Center and width that the picture says it has."""
    found = re.search(r"W ([\d.,−-]+) · L ([\d.,−-]+)", viewer.text(".how"))
    assert found, viewer.text(".how")
    width, center = (float(text.replace(",", "").replace("−", "-")) for text in found.groups())
    return center, width


def slice_of(number: int, center: float = 40, width: float = 400) -> np.ndarray:
    return view_pictures.linear(phantoms.hounsfield(number).astype(float), center, width)


def letters(viewer: Viewer) -> str:
    """Of the left, right, top and bottom side."""
    return "/".join(viewer.text(f".side.{side}") for side in ("left", "right", "top", "bottom"))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_pixels_are_those_of_pydicom_and_the_window_formula(desk: Desk, picture: Picture) -> None:
    desk.viewer.open(picture.study_uid)
    for at, expected in enumerate(picture.frames[:4]):
        if at:
            desk.viewer.key("ArrowDown")
        desk.viewer.wait_for_picture(expected)


def test_real_images_look_as_the_server_renders_them(desk: Desk, wheel_archive: Server) -> None:
    viewer = Viewer(desk.browser, wheel_archive.http_url)
    viewer.page.call("Page.navigate", {"url": f"{wheel_archive.http_url}/#/view/1.2.3"})
    viewer.wait_for_text(".view.empty", "nothing")
    found = viewer.page.run((Path(__file__).parent / "viewer_compare.js").read_text())
    viewer.close()
    assert len(found) > 80
    # One file of the wheel cannot be decoded: its codestream says another size than the data set.
    differing = [each for each in found if not isinstance(each[3], int) or each[3] > 1]
    assert [each[3] for each in differing if "codestream is of another size" not in str(each[3])] == []
    assert len(differing) <= 1


def test_the_stack_is_scrolled_by_wheel_keys_and_scrollbar(desk: Desk) -> None:
    viewer = desk.open_ct()
    assert place(viewer) == (1, 12, 1)
    viewer.wheel(120)
    viewer.wait_for_text(".where", "Image 2/12")
    for key, at in {
        "ArrowDown": 3,
        "ArrowRight": 4,
        "ArrowUp": 3,
        "PageDown": 12,
        "PageUp": 2,
        "End": 12,
        "Home": 1,
    }.items():
        viewer.key(key)
        viewer.wait_for_text(".where", f"Image {at}/12")
    x, y, width, height = viewer.box(".slices")
    viewer.drag(0, height * 0.5, start=(x + width / 2, y + 8))
    viewer.wait_until(lambda: abs(place(viewer)[0] - 6.5), 1.5)
    viewer.wait_for_picture(slice_of(place(viewer)[2]))


def test_a_link_opens_at_its_image_and_the_address_follows(desk: Desk) -> None:
    fifth = pydicom.dcmread(BytesIO(SERIES[4]))
    viewer = desk.open_ct(series=fifth.SeriesInstanceUID, instance=fifth.SOPInstanceUID)
    assert place(viewer)[2] == 5
    viewer.key("ArrowDown")
    sixth = pydicom.dcmread(BytesIO(SERIES[5]))
    viewer.page.wait_for(f"location.hash.includes('{sixth.SOPInstanceUID}')")
    film = next(picture for picture in PICTURES if picture.name == "film")
    data_set = pydicom.dcmread(BytesIO(film.file))
    viewer.open(film.study_uid, series=data_set.SeriesInstanceUID, instance=data_set.SOPInstanceUID, frame=7)
    viewer.wait_for_text(".where", "Image 7/12")
    viewer.wait_for_picture(film.frames[6])


def test_the_window_is_dragged_chosen_and_reset(desk: Desk) -> None:
    viewer = desk.open_ct()
    assert window(viewer) == (40, 400)
    viewer.drag(60, -30)
    center, width = window(viewer)
    assert center < 40
    assert width > 400
    viewer.wait_for_picture(slice_of(1, center, width), most=1.5)  # what is shown is rounded
    viewer.key("x")
    assert window(viewer) == (40, 400)
    viewer.key("p")
    viewer.drag(-60, 0, button="right")
    assert window(viewer)[1] < 400
    viewer.key("w")
    viewer.choose("Window", "Bone")
    assert window(viewer) == (480, 2500)
    viewer.wait_for_picture(slice_of(1, 480, 2500))
    viewer.key("ArrowDown")
    viewer.wait_for_picture(slice_of(2, 480, 2500))
    viewer.key("5")
    assert window(viewer) == (50, 350) or window(viewer) == (90, 150)
    viewer.key("1")
    assert window(viewer) == (40, 400)


def test_inverted_turned_and_flipped_pictures_are_what_they_say(desk: Desk) -> None:
    viewer = desk.open_ct()
    upright = slice_of(1)
    assert letters(viewer) == "R/L/A/P"
    viewer.key("i")
    viewer.wait_for_picture(255 - upright)
    viewer.key("i")
    viewer.key("h")
    assert letters(viewer) == "L/R/A/P"
    viewer.wait_for_picture(np.fliplr(upright))
    viewer.key("r")
    assert letters(viewer) == "P/A/L/R"
    viewer.wait_for_picture(np.rot90(np.fliplr(upright), -1))
    viewer.key("v")
    assert letters(viewer) == "P/A/R/L"
    viewer.wait_for_picture(np.flipud(np.rot90(np.fliplr(upright), -1)))
    viewer.key("x")
    assert letters(viewer) == "R/L/A/P"
    viewer.wait_for_picture(upright)


ORIENTATIONS = {
    "axial": ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, "R/L/A/P"),
    "feet-first-prone": ({"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]}, "L/R/P/A"),
    "coronal": ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "R/L/H/F"),
    "sagittal": ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "A/P/H/F"),
    "oblique": ({"ImageOrientationPatient": [0.8, 0.6, 0, 0, 0, -1]}, "RA/LP/H/F"),
    "radiograph": ({"PatientOrientation": ["L", "F"], "Modality": "CR"}, "R/L/H/F"),
    "lateral-radiograph": ({"PatientOrientation": ["A", "F"], "Modality": "CR"}, "P/A/H/F"),
    "not-said": ({"Modality": "OT"}, "///"),
    "not-perpendicular": ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "///"),
    "an-animal": ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "AnatomicalOrientationType": "QUADRUPED"}, "///"),
}


def test_letters_of_the_sides_follow_the_orientation(desk: Desk) -> None:
    files = {name: builders.ct(rows=32, columns=32, **attributes) for name, (attributes, _) in ORIENTATIONS.items()}
    assert stow(desk.server, files.values()).status_code == 200
    found = {}
    for name, file in files.items():
        desk.viewer.open(str(pydicom.dcmread(BytesIO(file)).StudyInstanceUID))
        found[name] = letters(desk.viewer)
    assert found == {name: expected for name, (_, expected) in ORIENTATIONS.items()}


def test_zoom_pan_fit_and_one_to_one(desk: Desk) -> None:
    viewer = desk.open_ct()
    percent = lambda: int(re.search(r"Zoom ([\d,]+)", viewer.text(".how"))[1].replace(",", ""))  # noqa: E731
    fitted = percent()
    viewer.wheel(-120, ctrl=True)
    viewer.wait_until(lambda: float(percent() <= fitted), 0)
    assert place(viewer)[0] == 1
    viewer.key("f")
    assert percent() == fitted
    viewer.key("o")
    assert percent() == 100
    viewer.key("p")
    before = viewer.stage()
    viewer.drag(40, 24)
    moved = viewer.stage()
    # The middle of the picture, away from texts and letters, has moved by as much.
    top, left = before.shape[0] // 2 - 70, before.shape[1] // 2 - 70
    there = moved[top + 24 : top + 164, left + 40 : left + 180].astype(int)
    assert np.abs(there - before[top : top + 140, left : left + 140].astype(int)).max() <= 1
    viewer.key("w")


def test_lengths_are_measured_in_millimetres_and_told_by_what(desk: Desk) -> None:
    spacings = {
        "patient": ({"PixelSpacing": [0.5, 0.25]}, "50 mm"),
        "detector": ({"ImagerPixelSpacing": [0.5, 0.25], "Modality": "CR"}, "50 mm at the detector"),
        "calibrated": (
            {"ImagerPixelSpacing": [1, 0.5], "PixelSpacing": [0.5, 0.25], "Modality": "CR"},
            "50 mm (calibrated)",
        ),
        "unknown": ({"Modality": "OT"}, "pixels"),
    }
    for attributes, expected in spacings.values():
        file = builders.ct(rows=200, columns=300, **attributes)
        assert stow(desk.server, [file]).status_code == 200
        viewer = desk.viewer
        viewer.open(str(pydicom.dcmread(BytesIO(file)).StudyInstanceUID))
        viewer.key("o")
        viewer.key("m")
        # Pixels twice as high as wide: 60 columns of 0.25 mm by 80 rows of 0.5 mm, or the same in pixels.
        height = 160 if "PixelSpacing" in attributes or "ImagerPixelSpacing" in attributes else 80
        viewer.drag(120, height)
        said = viewer.text(".lines text")
        assert "mm" not in expected or said == expected, said
        if expected == "pixels":
            assert said == "144.2 pixels"
        viewer.key("Delete")
        assert viewer.text(".lines text") == ""
        viewer.key("w")


def test_the_value_under_the_pointer_is_in_hounsfield_units(desk: Desk) -> None:
    viewer = desk.open_ct()
    viewer.key("o")
    x, y = viewer.centre
    viewer.hover(x, y + 20)
    assert "40 HU" in viewer.text(".how")
    viewer.hover(x + 62, y - 62)
    assert re.search(r"[-−]1,000 HU", viewer.text(".how"))


def test_a_film_plays_at_its_own_rate_and_stops(desk: Desk) -> None:
    film = next(picture for picture in PICTURES if picture.name == "film")
    viewer = desk.viewer
    viewer.open(film.study_uid)
    assert viewer.page.run("document.querySelector('.rate').value") == "20"
    viewer.key(" ")
    viewer.page.wait_for(
        "document.querySelector('[aria-label=Pause]') && /Image [2-9]/.test(document.querySelector('.where').innerText)"
    )
    viewer.key(" ")
    viewer.page.wait_for("!!document.querySelector('[aria-label=Play]')")
    viewer.settle()
    stopped = place(viewer)
    time.sleep(0.3)
    assert place(viewer) == stopped
    viewer.wait_for_picture(film.frames[stopped[0] - 1])


def test_slices_are_sorted_by_place_whatever_their_numbers_and_names(desk: Desk) -> None:
    study, series = new_uid(), new_uid()
    # Numbers rise with the place but for two that were swapped.
    depths = {1: 0.0, 2: 5.0, 3: 15.0, 4: 10.0, 5: 20.0}
    files = [
        builders.ct(
            study,
            series,
            rows=16,
            columns=16,
            InstanceNumber=number,
            ImagePositionPatient=[0, depth, 0],
            ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
        )
        for number, depth in depths.items()
    ]
    assert stow(desk.server, files).status_code == 200
    desk.viewer.open(study)
    seen = []
    for at in range(1, 6):
        desk.viewer.wait_for_text(".where", f"Image {at}/5")
        seen.append(place(desk.viewer)[2])
        desk.viewer.key("ArrowDown")
    assert seen == [1, 2, 4, 3, 5]


def test_an_image_that_cannot_be_decoded_says_so_and_the_others_are_shown(desk: Desk) -> None:
    study, series = new_uid(), new_uid()
    good = builders.ct(study, series, rows=32, columns=32, InstanceNumber=1)
    bad = builders.encapsulated(
        [b"\xff\xd8nothing like a JPEG."],
        transfer_syntax="1.2.840.10008.1.2.4.70",
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
        rows=32,
        columns=32,
        InstanceNumber=2,
    )
    answer = stow(desk.server, [good, bad])
    assert answer.status_code == 200, answer.text
    viewer = desk.viewer
    viewer.open(study)
    viewer.key("ArrowDown")
    viewer.wait_for_text(".message", "Image 2 cannot be shown")
    link = viewer.page.run("document.querySelector('.message a').href")
    downloaded = viewer.page.run(f"fetch('{link}').then(a => a.arrayBuffer()).then(b => [...new Uint8Array(b)].length)")
    assert downloaded == len(bad)
    viewer.page.screenshot(ARTEFACTS / "viewer-undecodable.png")
    viewer.key("ArrowUp")
    viewer.wait_for_text(".where", "Image 1/2")
    viewer.page.wait_for("document.querySelector('.message').hidden")
    # The browser notes the answer that was an error.
    viewer.page.seen.console[:] = [line for line in viewer.page.seen.console if "Failed to load resource" not in line]


def test_what_is_no_image_is_shown_as_the_server_renders_it(desk: Desk) -> None:
    viewer = desk.open_ct()
    viewer.key("]")
    viewer.wait_for_text(".where", "SEG")
    viewer.key("]")
    source = viewer.page.wait_for("document.querySelector('.other iframe')?.src")
    assert viewer.page.run(f"fetch('{source}').then(a => a.headers.get('Content-Type'))") == "application/pdf"
    viewer.key("[")
    viewer.key("[")
    viewer.wait_for_text(".where", "/12")


def test_a_film_that_the_browser_cannot_play_is_offered_as_a_file(desk: Desk) -> None:
    stream = b"\0\0\0\x18ftypmp42" + bytes(40)
    attributes = {
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "YBR_PARTIAL_420",
        "NumberOfFrames": 10,
        "Modality": "ES",
    }
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    film = builders.encapsulated([stream], transfer_syntax="1.2.840.10008.1.2.4.102", **attributes, **bits)
    answer = stow(desk.server, [film])
    assert answer.status_code == 200, answer.text
    desk.viewer.go(str(pydicom.dcmread(BytesIO(film)).StudyInstanceUID))
    desk.viewer.wait_for_text(".other", "cannot play the film")
    assert "application%2Fdicom" in desk.viewer.page.run("document.querySelector('.other a').href")


def test_frames_at_hand_stay_within_their_bound(desk: Desk) -> None:
    viewer = desk.open_ct()
    script = """(async () => {
        const { Loader } = await import(`${location.origin}/ui/viewer/loader.js`)
        const { stacksOf } = await import(`${location.origin}/ui/viewer/stack.js`)
        const { json } = await import(`${location.origin}/ui/core/api.js`)
        const [study, series] = STUDY_AND_SERIES
        const { images } = stacksOf(await json(`studies/${study}/series/${series}/metadata`), new Map())[0]
        const bytes = 2 * images[0].rows * images[0].columns
        const loader = new Loader(study, new AbortController().signal, 3 * bytes)
        for (const image of images) await loader.load(image)
        const isLast = [...loader.atHand.keys()].at(-1) === images.at(-1).key
        return [images.length, loader.atHand.size, loader.heldBytes / bytes, isLast]
    })()"""
    uids = json.dumps([CT.StudyInstanceUID, CT.SeriesInstanceUID])
    assert viewer.page.run(script.replace("STUDY_AND_SERIES", uids)) == [12, 3, 3, True]


def test_panes_scroll_together_by_place(desk: Desk) -> None:
    viewer = desk.open_ct()
    viewer.choose("Layout", "2 panes")
    viewer.key("n")
    viewer.page.run("document.querySelector('.strip button').click()")
    viewer.page.wait_for("[...document.querySelectorAll('.where')].every(each => each.innerText.includes('/12'))")
    viewer.key("PageDown")
    viewer.page.wait_for(
        "[...document.querySelectorAll('.where')].every(each => each.innerText.includes('Image 11/12'))"
    )
    viewer.page.screenshot(ARTEFACTS / "viewer-two-panes.png")
    viewer.choose("Layout", "1 pane")


def test_a_study_that_is_not_there_is_said_in_words(desk: Desk) -> None:
    desk.viewer.go("1.2.3.4")
    desk.viewer.wait_for_text(".view.empty", "There is nothing in this study")


def test_fingers_scroll_zoom_and_the_words_are_chinese_on_a_phone(desk: Desk) -> None:
    viewer = Viewer(
        desk.browser, desk.server.http_url, language="zh-Hant", theme="dark", width=390, height=844, touch=True
    )
    viewer.open(CT.StudyInstanceUID)
    viewer.wait_for_text(".where", "影像 1/12")
    assert "不可用於診斷" in viewer.text(".viewbar")
    assert viewer.page.run("document.documentElement.scrollWidth") <= 390
    x, y = viewer.centre
    viewer.touch([(x, y), (x, y + 20), (x, y + 40), (x, y + 60)])
    viewer.wait_until(lambda: float("影像 1/12" in viewer.text(".where")), 0)
    before = viewer.text(".how")
    viewer.touch([(x - 20, y), (x - 40, y), (x - 80, y)], [(x + 20, y), (x + 40, y), (x + 80, y)])
    assert viewer.text(".how") != before
    viewer.page.screenshot(ARTEFACTS / "viewer-phone.png")
    assert viewer.complaints() == []
    viewer.close()


def test_the_viewer_at_a_desk_in_both_themes(desk: Desk) -> None:
    viewer = Viewer(desk.browser, desk.server.http_url, width=1400, height=900)
    viewer.open(CT.StudyInstanceUID)
    viewer.key("m")
    viewer.drag(160, 90)
    named = "e.getAttribute('aria-label') || e.title || e.innerText?.trim()"
    controls = "[...document.querySelectorAll('button, select, input, a, iframe')]"
    assert viewer.page.run(f"{controls}.filter(e => !({named})).map(e => e.outerHTML)") == []
    brightness = []
    for theme in ("light", "dark"):
        viewer.page.run(f"document.documentElement.dataset.theme = '{theme}'")
        viewer.settle()
        picture = viewer.page.screenshot(ARTEFACTS / f"viewer-{theme}.png")
        brightness.append(picture[:30].mean())
    assert brightness[0] > 200 > 80 > brightness[1]
    viewer.key("?")
    assert "Flip left and right" in viewer.text("dialog")
    viewer.page.screenshot(ARTEFACTS / "viewer-help.png")
    viewer.close()
