"""The worklist on the web page, in a real browser: orders are made, changed and removed, and followed by MPPS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients.browser import Browser, Page
from tests.clients.needs import needs
from tests.server import Server
from tests.ups_builders import as_json, step
from tests.wire.receivers import eventually
from tests.wire.test_mpps import associated, begun
from tests.worklists import order, step_status

pytestmark = needs("chromium")

TODAY = f"{date.today():%Y%m%d}"
TOMORROW = f"{date.today() + timedelta(days=1):%Y%m%d}"
ROWS = "[...document.querySelectorAll('.worklist .list tbody tr')].map((row) => row.innerText)"
DIALOG = "document.querySelector('dialog[open]')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "pacs") as running:
        yield running


def put(server: Server, name: str, patient: str, **step_values: str) -> str:
    """Study Instance UID of a new order."""
    tags = {"modality": ("00080060", "CS"), "station": ("00400001", "AE"), "day": ("00400002", "DA")}
    tags |= {"time": ("00400003", "TM"), "text": ("00400007", "LO"), "id": ("00400009", "SH")}
    values = {"day": TODAY, **step_values}
    made = order(
        **{
            "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]},
            "00100020": {"vr": "LO", "Value": [patient]},
            "step": {tags[key][0]: {"vr": tags[key][1], "Value": [value]} for key, value in values.items()},
        }
    )
    headers = {"Content-Type": "application/dicom+json"}
    answer = requests.post(f"{server.dicomweb_url}/mwlitems", data=json.dumps(made), headers=headers, timeout=60)
    assert answer.status_code == 201, answer.text
    return str(made["0020000D"]["Value"][0])


def opened(
    browser: Browser,
    server: Server,
    at: str = "/worklist",
    language: str = "en",
    theme: str = "light",
    width: int = 1300,
) -> Page:
    before = f"localStorage.setItem('pacs.language', '{language}'); localStorage.setItem('pacs.theme', '{theme}')"
    page = browser.open(f"{server.http_url}/#{at}", before=before, width=width, height=800)
    page.wait_for("document.querySelector('.view.worklist .tabs') !== null")
    return page


def press(page: Page, words: str, within: str) -> None:
    found = f"[...document.querySelectorAll('{within} button')].find((b) => b.innerText.trim() === '{words}')"
    page.wait_for(f"{found} !== undefined")
    page.run(f"{found}.click()")


def fill(page: Page, **values: str) -> None:
    for name, value in values.items():
        page.run(f"document.getElementById('order-{name}').value = {json.dumps(value)}")


def item_of(server: Server, patient: str) -> dict[str, Any]:
    found = requests.get(f"{server.dicomweb_url}/mwlitems", params={"PatientID": patient}, timeout=60)
    (item,) = found.json()
    return dict(item)


def no_errors(page: Page) -> None:
    assert [line for line in page.seen.console if line.startswith("exception")] == []


def test_the_orders_of_a_day_are_listed_filtered_and_linked_to(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    put(server, "Doe^Jane", "P1", modality="MR", station="MR1", time="0930", text="Knee, left", id="S1")
    put(server, "Wang^XiaoDong", "P2", modality="CT", station="CT1", time="0815", text="CT Thorax", id="S2")
    put(server, "Later^Somebody", "P3", day=TOMORROW, id="S3")
    page = opened(browser, server)
    page.wait_for(f"{ROWS}.length === 2")
    first, second = page.run(ROWS)
    assert "08:15" in first
    assert "Wang, XiaoDong" in first
    assert "Knee, left" in second
    page.screenshot(tmp_path / "worklist.png")
    type_into = (
        "(() => {{ const input = document.querySelectorAll('.filters input')[{0}]; input.value = '{1}'; {2} }})()"
    )
    told = "input.dispatchEvent(new Event('input'));"
    page.run(type_into.format(2, "mr", told))
    page.wait_for(f"{ROWS}.length === 1 && {ROWS}[0].includes('Doe, Jane')")
    assert "modality=mr" in page.run("location.hash")
    page.run(type_into.format(2, "", told))
    page.run(type_into.format(1, "wang", told))
    page.wait_for(f"{ROWS}.length === 1 && {ROWS}[0].includes('Wang, XiaoDong')")
    page.run(type_into.format(1, "", told))
    page.run("document.querySelector('.days button[aria-label=\"Day after\"]').click()")
    page.wait_for(f"{ROWS}.length === 1 && {ROWS}[0].includes('Later, Somebody')")
    page.call("Page.reload")
    page.wait_for(f"{ROWS}.length === 1 && {ROWS}[0].includes('Later, Somebody')")
    no_errors(page)
    page.close()


def test_an_order_is_made_with_what_is_missing_said_then_edited_then_deleted(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    page = opened(browser, server)
    press(page, "New order", ".worklist .head")
    page.wait_for(f"{DIALOG} !== null")
    fill(
        page, family="Chen", given="Mei-Ling", ideographic="陳美玲", birth="1980-05-04", sex="F", procedure="CT Abdomen"
    )
    fill(page, station="CT1", time="10:15", modality="ct")
    press(page, "Save", "dialog")
    page.wait_for(f"{DIALOG}.querySelector('.failure').innerText === 'Needed: Patient ID'")
    assert page.run("document.activeElement.id") == "order-id"
    fill(page, id="P77", station="A\\\\B")
    press(page, "Save", "dialog")
    page.wait_for(f"{DIALOG}.querySelector('.failure').innerText.startsWith('AE title of the station:')")
    page.screenshot(tmp_path / "order-wrong.png")
    fill(page, station="CT1")
    press(page, "Save", "dialog")
    page.wait_for(f"{ROWS}.length === 1 && {ROWS}[0].includes('Chen, Mei-Ling (陳美玲)')")
    made = item_of(server, "P77")
    assert made["00100010"]["Value"] == [{"Alphabetic": "Chen^Mei-Ling", "Ideographic": "陳美玲"}]

    press(page, "Edit", ".worklist .list")
    page.wait_for(f"{DIALOG} !== null")
    assert page.run("document.getElementById('order-birth').value") == "1980-05-04"
    fill(page, procedure="CT Abdomen, contrast", priority="STAT")
    press(page, "Save", "dialog")
    page.wait_for(f"{ROWS}[0]?.includes('CT Abdomen, contrast')")
    edited = item_of(server, "P77")
    assert (edited["0020000D"], edited["00080050"]) == (made["0020000D"], made["00080050"])

    press(page, "Delete", ".worklist .list")
    press(page, "Delete", "dialog")
    page.wait_for("document.body.innerText.includes('Nothing is scheduled')")
    assert requests.get(f"{server.dicomweb_url}/mwlitems", timeout=60).status_code == 204
    no_errors(page)
    page.close()


def test_the_state_is_set_and_follows_what_the_modality_says(browser: Browser, server: Server, tmp_path: Path) -> None:
    study = put(server, "Doe^Jane", "P1", modality="CT", station="CT1", time="0930", text="CT Thorax", id="S1")
    page = opened(browser, server, at="/worklist?state=%3F*", language="zh-Hant", theme="dark", width=390)
    page.wait_for(f"{ROWS}.length === 1")
    page.run(
        "(() => { const state = document.querySelector('.list select'); state.value = 'ARRIVED';"
        " state.dispatchEvent(new Event('change')); })()"
    )
    page.wait_for("document.querySelector('.list select option:checked').innerText === '已報到'")
    eventually(lambda: step_status(item_of(server, "P1")) == "ARRIVED", "the state is set")
    with associated(server) as modality:
        started = begun(study, "S1", PerformedProcedureStepStartDate=TODAY, PerformedProcedureStepStartTime="0941")
        assert modality.create("1.2.3.77", started).Status == 0
    page.call("Page.reload")
    page.wait_for("document.querySelector('.performed')?.innerText === '09:41 開始檢查，進行中'")
    assert page.run("document.querySelector('.list select').value") == "STARTED"
    page.screenshot(tmp_path / "worklist-dark-phone.png")
    assert page.run("document.getElementById('main').scrollWidth") <= 390
    no_errors(page)
    page.close()


def test_workitems_are_listed_with_their_states(browser: Browser, server: Server, tmp_path: Path) -> None:
    made = requests.post(
        f"{server.dicomweb_url}/workitems?1.2.3.4",
        data=json.dumps(as_json(step(ProcedureStepState="SCHEDULED"))),
        headers={"Content-Type": "application/dicom+json"},
        timeout=30,
    )
    assert made.status_code == 201, made.text
    page = opened(browser, server, at="/worklist?tab=ups")
    page.wait_for(f"{ROWS}.length === 1")
    assert "Segment the liver" in page.run(ROWS)[0]
    assert page.run("document.querySelector('.list .chip').innerText") == "Scheduled"
    page.screenshot(tmp_path / "workitems.png")
    no_errors(page)
    page.close()
