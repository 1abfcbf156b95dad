"""How fast a viewer opens a long series: ``python -m bench.viewer``.

A CT of 1,000 slices (512 × 512 × 16 bit) lies in this project and in Orthanc. The same OHIF, in the same Chromium
without a window, opens it through the same nginx, each time with an empty profile and a server that has just been
started. Measured in the page: when the first image is on the screen, and when all frames are there. Once over the
loopback, and once, with a tenth of the slices, over what Chromium makes a line of 100 Mbit/s of it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from bench.corpus import Slice, Template, study_uid
from bench.front import Front, nginx
from bench.peers import Orthanc, Pacs, Peer, free_port, missing_tools
from tests.clients import npm
from tests.clients.browser import CHROMIUM, Browser, Page

_OUTPUT = Path(__file__).with_name("VIEWER.md")
_MBIT = 100  # of the slow line
_STOW_SLICES = 50
_BOUNDARY = "bench-boundary-77c2"
_STALLED_S = 60.0
_POLL_S = 0.25
# An event of a viewport does not rise to the document, but the document sees it on its way down.
_BEFORE = """
if (location.protocol === 'http:') localStorage.setItem('shownTours', '["basicViewerTour"]')
performance.setResourceTimingBufferSize(20000)
window.bench = {isNew: false, shown: 0}
document.addEventListener('CORNERSTONE_STACK_NEW_IMAGE', () => { bench.isNew = true }, true)
document.addEventListener('CORNERSTONE_IMAGE_RENDERED', () => {
    if (bench.isNew && !bench.shown) requestAnimationFrame(() => { bench.shown ||= performance.now() })
}, true)
"""
_STATE = """(() => {
    let asked = 0, last = 0, bytes = 0, metadata = 0
    const frames = new Set()
    for (const entry of performance.getEntriesByType('resource')) {
        if (!entry.name.includes('/dicom-web/')) continue
        asked ||= entry.startTime
        if (entry.name.includes('/metadata')) metadata ||= entry.responseEnd - entry.startTime
        if (!entry.name.includes('/frames/') || !entry.responseEnd || entry.responseStatus !== 200) continue
        frames.add(entry.name)
        last = Math.max(last, entry.responseEnd)
        bytes += entry.encodedBodySize
    }
    return {asked, metadata, shown: bench.shown, frames: frames.size, last, bytes}
})()"""


@dataclass(frozen=True)
class Series:
    """What is opened. study: its number; mbit: of the line, 0 for the loopback as it is."""

    study: int
    slices: int
    mbit: int = 0

    @property
    def title(self) -> str:
        line = f"a line of {self.mbit} Mbit/s" if self.mbit else "the loopback"
        return f"{self.slices:,} slices over {line}"


@dataclass(frozen=True)
class Opened:
    """Seconds since the page was asked for. asked_s: first request to the archive; all_s: last frame is there.

    metadata_s: how long the series' metadata took. cpu_s: of the archive.
    """

    asked_s: float
    metadata_s: float
    first_s: float
    all_s: float
    frames_bytes: int
    cpu_s: float


class PacsHtj2k(Pacs):
    """This project with frames made ahead as HTJ2K."""

    name = "pacs, HTJ2K"

    def _prepare(self) -> tuple[list[str], Mapping[str, str]]:
        command, environment = super()._prepare()
        return command, {**environment, "FRAMES_HTJ2K": "ahead"}


class OrthancUncompressed(Orthanc):
    """Without gzip, which its later versions leave out by default, and which costs more than it saves on this line."""

    def _prepare(self) -> tuple[list[str], Mapping[str, str]]:
        command, environment = super()._prepare()
        path = Path(command[1])
        path.write_text(json.dumps({**json.loads(path.read_text()), "HttpCompressionEnabled": False}, indent=1))
        return command, environment


_PEERS: dict[str, type[Peer]] = {"pacs": Pacs, "htj2k": PacsHtj2k, "orthanc": OrthancUncompressed}


Samples = dict[Series, dict[str, list[Opened]]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if missing := _missing():
        print(f"missing: {', '.join(missing)} (scripts/test installs them as root)", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="pacs-viewer-", dir=options.folder))
    peers = [_PEERS[name](folder / name, free_port()) for name in options.only or _PEERS]
    all_series = [Series(1, options.slices), Series(2, max(1, options.slices // 10), _MBIT)]
    opened: Samples = {series: {peer.name: [] for peer in peers} for series in all_series}
    load_before = os.getloadavg()[0]
    try:
        for peer in peers:
            with peer:
                _store(peer, all_series)
        for run in range(options.runs):
            for series in all_series:
                for peer in peers if run % 2 == 0 else reversed(peers):
                    os.sync()  # what was written before must not fall into this one's time
                    got = _open(peer, folder / "run", series)
                    opened[series][peer.name].append(got)
                    print(
                        f"run {run + 1}/{options.runs} {series.title}, {peer.name}: first {got.first_s:.2f} s, "
                        f"all {got.all_s:.2f} s, {got.frames_bytes / 1e6:.0f} MB",
                        file=sys.stderr,
                        flush=True,
                    )
        table = _table(opened, [peer.version() for peer in peers], options, load_before)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table)
    output = options.output or (_OUTPUT if not options.only and options.slices == 1000 else None)
    if output:
        output.write_text(table)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.viewer", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="interleaved runs (default 3)")
    parser.add_argument("--slices", type=int, default=1000, help="slices of the series (default 1,000)")
    parser.add_argument("--only", nargs="+", choices=tuple(_PEERS), help="some of what is compared")
    parser.add_argument("--folder", type=Path, help="where data folders are made (default: the temporary folder)")
    parser.add_argument("--output", type=Path, help="file to write; default bench/VIEWER.md when all is measured")
    return parser


def _missing() -> list[str]:
    found = [name for name in missing_tools() if "orthanc" in name.lower()]
    found += [] if CHROMIUM.exists() else ["chromium"]
    found += [] if nginx() else ["nginx-light"]
    return found + [package for package in npm.missing() if package.startswith("@ohif/")]


def _slices(series: Series) -> Iterator[bytes]:
    """Slices one above the other: the template has them all in one place."""
    template = Template()
    place = template.data.index(b"\x20\x00\x32\x00DS") + 8
    length = int.from_bytes(template.data[place - 2 : place], "little")
    x, y, _ = template.data[place : place + length].decode().strip().split("\\")
    for number in range(1, series.slices + 1):
        position = f"{float(x):.2f}\\{float(y):.2f}\\{number * 0.5:.1f}".ljust(length).encode()
        assert len(position) == length
        data = bytearray(template.stamp(Slice(series.study, series.study * 100_000 + number, number)))
        data[place : place + length] = position
        yield bytes(data)


def _store(peer: Peer, all_series: Sequence[Series]) -> None:
    """By STOW-RS, some at a time."""
    for series in all_series:
        slices = _slices(series)
        while parts := list(islice(slices, _STOW_SLICES)):
            _stow(peer, parts)
    count = sum(series.slices for series in all_series)
    made = peer.folder / "data" / "frames"
    deadline = time.monotonic() + 120
    while isinstance(peer, PacsHtj2k) and sum(path.is_file() for path in made.glob("??/*")) < count:
        assert time.monotonic() < deadline, "frames were not made ahead"
        time.sleep(0.2)


def _stow(peer: Peer, parts: Sequence[bytes]) -> None:
    head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = b"".join(head + part + b"\r\n" for part in parts) + f"--{_BOUNDARY}--\r\n".encode()
    connection = http.client.HTTPConnection("127.0.0.1", peer.http_port, timeout=120)
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}',
        "Accept": "application/dicom+json",
    }
    connection.request("POST", "/dicom-web/studies", body, headers)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    assert response.status == 200, answer[:1000]


def _open(peer: Peer, folder: Path, series: Series) -> Opened:
    """Once, from cold."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with peer, Front(folder / "front", peer.http_port) as front, Browser(folder / "browser", webgl=True) as browser:
            assert peer.usage is not None
            cpu_s = peer.usage.cpu_s()
            page = browser.open("about:blank", before=_BEFORE)
            if series.mbit:
                line = {"offline": False, "latency": 0, "uploadThroughput": -1}
                page.call("Network.emulateNetworkConditions", {**line, "downloadThroughput": series.mbit * 1e6 / 8})
            page.call("Page.navigate", {"url": f"{front.url}/viewer?StudyInstanceUIDs={study_uid(series.study)}"})
            got = _watch(page, series.slices)
            times = (got[name] / 1e3 for name in ("asked", "metadata", "shown", "last"))
            return Opened(*times, frames_bytes=int(got["bytes"]), cpu_s=peer.usage.cpu_s() - cpu_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _watch(page: Page, slices: int) -> dict[str, float]:
    """Until all frames are there: what ``_STATE`` gives, in milliseconds."""
    seen, changed = -1.0, time.monotonic()
    while True:
        state: dict[str, float] = page.run(_STATE)
        if state["frames"] >= slices and state["shown"]:
            return state
        if state["frames"] != seen:
            seen, changed = state["frames"], time.monotonic()
        if time.monotonic() - changed > _STALLED_S:
            text = page.run("document.body.innerText")
            log = "\n".join(page.seen.console[-20:])
            raise RuntimeError(f"{state} of {slices} frames, and no more:\n{text[:1000]}\n{log}")
        time.sleep(_POLL_S)


def _table(opened: Samples, versions: Sequence[str], options: argparse.Namespace, load_before: float) -> str:
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    ohif = next(package for package in npm.wanted() if package.startswith("@ohif/"))
    chromium = subprocess.run([str(CHROMIUM), "--version"], capture_output=True, text=True, check=False).stdout.split()
    lines = [
        "# Opening a long series in a viewer",
        "",
        f"{date}. {', '.join(dict.fromkeys(versions))}; {ohif} in Chromium {' '.join(chromium[1:2])} without a window "
        f"(WebGL in software), nginx in front; {os.cpu_count()} cores for all of them. A CT, 512 × 512 × 16 bit, "
        "opened by its URL with an empty browser profile and an archive just started. Medians of "
        f"{options.runs} interleaved runs, in seconds since the page was asked for; in brackets least and most. "
        f"Load average: {load_before:.1f} before, {os.getloadavg()[0]:.1f} after.",
    ]
    for series, by_peer in opened.items():
        lines += ["", f"## {series.title}", "", *_rows(by_peer)]
    lines += [
        "",
        "The viewer's own start, until it first asks the archive for something, and the time in which it takes in the "
        "metadata are the same for all. All frames are fetched by OHIF's own prefetching, six connections at once, "
        "and on the loopback Chromium is what takes longest. *pacs, HTJ2K*: with `FRAMES_HTJ2K=ahead`, which is half "
        "the bytes, and decoded in the browser, on the same cores. Orthanc's answers are not compressed "
        '(`"HttpCompressionEnabled": false`): with gzip, its default, 100 frames take it 2.5 s instead of 0.8.',
    ]
    return "\n".join(lines) + "\n"


def _rows(by_peer: Mapping[str, Sequence[Opened]]) -> Iterator[str]:
    columns: list[tuple[str, Callable[[Opened], float]]] = [
        ("first image", lambda got: got.first_s),
        ("after the first request", lambda got: got.first_s - got.asked_s),
        ("metadata", lambda got: got.metadata_s),
        ("all frames", lambda got: got.all_s),
        ("first to last", lambda got: got.all_s - got.first_s),
    ]
    yield f"| archive | {' | '.join(title for title, _ in columns)} | MB of frames | CPU s of the archive |"
    yield f"|---|{'---|' * len(columns)}---|---|"
    for name, runs in by_peer.items():
        cells = [_cell([value(got) for got in runs]) for _, value in columns]
        size = statistics.median(got.frames_bytes for got in runs) / 1e6
        cpu = statistics.median(got.cpu_s for got in runs)
        yield f"| {name} | {' | '.join(cells)} | {size:,.0f} | {cpu:.1f} |"
    theirs = by_peer.get(Orthanc.name, [])
    for name, runs in by_peer.items():
        if theirs and runs is not theirs:
            pairs = [(map(value, theirs), map(value, runs)) for _, value in columns]
            ratios = [f"{statistics.median(one) / statistics.median(other):.2f} ×" for one, other in pairs]
            yield f"| Orthanc's time by that of {name} | {' | '.join(ratios)} | | |"


def _cell(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f} – {max(values):.2f}]"


if __name__ == "__main__":
    sys.exit(main())
