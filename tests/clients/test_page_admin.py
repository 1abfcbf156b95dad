"""The operator's views in a real browser: jobs, peers, system, deleted studies and help, and an error in each."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients.browser import Browser, Page
from tests.clients.needs import needs
from tests.clients.operated import operated, store
from tests.server import Server

pytestmark = needs("chromium")

SHOTS = Path(os.environ.get("PAGE_SHOTS", ""))
VIEWS = ("/jobs", "/peers", "/system", "/system?tab=log", "/system?tab=settings", "/trash", "/help")
SECRET = "never-shown"  # noqa: S105


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with operated(tmp_path_factory.mktemp("operated"), SERVER_SESSION_SECRET_KEY=SECRET) as running:
        store(running)
        yield running


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("closed"), {"ADMIN_API": "false"}) as running:
        yield running


def opened(
    browser: Browser, server: Server, at: str, language: str = "en", theme: str = "light", width: int = 1400
) -> Page:
    before = f"localStorage.setItem('pacs.language', '{language}'); localStorage.setItem('pacs.theme', '{theme}')"
    page = browser.open(f"{server.http_url}/#{at}", before=before, width=width, height=900 if width > 600 else 844)
    page.wait_for("document.querySelector('#main h1') && !document.querySelector('#main').hasAttribute('aria-busy')")
    return page


def text(page: Page, selector: str = "#main") -> str:
    return str(page.run(f"document.querySelector({json.dumps(selector)}).innerText"))


def words(page: Page) -> str:
    """The page's own: what the log and the settings say is not its."""
    return str(
        page.run(
            """(() => { const copy = document.querySelector('#main').cloneNode(true);
            copy.querySelectorAll('.log, .setting').forEach((each) => each.remove()); return copy.innerText; })()"""
        )
    )


def press(page: Page, name: str, within: str = "body") -> None:
    """The button, link or box of this name; by keyboard as much as by mouse it is this that happens."""
    found = f"""[...document.querySelector({json.dumps(within)}).querySelectorAll('button, a, summary, label')]
        .find((each) => (each.getAttribute('aria-label') || each.innerText.trim()) === {json.dumps(name)})"""
    page.wait_for(f"Boolean({found})", 15)
    page.run(f"{found}.click()")


def choose(page: Page, selector: str, value: str) -> None:
    page.run(
        f"""(() => {{ const each = document.querySelector({json.dumps(selector)}); each.value = {json.dumps(value)};
        each.dispatchEvent(new Event(each.tagName === 'SELECT' ? 'change' : 'input', {{bubbles: true}})); }})()"""
    )


def complaints(page: Page) -> list[str]:
    """What the browser complains of: exceptions, refused scripts and styles, missing files."""
    return [line for line in page.seen.console if line.startswith(("exception", "error"))]


