"""Logging in at a provider, and sharing a study, in a real browser, in both languages, wide and narrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests import builders
from tests.clients.browser import Browser, Page
from tests.clients.needs import needs
from tests.oidc_provider import IdentityProvider
from tests.server import Server
from tests.wire.clients import stow

pytestmark = needs("chromium", "node", npm_packages=["oidc-provider"])
STUDY, OTHER = "1.2.826.0.1.3680043.8.498.81", "1.2.826.0.1.3680043.8.498.82"
LANGUAGES = ["en", "zh-Hant"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """That trusts a provider, and holds two studies."""
    archive = Server(tmp_path_factory.mktemp("archive"))
    with archive:
        files = [
            builders.ct(uid, f"{uid}.1", f"{uid}.1.1", PatientName=name, PatientID=name)
            for uid, name in _STUDIES.items()
        ]
        assert stow(archive, files).status_code == 200
    with IdentityProvider(tmp_path_factory.mktemp("provider"), archive.dicomweb_url) as provider:
        archive.env.update(provider.settings())
        with archive:
            yield archive


_STUDIES = {STUDY: "Shown^Patient", OTHER: "Other^Patient"}


def opened(browser: Browser, url: str, language: str, width: int = 1280) -> Page:
    before = f"localStorage.setItem('pacs.language', {json.dumps(language)})"
    return browser.open(url, before=before, width=width, height=820)


def forget(page: Page) -> None:
    page.call("Network.clearBrowserCookies")
    page.close()


def log_in(page: Page, name: str) -> None:
    """From the archive's form to the provider's, and to its question whether the archive may know who one is."""
    page.wait_for("!!document.querySelector('.login a.oidc')")
    page.run("document.querySelector('.login a.oidc').click()")
    page.wait_for("!!document.querySelector('input[name=login]')")
    page.run(f"document.querySelector('input[name=login]').value = {json.dumps(name)}")
    page.run("document.querySelector('input[name=password]').value = 'any'")
    page.run("document.querySelector('form').submit()")
    page.wait_for("!!document.querySelector('form') && !document.querySelector('input[name=login]')")
    page.run("document.querySelector('form').submit()")


def fits(page: Page) -> bool:
    return bool(page.run("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize(("language", "width"), [("en", 1280), ("zh-Hant", 390)])
def test_one_logs_in_at_the_provider_and_comes_to_where_one_wanted(
    browser: Browser, server: Server, tmp_path: Path, language: str, width: int
) -> None:
    page = opened(browser, f"{server.http_url}/#/studies/{STUDY}", language, width)
    page.wait_for("location.hash.startsWith('#/login') && !!document.querySelector('.login a.oidc')")
    assert not page.run("!!document.querySelector('#login-password')")  # there are no accounts here
    assert page.run("document.activeElement.matches('.oidc')")
    page.screenshot(tmp_path / f"login-{language}-{width}.png")
    assert fits(page)
    log_in(page, "wanda.pacs-writer")
    page.wait_for(f"location.hash === '#/studies/{STUDY}' && document.body?.innerText.includes('Shown')")
    assert "wanda" in page.run("document.getElementById('top').textContent")
    page.run("document.querySelector('#top .tools button').click()")  # log out: the provider asks whether there too
    page.wait_for("location.pathname.includes('/session/end') && !!document.querySelector('form')")
    forget(page)


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_without_a_role_is_told_what_to_do(browser: Browser, server: Server, tmp_path: Path, language: str) -> None:
    page = opened(browser, server.http_url, language, 390)
    log_in(page, "nobody")
    page.wait_for("location.hash === '#/login?failed=role' && !!document.querySelector('.login .failure')")
    words = {"en": "Ask whoever looks after accounts", "zh-Hant": "請向帳號管理人員申請"}
    assert words[language] in page.run("document.body.innerText")
    page.screenshot(tmp_path / f"no-role-{language}.png")
    assert fits(page)
    forget(page)


@pytest.mark.slow
@pytest.mark.parametrize(("language", "width"), [("en", 1280), ("zh-Hant", 390)])
def test_a_study_is_shared_seen_by_a_guest_and_taken_back(
    browser: Browser, server: Server, tmp_path: Path, language: str, width: int
) -> None:
    page = opened(browser, f"{server.http_url}/#/studies/{STUDY}", language, width)
    log_in(page, "wanda.pacs-writer")
    words = {"en": "Share", "zh-Hant": "分享"}[language]
    button = (
        f"[...document.querySelectorAll('.actions button')].find((each) => each.textContent === {json.dumps(words)})"
    )
    page.wait_for(f"!!({button})")
    page.run(f"({button}).click()")
    page.wait_for("!!document.querySelector('.share-dialog .shares li')")
    page.run("document.querySelector('#share-days').value = '1'")
    page.run("document.querySelector('.share-dialog form').requestSubmit()")
    link = page.wait_for("document.querySelector('#share-link')?.value")
    page.wait_for("!!document.querySelector('.share-dialog .shares button')")
    page.screenshot(tmp_path / f"share-{language}-{width}.png")
    assert fits(page)
    assert page.run("document.querySelector('dialog').scrollWidth <= document.querySelector('dialog').clientWidth")
    assert link.startswith(f"{server.http_url}/#/share/")

    with Browser(tmp_path / "guest") as elsewhere:
        guest = opened(elsewhere, link, language, width)
        guest.wait_for(f"location.hash === '#/studies/{STUDY}' && document.body?.innerText.includes('Shown')")
        guest.screenshot(tmp_path / f"guest-{language}-{width}.png")
        labels = guest.run("[...document.querySelectorAll('.actions button')].map((each) => each.textContent)")
        assert labels == []  # neither download nor anything that changes something
        assert fits(guest)
        guest.run("location.hash = '#/studies'")
        guest.wait_for("document.querySelector('.view.studies')?.innerText.includes('Shown')")
        assert "Other" not in guest.run("document.body.innerText")
        guest.run(f"location.hash = '#/view/{STUDY}'")
        guest.wait_for("[...document.querySelectorAll('canvas')].some((each) => each.width > 0)")
        failed = [each for each in guest.seen.exchanges.values() if each.status in (401, 403)]
        assert [(each.method, each.url, each.status) for each in failed] == []

        page.run("document.querySelector('.share-dialog .shares button').click()")
        page.wait_for("!document.querySelector('.share-dialog .shares button')")
        late = opened(elsewhere, link, language, width)
        over = {"en": "This link no longer works", "zh-Hant": "此連結已失效"}[language]
        late.wait_for(f"document.body?.innerText.includes({json.dumps(over)})")
        late.screenshot(tmp_path / f"over-{language}-{width}.png")
        assert fits(late)
    assert requests.get(f"{server.dicomweb_url}/studies", timeout=60).status_code == 401
    forget(page)
