"""The documentation, as the server shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pacs.web import manual, page
from tests.unit.web.running import RunningArchive

UI = Path(page.__file__).parent / "static" / "ui"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    with RunningArchive(tmp_path_factory.mktemp("manual"), additions=[manual.addition()]) as running:
        yield running


@pytest.mark.parametrize("name", manual.pages())
def test_every_page_is_shown_and_its_links_lead_to_pages(archive: RunningArchive, name: str) -> None:
    got = requests.get(f"{archive.dicomweb_url}/manual/{name}", timeout=60)
    assert got.status_code == 200
    assert "<h1" in got.text
    assert "<p>&lt;!--" not in got.text
    for target in re.findall(r'<a href="([^"]+)"', got.text):
        if not target.startswith("http"):
            linked, _, anchor = target.partition("#")
            shown = requests.get(f"{archive.dicomweb_url}/manual/{linked or name}", timeout=60)
            assert shown.status_code == 200, target
            assert not anchor or f'id="{anchor}"' in shown.text, target


@pytest.mark.parametrize("name", ["none.md", "../ui/app.js", "..%2f..%2fpage.py", "adr", "adr/", "START.md", "%00.md"])
def test_nothing_else_is_shown(archive: RunningArchive, name: str) -> None:
    assert requests.get(f"{archive.dicomweb_url}/manual/{name}", timeout=60).status_code == 404


def test_help_lists_every_page_with_a_title_in_both_languages() -> None:
    source = (UI / "views" / "help_documents.js").read_text("utf-8")
    listed = re.findall(r'"([a-z-]+)"', source.partition("NAMES = [")[2].partition("]")[0])
    assert sorted(f"{name}.md" for name in listed) == manual.pages()
    texts = (UI / "texts" / "help.js").read_text("utf-8")
    for name in listed:
        assert len(re.findall(rf'"help\.doc\.{name}": "[^"]+"', texts)) == 2, name


def test_html_in_a_page_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd.md").write_text("# A\n\n<script>alert(1)</script> [x](javascript:alert(1)) [y](../pacs/app.py)\n")
    monkeypatch.setattr(manual, "_folder", lambda: tmp_path)
    shown = manual._page("odd.md")
    assert "<script" not in shown
    assert "href" not in shown
