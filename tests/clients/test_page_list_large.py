"""The list over 100,000 studies, in Chromium: how soon it paints and answers, and whether it stutters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

from bench.headers import Population
from tests.clients import large_list
from tests.clients.browser import Browser, Page
from tests.clients.needs import needs
from tests.server import PROJECT, Server

pytestmark = [needs("chromium"), pytest.mark.slow]

STUDIES = 100_000
FIGURES = PROJECT / "tests" / "artefacts" / "page-list-large.json"
# Ahead of the page: what takes long, and when the first rows are there.
WATCH = """
performance.setResourceTimingBufferSize(10000);
window.longTasks = [];
new PerformanceObserver(list => longTasks.push(...list.getEntries().map(each => each.duration)))
    .observe({type: 'longtask', buffered: true});
new MutationObserver((_, watching) => {
    if (document.querySelector('.space .row .name')) { window.firstRows = performance.now(); watching.disconnect(); }
}).observe(document, {childList: true, subtree: true});
localStorage.setItem('pacs.language', 'en');
"""
# Letters one after the other, each when the one before has its answer; milliseconds until the rows are drawn.
TYPE = """(async words => {
    const input = document.querySelector('#search');
    const frame = () => new Promise(resolve => requestAnimationFrame(resolve));
    const drawn = [];
    for (const word of words) {
        for (let length = 1; length <= word.length; length += 1) {
            input.value = word.slice(0, length);
            const begin = performance.now();
            input.dispatchEvent(new Event('input'));
            const isThere = () => new URLSearchParams(location.hash.split('?')[1]).get('q') === input.value
                && !document.querySelector('.grid[aria-busy]');
            while (!isThere()) await frame();
            drawn.push(performance.now() - begin);
        }
    }
    const requests = performance.getEntriesByType('resource').filter(each => /\\/studies\\?.*search=/.test(each.name));
    return {drawn, answered: requests.map(each => each.duration)};
})"""
# Through the whole list in large steps, then smoothly through a part of it.
SCROLL = """(async () => {
    const grid = document.querySelector('.grid');
    const frame = () => new Promise(resolve => requestAnimationFrame(resolve));
    const frames = [];
    let last = performance.now();
    const step = async to => {
        grid.scrollTop = to;
        await frame();
        frames.push(performance.now() - last);
        last = performance.now();
    };
    for (let at = 0; at <= 200; at += 1) await step((grid.scrollHeight - grid.clientHeight) * at / 200);
    const from = grid.scrollTop = grid.scrollHeight / 2;
    for (let at = 0; at < 300; at += 1) await step(from + at * 40);
    return frames;
})()"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Population]]:
    folder = tmp_path_factory.mktemp("large-list")
    server = Server(folder)
    with server:
        pass  # an index that is still empty gets to know the store, which will hold none of its files
    population = large_list.fill(server.data / "index.sqlite", STUDIES)
    with server:
        yield server, population


def test_a_hundred_thousand_studies_are_painted_searched_and_scrolled_without_stutter(
    large: tuple[Server, Population], tmp_path: Path
) -> None:
    server, population = large
    with Browser(tmp_path / "browser") as browser:
        figures = measured(server, browser, population)
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    # Bars are above what is promised (1 s, 150 ms, 100 ms): other processes run beside tests.
    assert figures["first paint, ms"] < 2000, figures
    assert figures["first rows, ms"] < 3000, figures
    assert figures["search answered, p95 ms"] < 300, figures
    assert figures["longest task while scrolling, ms"] < 200, figures


def measured(server: Server, browser: Browser, population: Population) -> dict[str, Any]:
    page = browser.open(f"{server.http_url}/#/studies", before=WATCH)
    page.wait_for("window.firstRows > 0")
    assert page.run("document.querySelector('.total').textContent") == f"{STUDIES:,} studies"
    paint = page.run("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    loading = page.run("Math.max(0, ...longTasks)")
    plans = [population.plan(number) for number in range(0, STUDIES, STUDIES // 6)]
    words = [plan.patient_name.split("^")[0].lower()[:7] for plan in plans]
    words += [plans[0].patient_id, f"{plans[1].day:%Y-%m-%d}", "ct thorax", "a0042000"]
    typed = page.run(f"{TYPE}({json.dumps(words)})")
    assert page.run("document.querySelectorAll('.space .row .name').length") == 1  # the accession number's study
    page.close()
    page = browser.open(f"{server.http_url}/#/studies?sort=PatientName", before=WATCH)
    page.wait_for("window.firstRows > 0")
    page.run("longTasks.length = 0")
    frames = page.run(SCROLL)
    check_the_end_is_reached(page)
    return {
        "studies": STUDIES,
        "first paint, ms": round(paint),
        "first rows, ms": round(page.run("firstRows")),
        "longest task while loading, ms": round(loading),
        "search answered, p50 ms": round(median_of(typed["answered"])),
        "search answered, p95 ms": round(p95_of(typed["answered"])),
        "typed letter to drawn rows, p95 ms": round(p95_of(typed["drawn"])),
        "searches": len(typed["answered"]),
        "longest task while scrolling, ms": round(page.run("Math.max(0, ...longTasks)")),
        "frame while scrolling, p95 ms": round(p95_of(frames)),
    }


def check_the_end_is_reached(page: Page) -> None:
    page.run("document.querySelector('.grid').scrollTop = 1e9")
    page.wait_for(f"!!document.querySelector('#study-{STUDIES - 1} .name')")


def median_of(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def p95_of(values: list[float]) -> float:
    return quantiles(values, n=20)[-1]
