"""The list over thousands of studies, in Chromium. How fast it is, over a hundred thousand: bench/page.py."""

from __future__ import annotations

from pathlib import Path

from bench import page
from tests.clients.browser import Browser
from tests.clients.needs import needs

pytestmark = needs("chromium")

STUDIES = 3000


def test_thousands_of_studies_are_counted_searched_and_scrolled_to_the_last(tmp_path: Path) -> None:
    server, population = page.filled(tmp_path, STUDIES)
    with server, Browser(tmp_path / "browser") as browser:
        figures = page.measured(server, browser, population, STUDIES)
    assert figures["searches"] > 0
