"""The web page's files, as they are served."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pacs.web import page
from tests.unit.web.running import RunningArchive

STATIC = Path(page.__file__).parent / "static" / "ui"
FILES = sorted(str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    with RunningArchive(tmp_path_factory.mktemp("page")) as running:
        yield running


def test_a_browser_gets_the_page_at_the_root_and_a_script_gets_addresses(archive: RunningArchive) -> None:
    shown = requests.get(archive.root_url, headers={"Accept": "text/html,*/*;q=0.8"}, timeout=60)
    assert shown.headers["Content-Type"].startswith("text/html")
    assert "ui/app.js" in shown.text
    assert "script-src 'self'" in shown.headers["Content-Security-Policy"]
    told = requests.get(archive.root_url, headers={"Accept": "*/*"}, timeout=60)
    assert told.json()["dicomweb"] == archive.dicomweb_url


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_page_is_served_with_its_type_and_a_validator(archive: RunningArchive, name: str) -> None:
    got = requests.get(f"{archive.root_url}/ui/{name}", timeout=60)
    assert got.content == (STATIC / name).read_bytes()
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    again = requests.get(f"{archive.root_url}/ui/{name}", headers={"If-None-Match": got.headers["ETag"]}, timeout=60)
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name", ["nothing.js", "../../server.py", "%2e%2e/page.py", "..%2f..%2fpage.py", "core", "core/"]
)
def test_nothing_else_is_served(archive: RunningArchive, name: str) -> None:
    assert requests.get(f"{archive.root_url}/ui/{name}", timeout=60).status_code == 404


def test_the_page_is_told_where_the_api_is(archive: RunningArchive) -> None:
    assert requests.get(f"{archive.root_url}/ui/config.json", timeout=60).json()["api"] == "dicom-web"


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("texts/")])
def test_both_languages_have_the_same_texts_with_the_same_places(name: str) -> None:
    halves = re.split(r'"zh-Hant": \{', (STATIC / name).read_text("utf-8"))
    assert len(halves) == 2
    english, chinese = ({key: _places(text) for key, text in _pairs(half)} for half in halves)
    assert english
    # Chinese has one form of number: "other".
    assert _one_form(chinese) == _one_form(english)


def _pairs(source: str) -> list[tuple[str, str]]:
    found = re.findall(r'("[\w.-]+"):\s*("(?:[^"\\]|\\.)*")', source)
    return [(json.loads(key), json.loads(text)) for key, text in found]


def _places(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\{(\w+)\}", text))


def _one_form(texts: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    return {key: places for key, places in texts.items() if not key.endswith(".one")}
