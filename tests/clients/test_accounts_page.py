"""Logging in and looking after accounts in a real browser, in both languages, wide and narrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.clients.browser import Browser, Page
from tests.clients.needs import needs
from tests.server import Server

pytestmark = needs("chromium")
PASSWORD = "correct horse"  # noqa: S105
WORDS = {
    "en": ("Log in", "The name or the password is not right.", "Accounts", "My account", "Disabled"),
    "zh-Hant": ("登入", "名稱或密碼不正確。", "帳號", "我的帳號", "已停用"),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"ADMIN_PASSWORD": PASSWORD}
    with Server(tmp_path_factory.mktemp("accounts"), settings) as running:
        yield running


def opened(browser: Browser, server: Server, language: str, fragment: str, width: int = 1280) -> Page:
    before = f"localStorage.setItem('pacs.language', {json.dumps(language)})"
    return browser.open(f"{server.http_url}/{fragment}", before=before, width=width, height=820)


def fill(page: Page, **values: str) -> None:
    for name, value in values.items():
        field = f"document.getElementById({json.dumps(name.replace('_', '-'))})"
        page.run(f"{field}.value = {json.dumps(value)}")


def press(page: Page, text: str, within: str = "document") -> None:
    found = f"[...{within}.querySelectorAll('button')].find((each) => each.textContent.trim() === {json.dumps(text)})"
    page.wait_for(f"!!({found})")
    page.run(f"({found}).click()")


def log_in(page: Page, word: str, name: str = "admin", password: str = PASSWORD) -> None:
    page.wait_for("!!document.getElementById('login-name')")
    fill(page, login_name=name, login_password=password)
    press(page, word, "document.querySelector('form')")


def text(page: Page) -> str:
    return str(page.run("document.body.innerText"))


def fits(page: Page) -> bool:
    return bool(page.run("document.documentElement.scrollWidth <= innerWidth"))


def complaints(page: Page) -> list[str]:
    """Of the console; refusals that the test provokes are lines of Chromium's own."""
    return [
        line
        for line in page.seen.console
        if not line.startswith("verbose:") and not any(f"status of {code}" in line for code in (400, 401, 409))
    ]


def forget(page: Page) -> None:
    page.call("Network.clearBrowserCookies")
    page.close()


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("width", [1280, 390])
def test_one_logs_in_and_comes_to_where_one_wanted(
    browser: Browser, server: Server, tmp_path: Path, language: str, width: int
) -> None:
    log_in_word, wrong, accounts, _, _ = WORDS[language]
    page = opened(browser, server, language, "#/accounts", width)
    page.wait_for("location.hash.startsWith('#/login')")
    log_in(page, log_in_word, password="not this one")  # noqa: S106
    page.wait_for("!document.querySelector('.login .failure').hidden")
    assert wrong in text(page)
    page.screenshot(tmp_path / f"login-{language}-{width}.png")
    assert fits(page)
    log_in(page, log_in_word)
    page.wait_for("location.hash === '#/accounts' && !!document.querySelector('tr[data-account=admin]')")
    assert page.run("document.querySelector('h1').textContent") == accounts
    page.screenshot(tmp_path / f"accounts-{language}-{width}.png")
    assert fits(page)
    assert complaints(page) == []
    forget(page)


def test_a_link_that_leads_out_of_the_page_is_not_followed(browser: Browser, server: Server) -> None:
    page = opened(browser, server, "en", "#/login?next=https%3A%2F%2Fevil.example%2F")
    log_in(page, "Log in")
    page.wait_for("location.hash.startsWith('#/studies')")
    assert page.run("location.origin") == server.http_url
    forget(page)