@pytest.mark.parametrize("language", ["en", "zh-Hant"])
@pytest.mark.parametrize("width", [1400, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("view", VIEWS, ids=[re.sub(r"\W+", "-", view).strip("-") for view in VIEWS])
def test_a_view_is_whole_in_both_languages_and_on_a_phone(
    browser: Browser, server: Server, view: str, width: int, language: str
) -> None:
    theme = "dark" if (language == "en") == (width == 390) else "light"
    page = opened(browser, server, view, language, theme, width)
    name = re.sub(r"\W+", "-", view).strip("-")
    assert complaints(page) == []
    # A key that has no text is shown as the key.
    assert not re.search(r"\b(jobs|peers|system|trash|help|notice|plot|core)\.[a-z]", words(page))
    assert page.run("document.documentElement.scrollWidth") <= width
    has_chinese = re.search(r"[\u4e00-\u9fff]", text(page, "#main h1")) is not None
    assert has_chinese is (language == "zh-Hant")
    unnamed = page.run(
        """[...document.querySelectorAll('#main input, #main select, #main button, #main a')].filter((each) =>
        !(each.getAttribute('aria-label') || each.labels?.[0]?.innerText || each.innerText || '').trim()).length"""
    )
    assert unnamed == 0
    if SHOTS.name:
        page.screenshot(SHOTS / f"{name}-{language}-{width}-{theme}.png")
    page.close()


def test_jobs_that_were_given_up_come_first_and_are_retried_and_discarded(browser: Browser, server: Server) -> None:
    page = opened(browser, server, "/jobs")
    page.wait_for("document.querySelectorAll('#main td.check').length === 50")
    tiles = text(page, "#main .tiles")
    assert re.search(r"Given up\s+60", tiles)
    assert page.run("document.querySelector('#main td .chip').innerText") == "Given up"
    assert "the peer refuses the SOP class" in text(page)
    press(page, "Show more", "#main")
    page.wait_for("document.querySelectorAll('#main td.check').length > 60")
    assert "waiting" in text(page).lower()

    choose(page, "#jobs-kind", "webhook")
    page.wait_for("document.querySelectorAll('#main td.check').length === 3")
    page.run("[...document.querySelectorAll('#main td.check input')].slice(0, 2).forEach((each) => each.click())")
    press(page, "Discard", "#main .bar")
    page.wait_for("document.querySelector('dialog[open]')?.innerText.includes('These 2 jobs will never be done')")
    press(page, "Cancel", "dialog")
    page.wait_for("!document.querySelector('dialog')")
    press(page, "Discard", "#main .bar")
    page.wait_for("document.querySelector('dialog[open]') !== null")
    press(page, "Discard", "dialog")
    page.wait_for("document.getElementById('toasts').innerText.includes('2 jobs are discarded')")
    page.wait_for("document.querySelectorAll('#main td.check').length === 1")
    left = requests.get(f"{server.dicomweb_url}/jobs", params={"kind": "webhook"}, timeout=60).json()["jobs"]
    assert len(left) == 1
    assert page.run("location.hash") == "#/jobs?kind=webhook"

    choose(page, "#jobs-kind", "send")
    choose(page, "#jobs-state", "dead")
    page.wait_for("location.hash === '#/jobs?state=dead&kind=send'")
    page.wait_for("document.querySelectorAll('#main td.check').length === 50")
    press(page, "Select all that are shown", "#main .bar")
    page.wait_for("document.querySelector('#main .bar').innerText.includes('50 selected')")
    press(page, "Retry", "#main .bar")
    page.wait_for("document.getElementById('toasts').innerText.includes('50 jobs are tried again now')")
    page.close()


def test_a_job_that_is_gone_meanwhile_is_said(browser: Browser, server: Server) -> None:
    page = opened(browser, server, "/jobs?kind=webhook")
    page.wait_for("document.querySelectorAll('#main td.check').length === 1")
    press(page, "Refresh every 5 s", "#main")
    (job,) = requests.get(f"{server.dicomweb_url}/jobs", params={"kind": "webhook"}, timeout=60).json()["jobs"]
    assert requests.delete(f"{server.dicomweb_url}/jobs/{job['id']}", timeout=60).status_code == 204
    page.run("document.querySelector('#main .actions button').click()")
    page.wait_for("document.getElementById('toasts').innerText.includes('One was not there any more')")
    page.wait_for("document.querySelector('#main .nothing')?.innerText.includes('no such jobs')")
    page.close()


def test_peers_say_what_they_may_and_whether_they_answer(browser: Browser, server: Server) -> None:
    page = opened(browser, server, "/peers")
    page.wait_for("document.querySelectorAll('#main tbody tr').length === 3")
    rows = {
        row.split()[0]: row
        for row in page.run("[...document.querySelectorAll('#main tbody tr')].map((r) => r.innerText)")
    }
    assert "everything" in rows["ITSELF"]
    assert "only calls" in rows["RIS"]
    assert "performed steps, store, worklist" in rows["SCANNER1"]
    assert "only from 10.1.0.0/16" in rows["SCANNER1"]
    press(page, "Echo ITSELF")
    page.wait_for("/Answers in [0-9.,]+ ms/.test(document.querySelector('#main').innerText)")
    press(page, "Echo all")
    page.wait_for("document.querySelector('#main').innerText.includes('No answer')")
    assert "Check address and port" in text(page)
    page.close()


def test_the_system_shows_what_is_held_and_how_it_grew(browser: Browser, server: Server) -> None:
    page = opened(browser, server, "/system")
    page.wait_for("document.querySelectorAll('#main svg.plot desc').length === 2")
    shown = text(page)
    assert "All is well" in shown
    assert re.search(r"Instances\s+9", text(page, "#main .tiles"))
    assert re.search(r"CT\s+2\s+6", shown)
    assert re.search(r"MR\s+1\s+3", shown)
    assert "1 process" in shown
    assert "Kept in reserve" in shown
    described = page.run(
        "(() => { const svg = document.querySelector('svg.plot'); return svg.getAttribute('aria-labelledby').split(' ')"
        ".map((id) => document.getElementById(id).textContent).join(' '); })()"
    )
    assert re.search(r"Instances coming and going In the last 48 hours [0-9,]+ instances were stored", described)
    # The keys say each hour in words, and the table has them all.
    page.run("document.querySelector('svg.plot').focus()")
    last = text(page, "#main .readout")
    page.call("Input.dispatchKeyEvent", {"type": "keyDown", "key": "ArrowLeft", "code": "ArrowLeft"})
    page.wait_for(f"document.querySelector('#main .readout').innerText !== {json.dumps(last)}")
    press(page, "As a table", "#main")
    page.wait_for("document.querySelectorAll('#main .as-table tbody tr').length === 48")
    page.run("document.activeElement.blur()")
    press(page, "As a table", "#main")
    choose(page, "[aria-label='Time shown']", "day")
    page.wait_for("document.querySelector('svg.plot desc')?.textContent.startsWith('In the last year')")
    assert page.run("location.hash") == "#/system?by=day"
    page.close()


def test_the_log_is_live_filtered_and_paused(browser: Browser, server: Server) -> None:
    page = opened(browser, server, "/system?tab=log")
    page.wait_for("document.querySelector('#main [role=status]').innerText === 'Live'")
    page.wait_for("document.querySelectorAll('#main .log .line').length > 0")
    assert "http method=" not in text(page, "#main .log")
    press(page, "Web requests too", "#main")
    choose(page, "#log-text", "/studies/1.2.61")
    page.wait_for("location.hash.includes('text=')")
    page.wait_for("document.querySelector('#main [role=status]').innerText === 'Live'")
    requests.get(f"{server.dicomweb_url}/studies/1.2.61.1/metadata", timeout=60)
    page.wait_for("document.querySelector('#main .log').innerText.includes('1.2.61.1')", 10)
    press(page, "Pause", "#main")
    requests.get(f"{server.dicomweb_url}/studies/1.2.61.2/metadata", timeout=60)
    page.wait_for("document.querySelector('#main').innerText.includes('Go on (1 new)')", 10)
    assert "1.2.61.2" not in text(page, "#main .log")
    press(page, "Go on (1 new)", "#main")
    page.wait_for("document.querySelector('#main .log').innerText.includes('1.2.61.2')", 10)
    page.close()


def test_settings_are_found_and_secrets_are_not(browser: Browser, server: Server) -> None:
    page = opened(browser, server, "/system?tab=settings")
    page.wait_for("document.querySelectorAll('#main .setting').length > 50")
    assert SECRET not in text(page)
    choose(page, "#settings-text", "session_secret")
    page.wait_for("document.querySelectorAll('#main .setting').length === 1")
    assert "********" in text(page)
    assert "changed" in text(page, "#main .setting")
    choose(page, "#settings-text", "no such thing")
    page.wait_for("document.querySelector('#main').innerText.includes('There is no such setting')")
    page.close()


def test_help_says_what_to_type_and_copies_it(browser: Browser, server: Server) -> None:
    page = opened(browser, server, "/help")
    page.wait_for("document.querySelector('#main').innerText.includes('MIT')")
    shown = text(page)
    for value in ("DCMQRSCP", "127.0.0.1", str(server.dimse_port), server.dicomweb_url):
        assert value in shown
    press(page, "Copy: AE title")
    page.wait_for("document.querySelector('#main .copy').innerText === 'Copied'")
    links = page.run("[...document.querySelectorAll('#main .links-list a')].map((each) => each.href)")
    assert len(links) >= 3
    for link in links:
        assert requests.get(link, headers={"Accept": "text/html,*/*"}, timeout=60).status_code == 200, link
    page.close()


def test_a_study_that_was_deleted_comes_back(browser: Browser, server: Server) -> None:
    study = f"{server.dicomweb_url}/studies/1.2.60.3"
    assert requests.delete(study, timeout=60).status_code == 204
    page = opened(browser, server, "/trash")
    page.wait_for("document.querySelectorAll('#main tbody tr').length === 1")
    page.run("document.querySelector('#main tbody button').click()")
    page.wait_for("/is back|are back/.test(document.getElementById('toasts').innerText)")
    page.wait_for("document.querySelector('#main .nothing') !== null")
    assert requests.get(f"{study}/metadata", timeout=60).status_code == 200
    page.close()


@pytest.mark.parametrize("view", VIEWS[:5], ids=["jobs", "peers", "system", "log", "settings"])
def test_where_administration_is_switched_off_the_page_says_so(browser: Browser, closed: Server, view: str) -> None:
    # The page asks who the caller is, and shows such a one no view at all.
    page = opened(browser, closed, view)
    page.wait_for("/You may not see|ADMIN_API/.test(document.querySelector('#main').innerText)")
    page.close()


def test_a_server_that_is_away_is_said_in_every_view_and_found_again(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The views are loaded, the server stops answering, and comes back."""
    with Server(tmp_path_factory.mktemp("away")) as server:
        pages: dict[str, Page] = {}
        for view in VIEWS:
            pages[view] = opened(browser, server, view)
        server.stop()
        shown: dict[str, Any] = {}
        for view in ("/jobs", "/system"):
            pages[view].wait_for("document.querySelector('#main [role=alert]') !== null", 30)
            shown[view] = text(pages[view], "#main [role=alert]")
        pages["/system?tab=log"].wait_for(
            "document.querySelector('#main [role=status]').innerText.includes('lost')", 30
        )
        assert all("The server does not answer" in words for words in shown.values())
        server.start()
        press(pages["/jobs"], "Try again", "#main")
        pages["/jobs"].wait_for("document.querySelector('#main [role=alert]') === null", 30)
        pages["/system"].wait_for("document.querySelector('#main [role=alert]') === null", 40)
        pages["/system?tab=log"].wait_for("document.querySelector('#main [role=status]').innerText === 'Live'", 40)
        for page in pages.values():
            page.close()
