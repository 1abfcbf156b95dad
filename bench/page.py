"""How the list of studies does over a large archive, in Chromium: ``python -m bench.page [--studies 100000]``.

How soon it paints and answers, and whether it stutters. Writes PAGE.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import quantiles
from typing import Any

from bench.headers import Population
from tests.clients import large_list
from tests.clients.browser import Browser, Page
from tests.server import PROJECT, Server

_RESULT = PROJECT / "bench" / "PAGE.md"
# Ahead of the page: what takes long, and when the first rows are there.
_WATCH = """
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
_TYPE = """(async word => {
    const input = document.querySelector('#search');
    const frame = () => new Promise(resolve => requestAnimationFrame(resolve));
    const drawn = [];
    for (let length = 1; length <= word.length; length += 1) {
        input.value = word.slice(0, length);
        const begin = performance.now();
        input.dispatchEvent(new Event('input'));
        const isThere = () => new URLSearchParams(location.hash.split('?')[1]).get('q') === input.value
            && !document.querySelector('.grid[aria-busy]');
        while (!isThere()) await frame();
        drawn.push(performance.now() - begin);
    }
    return drawn;
})"""
_ANSWERED = """performance.getEntriesByType('resource')
    .filter(each => /\\/studies\\?.*search=/.test(each.name)).map(each => each.duration)"""
# So many steps from one part of the list to another; milliseconds of each frame.
_SCROLL = """(async (from, to, steps) => {
    const grid = document.querySelector('.grid');
    const way = grid.scrollHeight - grid.clientHeight;
    const frames = [];
    for (let at = 0; at <= steps; at += 1) {
        const begin = performance.now();
        grid.scrollTop = way * (from + (to - from) * at / steps);
        await new Promise(resolve => requestAnimationFrame(resolve));
        frames.push(performance.now() - begin);
    }
    return frames;
})"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("--studies", metavar="N", type=int, default=100_000)
    studies: int = parser.parse_args().studies
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server, population = filled(folder, studies)
        with server, Browser(folder / "browser") as browser:
            figures = measured(server, browser, population, studies)
    rows = "".join(f"| {name} | {value:,} |\n" for name, value in figures.items())
    _RESULT.write_text(f"# The list of studies in Chromium\n\n`python -m bench.page`\n\n| | |\n|---|---|\n{rows}")
    print(json.dumps(figures, indent=1))


def filled(folder: Path, studies: int) -> tuple[Server, Population]:
    """A server, to be started, with so many studies of one image each in its index, and no files."""
    server = Server(folder)
    with server:
        pass  # an index that is still empty gets to know the store, which will hold none of its files
    return server, large_list.fill(server.data / "index.sqlite", studies)


def measured(server: Server, browser: Browser, population: Population, studies: int) -> dict[str, Any]:
    """What a person waits for, ms. Raises AssertionError when the page does not show what it should."""
    page = browser.open(f"{server.http_url}/#/studies", before=_WATCH)
    page.wait_for("window.firstRows > 0")
    assert page.run("document.querySelector('.total').textContent") == f"{studies:,} studies"
    paint = page.wait_for("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    loading = page.run("Math.max(0, ...longTasks)")
    plans = [population.plan(number) for number in range(0, studies, studies // 6)]
    words = [plan.patient_name.split("^")[0].lower()[:7] for plan in plans]
    words += [plans[0].patient_id, f"{plans[1].day:%Y-%m-%d}", "ct thorax", f"a{studies // 2:07d}"]
    drawn = [time_ms for word in words for time_ms in page.run(f"{_TYPE}({json.dumps(word)})")]
    answered = page.run(_ANSWERED)
    assert page.run("document.querySelectorAll('.space .row .name').length") == 1  # the accession number's study
    page.close()
    page = browser.open(f"{server.http_url}/#/studies?sort=PatientName", before=_WATCH)
    page.wait_for("window.firstRows > 0")
    page.run("longTasks.length = 0")
    # Through all of it in large steps, then smoothly through a few hundred rows.
    frames = [*page.run(f"{_SCROLL}(0, 1, 30)"), *page.run(f"{_SCROLL}(0.5, 0.5005, 40)")]
    _check_the_end_is_reached(page, studies)
    return {
        "studies": studies,
        "first paint, ms": round(paint),
        "first rows, ms": round(page.run("firstRows")),
        "longest task while loading, ms": round(loading),
        "search answered, p50 ms": round(_median_of(answered)),
        "search answered, p95 ms": round(_p95_of(answered)),
        "typed letter to drawn rows, p95 ms": round(_p95_of(drawn)),
        "searches": len(answered),
        "longest task while scrolling, ms": round(page.run("Math.max(0, ...longTasks)")),
        "frame while scrolling, p95 ms": round(_p95_of(frames)),
    }


def _check_the_end_is_reached(page: Page, studies: int) -> None:
    page.run("document.querySelector('.grid').scrollTop = 1e9")
    page.wait_for(f"!!document.querySelector('#study-{studies - 1} .name')")


def _median_of(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _p95_of(values: list[float]) -> float:
    return quantiles(values, n=20)[-1]


if __name__ == "__main__":
    main()
