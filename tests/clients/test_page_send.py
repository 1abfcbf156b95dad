"""Sending from the web page, in a real browser, to DCMTK's storescp."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import builders
from tests.clients.browser import Browser, Page
from tests.clients.needs import needs
from tests.server import Server, free_port
from tests.wire import clients
from tests.wire.receivers import eventually

pytestmark = needs("chromium", "dcmtk")

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
STUDY, MIXED = "1.2.60.1", "1.2.60.2"
DIALOG = "document.querySelector('dialog .send-dialog')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clients.StoreScp]:
    contexts = {CT: [EXPLICIT], VERIFICATION: [IMPLICIT]}
    with clients.StoreScp(tmp_path_factory.mktemp("far"), contexts, "READING") as scp:
        yield scp


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory, far: clients.StoreScp) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("pacs"))
    server.add_peer("READING", far.port)
    server.add_peer("RESEARCH", free_port())
    with server:
        files = [builders.ct(STUDY, f"{STUDY}.1", f"{STUDY}.1.{number}") for number in range(60)]
        mixed = [
            builders.ct(MIXED, f"{MIXED}.1", f"{MIXED}.1.1"),
            builders.ct(MIXED, f"{MIXED}.1", f"{MIXED}.1.2", SOPClassUID=MR),
        ]
        assert clients.stow(server, [*files, *mixed]).status_code == 200
        yield server


def opened(browser: Browser, server: Server, language: str = "en", theme: str = "light", width: int = 1200) -> Page:
    before = f"localStorage.setItem('pacs.language', '{language}'); localStorage.setItem('pacs.theme', '{theme}')"
    page = browser.open(f"{server.http_url}/#/sends", before=before, width=width, height=800)
    page.wait_for("document.querySelector('.view.sends h1') !== null")
    return page


def ask_to_send(page: Page, study: str) -> None:
    page.run(f"import('./ui/core/send.js').then(({{sendDialog}}) => {{ sendDialog([{{study: '{study}'}}]); }})")
    page.wait_for(f"{DIALOG}?.querySelectorAll('.peer').length === 2")


def choose(page: Page, peer: str) -> None:
    page.run(f"document.querySelector('.send-dialog input[value={peer}]').click()")
    page.run(f"{DIALOG}.querySelector('.actions .primary').click()")


def press(page: Page, words: str, within: str = "dialog") -> None:
    found = f"[...document.querySelectorAll('{within} button')].find((b) => b.innerText.trim() === '{words}')"
    page.wait_for(f"{found} !== undefined")
    page.run(f"{found}.click()")


def no_errors(page: Page) -> None:
    assert [line for line in page.seen.console if line.startswith(("exception", "error"))] == []


def test_a_study_is_sent_to_a_peer_that_answers(
    browser: Browser, pacs: Server, far: clients.StoreScp, tmp_path: Path
) -> None:
    page = opened(browser, pacs)
    ask_to_send(page, STUDY)
    assert page.run(f"{DIALOG}.querySelector('legend').innerText") == "Send 1 study to"
    states = f"[...{DIALOG}.querySelectorAll('.peer .chip')].map((chip) => chip.className).join()"
    page.wait_for(f"{states} === 'chip good,chip bad'")
    page.screenshot(tmp_path / "send-choose.png")
    choose(page, "READING")
    page.wait_for(f"{DIALOG}.innerText.includes('60 of 60 sent')")
    page.wait_for(f"{DIALOG}.querySelector('.chip.good') !== null")
    page.screenshot(tmp_path / "send-done.png")
    assert {f"{STUDY}.1.{number}" for number in range(60)} <= set(far.received())
    press(page, "Close")
    page.wait_for("document.querySelector('.sends tbody tr .chip.good')?.innerText === 'Sent'")
    no_errors(page)
    page.close()


def test_what_the_peer_refuses_is_named_and_can_be_tried_again(browser: Browser, pacs: Server, tmp_path: Path) -> None:
    page = opened(browser, pacs, language="zh-Hant", theme="dark")
    ask_to_send(page, MIXED)
    choose(page, "READING")
    page.wait_for(f"{DIALOG}.querySelector('.refused li') !== null")
    assert f"{MIXED}.1.2" in page.run(f"{DIALOG}.querySelector('.refused').innerText")
    assert "accepts no transfer syntax" in page.run(f"{DIALOG}.querySelector('.refused').innerText")
    page.screenshot(tmp_path / "send-refused-dark.png")
    before = len([each for each in page.seen.exchanges.values() if each.url.endswith("/retry")])
    press(page, "重試")
    eventually(lambda: _retries(page) == before + 1, "it is tried again")
    page.wait_for(f"{DIALOG}.querySelector('.chip.bad')?.innerText === '部分遭拒絕'")
    page.close()


def test_closing_the_dialog_leaves_a_message_and_the_send_waits_for_its_peer(
    browser: Browser, pacs: Server, tmp_path: Path
) -> None:
    page = opened(browser, pacs, width=390)
    ask_to_send(page, STUDY)
    choose(page, "RESEARCH")
    page.wait_for(f"{DIALOG}.innerText.includes('Waiting for the peer')")
    assert "cannot be reached" in page.run(f"{DIALOG}.innerText")
    page.screenshot(tmp_path / "send-away-phone.png")
    press(page, "Close")
    page.wait_for("document.getElementById('toasts').innerText.includes('RESEARCH does not answer')")
    page.wait_for("document.querySelector('.sends tbody tr')?.innerText.includes('Waiting for the peer')")
    page.screenshot(tmp_path / "sends-phone.png")
    assert page.run("document.getElementById('main').scrollWidth") <= 390
    press(page, "Cancel sending", ".sends")
    page.wait_for("document.querySelector('.sends tbody tr')?.innerText.includes('Cancelled')")
    page.wait_for("document.getElementById('toasts').innerText.includes('was cancelled')")
    page.screenshot(tmp_path / "sends-cancelled.png")
    no_errors(page)
    page.close()


def test_the_list_of_sends_has_all_of_them(browser: Browser, pacs: Server, tmp_path: Path) -> None:
    page = opened(browser, pacs)
    page.wait_for("document.querySelectorAll('.sends tbody tr').length >= 3")
    page.screenshot(tmp_path / "sends.png")
    press(page, "Details", ".sends tbody tr:nth-child(2)")
    page.wait_for(f"{DIALOG}?.querySelector('.refused') !== null")
    assert "id=" in page.run("location.hash")
    page.close()


def _retries(page: Page) -> int:
    return len([each for each in page.seen.exchanges.values() if each.url.endswith("/retry")])
