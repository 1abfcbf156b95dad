"""The list of studies and what it leads to, in Chromium. Screenshots stay in tests/artefacts."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests

from tests import builders
from tests.clients import phantoms
from tests.clients.browser import Browser, Page
from tests.clients.needs import needs
from tests.server import PROJECT, Server
from tests.wire.clients import stow

pytestmark = needs("chromium")

ARTEFACTS = PROJECT / "tests" / "artefacts"
COUNT = 180
PHONE = {"width": 390, "height": 844}
NAMES = "[...document.querySelectorAll('.space .row .name')].map(each => each.textContent)"
SEARCH = "document.querySelector('#search')"
NOT_BUSY = "!!document.querySelector('.grid') && !document.querySelector('.grid[aria-busy]')"


@dataclass(frozen=True)
class Desk:
    """An archive with a CT of pictures and many studies of one slice, and a browser."""

    server: Server
    browser: Browser
    ct: pydicom.Dataset

    def open(
        self,
        route: str = "/studies",
        *,
        language: str = "en",
        theme: str = "light",
        **size: int,
    ) -> Page:
        said = f"localStorage.setItem('pacs.language', '{language}'); localStorage.setItem('pacs.theme', '{theme}')"
        page = self.browser.open(f"{self.server.http_url}/#{route}", before=said, **size)
        page.wait_for("!!document.querySelector('.view') && !document.querySelector('#main').hasAttribute('aria-busy')")
        return page

    @property
    def study(self) -> str:
        return f"/studies/{self.ct.StudyInstanceUID}"

    @property
    def series(self) -> str:
        return f"{self.study}/series/{self.ct.SeriesInstanceUID}"

    @property
    def instance(self) -> str:
        return f"{self.series}/instances/{self.ct.SOPInstanceUID}"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("page-list")
    series = phantoms.ct_series(
        PatientBirthDate="19620412",
        AccessionNumber="A7781",
        RequestAttributesSequence=[{"ScheduledProcedureStepID": "STEP7", "RequestedProcedureID": "PROC7"}],
        **{
            "00990010": {"vr": "LO", "Value": ["ACME 1.0"]},
            "00991001": {"vr": "LO", "Value": ["a secret of ACME"]},
        },
    )
    with Server(folder / "archive") as server, Browser(folder / "browser") as browser:
        assert stow(server, series).status_code == 200
        assert stow(server, many(COUNT)).status_code == 200
        yield Desk(server, browser, pydicom.dcmread(BytesIO(series[0])))


def many(count: int) -> list[bytes]:
    """Studies of one slice each; the patient's number is the day's, so that order by either is known."""
    return [
        builders.ct(
            rows=16,
            columns=16,
            PatientName=f"Many^Number {number:03}",
            PatientID=f"M{number:03}",
            AccessionNumber=f"B{number:03}",
            StudyDate=f"2020{1 + number // 28:02}{1 + number % 28:02}",
            StudyDescription="Thorax" if number % 2 else "Abdomen",
            Modality="CT" if number % 3 else "MR",
        )
        for number in range(count)
    ]


def type_text(page: Page, text: str) -> None:
    page.run(f"{SEARCH}.focus()")
    page.call("Input.insertText", {"text": text})


def press(page: Page, key: str, *, shift: bool = False) -> None:
    codes = {
        "ArrowDown": 40,
        "ArrowUp": 38,
        "ArrowRight": 39,
        "ArrowLeft": 37,
        "Enter": 13,
        "Escape": 27,
        "End": 35,
        "Home": 36,
    }
    event: dict[str, Any] = {
        "key": key,
        "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper())),
    }
    if key == "Enter":
        event["text"] = "\r"
    elif len(key) == 1:
        event["text"] = key
    page.call(
        "Input.dispatchKeyEvent",
        {"type": "keyDown", "modifiers": 8 if shift else 0, **event},
    )
    page.call("Input.dispatchKeyEvent", {"type": "keyUp", **event})


def click(page: Page, expression: str, *, shift: bool = False) -> None:
    """Click with the mouse on the middle of an element."""
    page.run(f"({expression}).scrollIntoView({{block: 'nearest'}})")
    x, y = page.run(f"(box => [box.x + box.width / 2, box.y + box.height / 2])(({expression}).getBoundingClientRect())")
    for kind in ("mousePressed", "mouseReleased"):
        place = {
            "x": x,
            "y": y,
            "button": "left",
            "clickCount": 1,
            "modifiers": 8 if shift else 0,
        }
        page.call("Input.dispatchMouseEvent", {"type": kind, **place})


def button(text: str, within: str = "document") -> str:
    return f"[...{within}.querySelectorAll('button, a')].find(each => each.textContent.trim() === {json.dumps(text)})"


def check_console(page: Page) -> None:
    """Nothing threw and nothing was refused by the policy; what has no picture may say so."""
    told = [line for line in page.seen.console if "/thumbnail" not in line and "/rendered" not in line]
    assert not [line for line in told if line.startswith(("exception", "error"))], told


# --- the list ---


def test_the_list_shows_the_newest_studies_first_with_pictures_and_counts(
    desk: Desk,
) -> None:
    page = desk.open()
    page.wait_for(f"{NAMES}[0] === 'Phantom, Disc'")
    row = page.run("document.querySelector('.space .row').innerText")
    for shown in (
        "PHANTOM",
        "Apr 12, 1962",
        "Jan 31, 2024",
        "10:15",
        "CT",
        "Disc and bar",
        "A7781",
        "12 images",
    ):
        assert shown in row, row
    assert page.run("document.querySelector('.total').textContent") == f"{COUNT + 1} studies"
    page.wait_for("document.querySelector('.space .row img')?.naturalWidth > 0")
    page.wait_for("[...document.querySelectorAll('.space .row img')].filter(each => each.complete).length > 10")
    page.screenshot(ARTEFACTS / "page-list.png")
    check_console(page)
    page.close()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("number 017", ["Many, Number 017"]),
        ("M042", ["Many, Number 042"]),
        ("b007", ["Many, Number 007"]),
        ("2020-01-03", ["Many, Number 002"]),
        ("disc bar", ["Phantom, Disc"]),
        ("phantom ct", ["Phantom, Disc"]),
    ],
)
def test_one_box_searches_name_id_accession_date_description_and_modality(
    desk: Desk, text: str, found: list[str]
) -> None:
    page = desk.open()
    page.wait_for(f"{NAMES}.length > 5")
    type_text(page, text)
    page.wait_for(f"JSON.stringify({NAMES}) === {json.dumps(json.dumps(found, separators=(',', ':')))}")
    assert page.run("new URLSearchParams(location.hash.split('?')[1]).get('q')") == text
    page.close()


def test_only_the_last_letters_typed_count(desk: Desk) -> None:
    page = desk.open()
    page.wait_for(f"{NAMES}.length > 5")
    for letter in "number 1":
        type_text(page, letter)
    page.wait_for(f"document.querySelector('.total').textContent === '80 studies' && {NOT_BUSY}")
    asked = [each.url for each in page.seen.exchanges.values() if "/studies?" in each.url and "search=" in each.url]
    assert len(asked) < len("number 1"), asked
    page.close()


def test_a_search_without_result_says_so_and_is_cleared_by_a_button(desk: Desk) -> None:
    page = desk.open()
    type_text(page, "nobodyhasthisname")
    page.wait_for("document.querySelector('.notices')?.innerText.includes('No study matches')")
    page.run(f"{button('Clear search and filters')}.click()")
    page.wait_for(f"document.querySelector('.total')?.textContent === '{COUNT + 1} studies'")
    assert page.run(f"{SEARCH}.value") == ""
    page.close()


def test_headings_sort_and_sort_back(desk: Desk) -> None:
    page = desk.open("/studies?name=many")
    page.wait_for(f"{NAMES}[0] === 'Many, Number {COUNT - 1}'")
    heading = "[...document.querySelectorAll('[role=columnheader] button')].find(each => each.textContent === {})"
    page.run(heading.format("'Patient ID'") + ".click()")
    page.wait_for(f"{NAMES}[0] === 'Many, Number 000'")
    assert page.run("document.querySelector('.head-row [aria-sort]').getAttribute('aria-sort')") == "ascending"
    page.run(heading.format("'Patient ID'") + ".click()")
    page.wait_for(f"{NAMES}[0] === 'Many, Number {COUNT - 1}'")
    assert "sort=-PatientID" in page.run("location.hash")
    page.run(heading.format("'Description'") + ".click()")
    page.wait_for("document.querySelector('.space .row .what').innerText === 'Abdomen'")
    page.close()


def test_filters_by_column_narrow_the_list_and_stay_in_the_address(desk: Desk) -> None:
    page = desk.open()
    page.run(f"{button('Filters')}.click()")
    assert page.run("document.activeElement.id") == "filter-name"
    page.call("Input.insertText", {"text": "many"})
    page.run("document.querySelector('#filter-description').focus()")
    page.call("Input.insertText", {"text": "abd"})
    page.run(f"{button('MR')}.click()")
    page.wait_for("document.querySelector('.total').textContent === '30 studies'")
    page.run("""(input => { input.value = '2020-06-01'; input.dispatchEvent(new Event('input')) })
        (document.querySelector('#filter-from'))""")
    page.wait_for("document.querySelector('.total').textContent === '6 studies'")
    address = page.run("location.hash")
    page.close()
    page = desk.open(address.removeprefix("#"))
    page.wait_for("document.querySelector('.total').textContent === '6 studies'")
    assert page.run("document.querySelector('#filter-from').value") == "2020-06-01"
    assert page.run(f"{button('MR')}.getAttribute('aria-pressed')") == "true"
    assert page.run("document.querySelector('.badge').textContent") == "4"
    page.screenshot(ARTEFACTS / "page-list-filters.png")
    page.close()


def test_all_rows_can_be_scrolled_to_and_only_those_in_sight_are_there(
    desk: Desk,
) -> None:
    page = desk.open("/studies?name=many&sort=PatientID")
    page.wait_for(f"{NAMES}.length > 5")
    page.run("document.querySelector('.grid').scrollTop = 1e9")
    page.wait_for(f"{NAMES}.at(-1) === 'Many, Number {COUNT - 1}'")
    assert page.run("document.querySelectorAll('.space .row').length") < 40
    assert page.run("document.querySelector('.space .row:last-child').getAttribute('aria-rowindex')") == str(COUNT + 1)
    page.wait_for("Number(new URLSearchParams(location.hash.split('?')[1]).get('at')) > 100")
    page.run("document.querySelector('.space .row:last-child .name').click()")
    page.wait_for("document.querySelector('h1')?.textContent.includes('Number 179')")
    page.run("history.back()")
    page.wait_for(f"{NAMES}.at(-1) === 'Many, Number {COUNT - 1}'")
    check_console(page)
    page.close()


def test_the_list_is_worked_by_keys_alone(desk: Desk) -> None:
    page = desk.open("/studies?name=many&sort=PatientID")
    page.wait_for(f"{NAMES}.length > 5")
    press(page, "/")
    assert page.run("document.activeElement.id") == "search"
    press(page, "ArrowDown")
    press(page, "j")
    press(page, "ArrowDown")
    active = "document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))"
    assert page.run(f"{active}.querySelector('.name').textContent") == "Many, Number 002"
    press(page, "k")
    press(page, "x")
    assert page.run("document.querySelector('.selection strong').textContent") == "1 selected"
    press(page, "Escape")
    assert page.run("document.querySelector('.selection').hidden")
    press(page, "End")
    page.wait_for(f"{active}?.querySelector('.name')?.textContent === 'Many, Number {COUNT - 1}'")
    press(page, "Home")
    page.wait_for(f"{active}?.querySelector('.name')?.textContent === 'Many, Number 000'")
    press(page, "Enter")
    page.wait_for("document.querySelector('h1')?.textContent === 'Many, Number 000'")
    check_console(page)
    page.close()


def test_ticking_with_shift_selects_all_between_also_what_was_never_in_sight(
    desk: Desk,
) -> None:
    page = desk.open("/studies?name=many&sort=PatientID")
    page.wait_for(f"{NAMES}.length > 5")
    click(page, "document.querySelector('#study-2 input')")
    page.run("document.querySelector('.grid').scrollTop = 1e9")
    page.wait_for("!!document.querySelector('#study-170 input')")
    click(page, "document.querySelector('#study-170 input')", shift=True)
    page.wait_for("document.querySelector('.selection strong').textContent === '169 selected'")
    assert page.run("document.querySelector('#study-170').getAttribute('aria-selected')") == "true"
    page.screenshot(ARTEFACTS / "page-list-selected.png")
    page.run("document.querySelector('.selection [aria-label=\"Clear the selection\"]').click()")
    assert page.run("document.querySelectorAll('.row.selected').length") == 0
    page.close()


def test_several_studies_get_a_label_and_are_found_by_it(desk: Desk) -> None:
    page = desk.open("/studies?name=many&sort=PatientID")
    page.wait_for(f"{NAMES}.length > 5")
    for row in (0, 1):
        click(page, f"document.querySelector('#study-{row} input')")
    page.run(f"{button('Label')}.click()")
    page.wait_for("document.activeElement.id === 'label'")
    page.call("Input.insertText", {"text": "two words"})
    press(page, "Enter")
    page.wait_for("document.querySelector('dialog .failure')?.textContent.includes('One word')")
    page.run("document.querySelector('#label').value = ''; document.querySelector('#label').focus()")
    page.call("Input.insertText", {"text": "follow-up"})
    press(page, "Enter")
    page.wait_for("document.querySelector('#study-1 .labels')?.innerText === 'follow-up'")
    page.close()
    page = desk.open("/studies?label=follow-up")
    page.wait_for("document.querySelector('.total').textContent === '2 studies'")
    page.wait_for("document.querySelectorAll('.space .row .label').length === 2")
    check_console(page)
    page.close()


def test_new_studies_are_told_of_and_move_nothing_until_asked_for(desk: Desk) -> None:
    page = desk.open("/studies?q=newcomer")
    page.wait_for("!!document.querySelector('.notice')")
    time.sleep(1)  # the stream is open
    file = builders.ct(rows=16, columns=16, PatientName="Newcomer^Nell", PatientID="NEW")
    assert stow(desk.server, [file]).status_code == 200
    page.wait_for("document.querySelector('.news').textContent === '1 study came in · show'")
    assert page.run(f"{NAMES}.length") == 0
    page.run("document.querySelector('.news').click()")
    page.wait_for(f"{NAMES}[0] === 'Newcomer, Nell'")
    assert page.run("document.querySelector('.news').hidden")
    page.close()
    study = pydicom.dcmread(BytesIO(file)).StudyInstanceUID
    assert requests.delete(f"{desk.server.dicomweb_url}/studies/{study}", timeout=60).status_code == 204


def test_names_are_never_read_as_markup(desk: Desk) -> None:
    file = builders.ct(
        rows=16,
        columns=16,
        PatientName="<b>Bold</b><script>",
        PatientID="<b>",
        StudyDescription="<i>x",
    )
    study = pydicom.dcmread(BytesIO(file)).StudyInstanceUID
    assert stow(desk.server, [file]).status_code == 200
    page = desk.open("/studies?id=%3Cb%3E")
    page.wait_for(f"{NAMES}[0] === '<b>Bold</b><script>'")
    assert page.run("document.querySelectorAll('.space b, .space i, .space script').length") == 0
    page.close()
    assert requests.delete(f"{desk.server.dicomweb_url}/studies/{study}", timeout=60).status_code == 204


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ["Patient ID", "Description", "Filters"]),
        ("zh-Hant", ["病歷號", "檢查描述", "篩選"]),
    ],
)
def test_the_list_speaks_both_languages(desk: Desk, language: str, words: list[str]) -> None:
    page = desk.open(language=language, theme="dark")
    page.wait_for(f"{NAMES}.length > 5")
    text = page.run("document.body.innerText")
    assert [word for word in words if word not in text] == []
    assert not re.search(r"\b(studies|study|core)\.[a-z]", text)
    page.screenshot(ARTEFACTS / f"page-list-{language}-dark.png")
    page.close()


def test_a_list_that_notes_its_place_does_not_hold_back_who_leaves_it(desk: Desk) -> None:
    page = desk.open("/studies?q=many")
    page.wait_for(f"{NAMES}.length > 5")
    # The browser tells of the new address only after this: until then the list is still there, and its timers run.
    page.run(
        f"(async () => {{ const {{ note }} = await import('./ui/core/router.js');"
        f" location.hash = '#{desk.study}'; note({{ q: 'many', at: 7 }}); }})()"
    )
    page.wait_for("document.querySelector('h1')?.textContent === 'Phantom, Disc'", 10)
    assert page.run("location.hash") == f"#{desk.study}"
    page.close()


def test_colours_follow_the_system_until_one_is_chosen(desk: Desk) -> None:
    page = desk.open(theme="auto")

    def prefer(scheme: str) -> None:
        page.call("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def ground() -> str:
        return str(page.run("getComputedStyle(document.body).backgroundColor"))

    prefer("light")
    page.wait_for("document.documentElement.dataset.theme === 'light'")
    light = ground()
    prefer("dark")
    page.wait_for("document.documentElement.dataset.theme === 'dark'")
    dark = ground()
    assert dark != light
    select = "document.querySelector('select[aria-label=Colours]')"
    page.run(f"{select}.value = 'light'; {select}.dispatchEvent(new Event('change'))")
    assert ground() == light
    page.run(f"{select}.value = 'dark'; {select}.dispatchEvent(new Event('change'))")
    prefer("light")
    page.wait_for("matchMedia('(prefers-color-scheme: light)').matches")
    assert ground() == dark
    page.close()


def test_on_a_phone_studies_are_cards_that_fit(desk: Desk) -> None:
    page = desk.open("/studies", **PHONE)
    page.wait_for(f"{NAMES}.length > 3")
    assert page.run("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.run("document.querySelector('.space .row').offsetHeight") > 90
    assert page.run(
        "[...document.querySelectorAll('.space .row > *')].every(each => each.getBoundingClientRect().right <= 391)"
    )
    page.wait_for("document.querySelector('.space .row img')?.naturalWidth > 0")
    page.screenshot(ARTEFACTS / "page-list-phone.png")
    for route in (desk.study, desk.series, desk.instance, "/patients/PHANTOM"):
        other = desk.open(route, **PHONE)
        other.wait_for("!!document.querySelector('h1')")
        assert other.run("document.documentElement.scrollWidth") <= PHONE["width"], route
        other.screenshot(ARTEFACTS / f"page-phone-{route.count('/')}-{route.split('/')[1]}.png")
        other.close()
    page.close()


def test_an_empty_archive_says_how_to_send_the_first_image(desk: Desk, tmp_path: Path) -> None:
    with Server(tmp_path / "empty") as server:
        page = desk.browser.open(server.http_url, before="localStorage.setItem('pacs.language', 'en')")
        page.wait_for("!!document.querySelector('.notice h2')")
        text = page.run("document.querySelector('.notice').innerText")
        for shown in (
            "No studies yet",
            server.ae_title,
            str(server.dimse_port),
            "Upload files",
        ):
            assert shown in text, text
        page.screenshot(ARTEFACTS / "page-list-empty.png")
        server.stop()
        type_text(page, "x")
        page.wait_for("document.querySelector('.notice')?.innerText.includes('The server does not answer')")
        server.start()
        page.run(f"{button('Try again')}.click()")
        page.wait_for("document.querySelector('.notice')?.innerText.includes('No study matches')")
        page.close()


# --- a study and what is in it ---


def test_a_study_is_opened_from_the_list_and_leads_to_its_series_and_instances(
    desk: Desk,
) -> None:
    page = desk.open("/studies?q=phantom")
    page.wait_for(f"{NAMES}[0] === 'Phantom, Disc'")
    click(page, "document.querySelector('.space .row .what')")
    page.wait_for("document.querySelector('h1')?.textContent === 'Phantom, Disc'")
    text = page.run("document.querySelector('.study-head').innerText")
    for shown in (
        "PHANTOM",
        "Apr 12, 1962 (61 y)",
        "Female",
        "Disc and bar",
        "A7781",
        "1 series, 12 images",
    ):
        assert shown in text, text
    page.wait_for("document.querySelector('.cards img')?.naturalWidth > 0")
    page.screenshot(ARTEFACTS / "page-study.png")
    assert page.run(f"{button('Quick viewer')}.getAttribute('href')") == f"#/view/{desk.ct.StudyInstanceUID}"
    page.run(f"{button('Axial')}.click()")
    page.wait_for("document.querySelectorAll('.space .instance').length > 4")
    assert page.run("document.querySelector('.space .instance').innerText").split("\n")[:2] == ["#1", "CT Image"]
    page.wait_for("document.querySelector('.instances img')?.naturalWidth > 0")
    page.screenshot(ARTEFACTS / "page-series.png")
    page.run(f"{button('#3')}.click()")
    page.wait_for("document.querySelector('.way')?.innerText.includes('Instance 3')")
    page.wait_for("document.querySelector('.preview img')?.naturalWidth > 0")
    page.screenshot(ARTEFACTS / "page-instance.png")
    check_console(page)
    page.close()


def test_labels_are_put_on_and_taken_off_a_study(desk: Desk) -> None:
    page = desk.open(desk.study)
    page.wait_for(f"!!{button('Add label')}")
    page.run(f"{button('Add label')}.click()")
    page.wait_for("document.activeElement.id === 'label'")
    page.call("Input.insertText", {"text": "教學"})
    press(page, "Enter")
    page.wait_for("document.querySelector('ul.labels').innerText.includes('教學')")
    labels = f"{desk.server.dicomweb_url}{desk.study}/labels"
    assert requests.get(labels, timeout=60).json() == ["教學"]
    page.run("document.querySelector('[aria-label=\"Remove label 教學\"]').click()")
    page.wait_for("!document.querySelector('ul.labels').innerText.includes('教學')")
    assert requests.get(labels, timeout=60).json() == []
    check_console(page)
    page.close()


TAGS_SHOWN = (
    "[...document.querySelectorAll('.tag-grid .space > .tag')].map(each => each.innerText.split('\\n').join(' '))"
)


def test_all_attributes_are_listed_with_names_and_searched(desk: Desk) -> None:
    page = desk.open(desk.instance)
    page.wait_for(f"{TAGS_SHOWN}.length > 10")
    assert page.run(f"{TAGS_SHOWN}.find(each => each.startsWith('(0008,0016)'))") == (
        "(0008,0016) SOP Class UID UI 1.2.840.10008.5.1.4.1.1.2 (CT Image Storage)"
    )
    box = "document.querySelector('#tag-search')"
    page.run(f"{box}.focus()")
    for asked, found in (
        (
            "step7",
            [
                "(0040,0275) Request Attributes Sequence SQ 1 item",
                "Item 1",
                "(0040,0009) Scheduled Procedure Step ID SH STEP7",
            ],
        ),
        ("0099,10", ["(0099,1001) Unknown LO a secret of ACME"]),
        ("pixelspacing", ["(0028,0030) Pixel Spacing DS 1 \\ 1"]),
        ("nothing has this", []),
    ):
        page.run(f"{box}.select()")
        page.call("Input.insertText", {"text": asked})
        wanted = json.dumps(json.dumps(found, separators=(",", ":")))
        page.wait_for(f"JSON.stringify({TAGS_SHOWN}) === {wanted}")
    page.screenshot(ARTEFACTS / "page-tags.png")
    page.run(f"{box}.select()")
    page.call("Input.insertText", {"text": "pixel data"})
    page.wait_for(f"{TAGS_SHOWN}[0]?.includes('Bulk data, 33 kB')")
    got = requests.get(
        page.run("document.querySelector('.tag-grid .space a').href"),
        headers={"Accept": "*/*"},
        timeout=60,
    )
    assert got.status_code == 200
    check_console(page)
    page.close()


def test_the_attributes_are_walked_closed_and_copied_by_keys(desk: Desk) -> None:
    page = desk.open(desk.instance)
    page.wait_for(f"{TAGS_SHOWN}.length > 10")
    page.run("navigator.clipboard.writeText = async text => { window.copied = text }")
    page.run("document.querySelector('.tag-grid').focus()")
    press(page, "End")
    page.wait_for(f"{TAGS_SHOWN}.at(-1).startsWith('(7FE0,0010)')")
    press(page, "Home")
    press(page, "ArrowDown")
    press(page, "c")
    page.wait_for("window.copied === '1.2.840.10008.5.1.4.1.1.2'")
    sequence = "document.querySelector('.tag-grid [aria-expanded][aria-level=\"1\"]')"
    page.run("document.querySelector('.tag-grid').scrollTop = 1e6")
    page.wait_for(f"!!{sequence}")
    before = page.run("document.querySelector('.tag-grid').getAttribute('aria-rowcount')")
    click(page, f"{sequence}.querySelector('.name')")
    page.run("document.querySelector('.tag-grid').focus()")
    press(page, "ArrowLeft")
    assert page.run("Number(document.querySelector('.tag-grid').getAttribute('aria-rowcount'))") == int(before) - 3
    press(page, "Enter")
    page.wait_for("document.querySelector('dialog pre')?.textContent.includes('STEP7')")
    check_console(page)
    page.close()


def test_other_studies_of_the_patient_are_led_to(desk: Desk) -> None:
    both = [
        builders.ct(
            rows=16,
            columns=16,
            PatientID="TWICE",
            PatientName="Twice^Tom",
            StudyDescription=word,
        )
        for word in ("Knee", "Hip")
    ]
    assert stow(desk.server, both).status_code == 200
    study = pydicom.dcmread(BytesIO(both[0])).StudyInstanceUID
    page = desk.open(f"/studies/{study}")
    page.wait_for(f"!!{button('1 other study of this patient')}")
    page.run(f"{button('1 other study of this patient')}.click()")
    page.wait_for("document.querySelectorAll('.cards .name').length === 2")
    assert set(page.run("[...document.querySelectorAll('.cards .name')].map(each => each.textContent)")) == {
        "Knee",
        "Hip",
    }
    assert page.run("location.hash") == "#/patients/TWICE"
    check_console(page)
    page.close()
    for file in both:
        uid = pydicom.dcmread(BytesIO(file)).StudyInstanceUID
        assert requests.delete(f"{desk.server.dicomweb_url}/studies/{uid}", timeout=60).status_code == 204


def test_a_study_is_downloaded_as_zip(desk: Desk, tmp_path: Path) -> None:
    page = desk.open(desk.study)
    page.wait_for(f"!!{button('Download ZIP')}")
    page.call(
        "Browser.setDownloadBehavior",
        {"behavior": "allow", "downloadPath": str(tmp_path)},
    )
    page.run(f"{button('Download ZIP')}.click()")
    deadline = time.monotonic() + 60
    while not (found := list(tmp_path.glob("*.zip"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [path.name for path in found] == [f"{desk.ct.StudyInstanceUID}.zip"]
    assert found[0].read_bytes()[:2] == b"PK"
    page.close()


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("/studies/1.2.3", "The archive does not have this"),
        ("/studies/1.2.3/series/1.2.4", "The archive does not have this"),
        (
            "/studies/1.2.3/series/1.2.4/instances/1.2.5",
            "The archive does not have this",
        ),
        ("/patients/nobody", "The archive does not have this"),
    ],
)
def test_what_is_not_there_is_told_in_words(desk: Desk, route: str, words: str) -> None:
    page = desk.open(route)
    page.wait_for(f"document.querySelector('[role=alert] h1')?.textContent === {json.dumps(words)}")
    page.run(f"{button('To the study list')}.click()")
    page.wait_for(f"{NAMES}.length > 5")
    page.close()


def test_an_archive_that_may_not_be_asked_is_told_of_in_words(desk: Desk) -> None:
    page = desk.open()
    page.wait_for(f"{NAMES}.length > 5")
    refused = (
        "new Response('{\"detail\": \"no\"}', {status: 403, headers: {'Content-Type': 'application/problem+json'}})"
    )
    page.run(f"window.fetch = async () => {refused}")
    type_text(page, "x")
    page.wait_for("document.querySelector('.notice')?.innerText.includes('You may not search in this archive')")
    page.close()


# --- deleting ---


def test_a_study_deleted_by_another_is_told_of_when_it_is_opened(desk: Desk) -> None:
    study = stored(desk, PatientName="Gone^Gus")
    assert requests.delete(f"{desk.server.dicomweb_url}/studies/{study}", timeout=60).status_code == 204
    page = desk.open(f"/studies/{study}")
    page.wait_for("document.querySelector('[role=alert] h1')?.textContent === 'This has been deleted'")
    page.screenshot(ARTEFACTS / "page-study-deleted.png")
    page.close()


def test_deleting_from_the_list_asks_first_and_leaves_the_others(desk: Desk) -> None:
    for number in (1, 2, 3):
        stored(desk, PatientName=f"Del^Number {number}", PatientID=f"DEL{number}")
    page = desk.open("/studies?id=DEL&sort=PatientID")
    page.wait_for(f"{NAMES}.length === 3")
    for row in (0, 1):
        click(page, f"document.querySelector('#study-{row} input')")
    page.run(f"{button('Delete')}.click()")
    page.wait_for("document.querySelector('dialog h2')?.textContent === 'Delete 2 studies?'")
    page.run(f"{button('Delete', 'document.querySelector(`dialog`)')}.click()")
    page.wait_for(f"JSON.stringify({NAMES}) === '[\"Del, Number 3\"]'")
    assert page.run("document.querySelector('.selection').hidden")
    assert page.run("document.querySelector('.toast span').textContent") == "Deleted: 2 studies"
    check_console(page)
    page.close()


def test_what_was_deleted_comes_back_by_undo_and_by_restore(desk: Desk) -> None:
    study = stored(desk, PatientName="Undo^Uma", PatientID="UNDO")
    page = desk.open("/studies?id=UNDO")
    page.wait_for(f"{NAMES}[0] === 'Undo, Uma'")
    click(page, "document.querySelector('#study-0 input')")
    page.run(f"{button('Delete')}.click()")
    page.wait_for("document.querySelector('.toast span')?.textContent === 'Deleted: Undo, Uma'")
    page.wait_for("document.querySelector('.notices')?.innerText.includes('No study matches')")
    page.run(f"{button('Undo')}.click()")
    page.wait_for(f"{NAMES}[0] === 'Undo, Uma'")
    page.close()
    page = desk.open(f"/studies/{study}")
    page.run(f"{button('Delete')}.click()")
    page.wait_for("document.querySelector('[role=alert] h1')?.textContent === 'This has been deleted'")
    page.screenshot(ARTEFACTS / "page-study-undo.png")
    page.run(f"{button('Restore')}.click()")
    page.wait_for("document.querySelector('h1')?.textContent === 'Undo, Uma'")
    page.close()


def test_an_instance_is_deleted_from_its_page_and_comes_back(desk: Desk) -> None:
    page = desk.open(desk.instance)
    page.wait_for(f"!!{button('Delete')}")
    page.run(f"{button('Delete')}.click()")
    page.wait_for("document.querySelector('h2.part')?.innerText === 'Instances 11'")
    page.run(f"{button('Undo')}.click()")
    page.wait_for("document.querySelector('h2.part')?.innerText === 'Instances 12'")
    page.close()


def stored(desk: Desk, **attributes: object) -> str:
    """UID of a new study of one slice."""
    file = builders.ct(rows=16, columns=16, **attributes)
    assert stow(desk.server, [file]).status_code == 200
    return str(pydicom.dcmread(BytesIO(file)).StudyInstanceUID)