@pytest.mark.parametrize("language", WORDS)
def test_an_administrator_adds_limits_disables_and_removes_an_account(
    browser: Browser, server: Server, tmp_path: Path, language: str
) -> None:
    log_in_word, *_, disabled = WORDS[language]
    words = page_words(language)
    page = opened(browser, server, language, "#/accounts")
    log_in(page, log_in_word)
    press(page, words["accounts.add"])
    page.wait_for("!!document.querySelector('dialog[open] #account-name')")
    fill(page, account_name="Alice", account_password="short", account_role="writer", account_modalities="ct, mr")  # noqa: S106
    press(page, words["accounts.save"], "document.querySelector('dialog')")
    page.wait_for("!document.querySelector('dialog .failure').hidden")  # the dialog stays, and says why
    page.screenshot(tmp_path / f"add-{language}.png")
    fill(page, account_password=PASSWORD)
    press(page, words["accounts.save"], "document.querySelector('dialog')")
    page.wait_for("!!document.querySelector('tr[data-account=alice]')")
    row = "document.querySelector('tr[data-account=alice]')"
    assert "CT, MR" in page.run(f"{row}.innerText")
    made = requests.get(f"{server.dicomweb_url}/accounts/alice", auth=("admin", PASSWORD), timeout=60).json()
    assert (made["role"], made["modalities"]) == ("writer", ["CT", "MR"])
    press(page, words["accounts.disable"], row)
    page.wait_for(f"{row}.innerText.includes({json.dumps(disabled)})")
    press(page, words["accounts.remove"], row)
    press(page, words["accounts.remove"], "document.querySelector('dialog')")
    page.wait_for(f"!{row}")
    # The last administrator stays: the page says so.
    press(page, words["accounts.disable"], "document.querySelector('tr[data-account=admin]')")
    page.wait_for("!!document.querySelector('.toast.error')")
    assert complaints(page) == []
    forget(page)


@pytest.mark.parametrize("language", WORDS)
def test_one_changes_the_own_password_and_makes_a_token(
    browser: Browser, server: Server, tmp_path: Path, language: str
) -> None:
    log_in_word, _, _, mine, _ = WORDS[language]
    words, name = page_words(language), f"reader-{language.lower()}"
    body = {"name": name, "password": PASSWORD, "role": "reader"}
    requests.post(f"{server.dicomweb_url}/accounts", json=body, auth=("admin", PASSWORD), timeout=60)
    page = opened(browser, server, language, "#/me")
    log_in(page, log_in_word, name)
    page.wait_for("!!document.getElementById('old-password')")
    assert page.run("document.querySelector('h1').textContent") == mine
    fill(page, old_password=PASSWORD, new_password="another password")  # noqa: S106
    press(page, words["password.change"])
    page.wait_for("!!document.querySelector('.toast.success')")
    press(page, words["tokens.add"])
    page.wait_for("!!document.querySelector('dialog[open] #token-name')")
    fill(page, token_name="script", token_days="7")  # noqa: S106
    press(page, words["tokens.make"], "document.querySelector('dialog')")
    token = page.wait_for("document.getElementById('token-text')?.value")
    page.screenshot(tmp_path / f"token-{language}.png")
    bearer = {"Authorization": f"Bearer {token}"}
    assert requests.get(f"{server.dicomweb_url}/studies", headers=bearer, timeout=60).status_code == 204
    # What is for administrators is not shown to others.
    assert page.run("[...document.querySelectorAll('#nav a')].every((each) => each.hash !== '#/accounts')")
    assert complaints(page) == []
    forget(page)


def page_words(language: str) -> dict[str, str]:
    """The page's own texts, so that the test presses what somebody reads."""
    from pacs.web import page

    source = (Path(page.__file__).parent / "static" / "ui" / "texts" / "accounts.js").read_text("utf-8")
    part = source.partition('"zh-Hant"')[0 if language == "en" else 2]
    pairs = (line.strip().rstrip(",").split(": ", 1) for line in part.splitlines() if ": " in line)
    return {json.loads(key): json.loads(value) for key, value in pairs if key.startswith('"')}


def test_both_languages_have_the_same_texts() -> None:
    assert page_words("en").keys() == page_words("zh-Hant").keys()
