"""Run the side-by-side benchmark and write its table."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import Material, Row, load_background, rows
from bench.peers import Destination, Orthanc, Pacs, Peer, dcmtk_version, missing_tools
from bench.report import Samples, Subject, markdown

_RESULTS = Path(__file__).with_name("RESULTS.md")
_NOTES = (
    "Both servers run at the same time on the same machine with their own data folders; requests go to one at a time, "
    "in turns, and the order of the two changes from run to run.",
    "TCP_NODELAY=1 in the environment of Orthanc and of DCMTK's tools: without it every exchange of theirs waits 40 ms "
    "for a delayed acknowledgement.",
    "Durability: Orthanc runs with its defaults, which fsync each file (SyncStorageArea) but not each commit of its "
    "SQLite index (WAL, `synchronous=NORMAL`: a power cut may take the last); pacs answers after fsync of "
    "the file and a `synchronous=FULL` commit.",
    "Searches and metadata: each server answers with its own default attributes; the number of rows is checked.",
    "Rows of a few milliseconds are means of several requests over one kept connection. Times of DCMTK's tools include "
    "starting the tool.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    missing = missing_tools()
    if missing:
        print(f"not installed: {', '.join(missing)} (Debian: dcmtk orthanc orthanc-dicomweb)", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="pacs-bench-", dir=options.folder))
    try:
        table = _compare(folder, 1 if options.quick else options.runs, 40 if options.quick else options.files, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table)
    if options.output:
        options.output.write_text(table)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs (default 5)")
    parser.add_argument("--files", type=int, default=400, help="files of the C-STORE rows, a multiple of 4")
    parser.add_argument("--quick", action="store_true", help="one run with 40 files: does it work at all?")
    parser.add_argument("--only", default="", help="comma-separated keys of rows; those they depend on run too")
    parser.add_argument("--without", choices=("pacs", "orthanc"), help="leave one server out")
    parser.add_argument("--folder", type=Path, help="where data folders are made (default: the temporary folder)")
    parser.add_argument(
        "--output", type=Path, default=None, help="file to write; default bench/RESULTS.md, not if quick"
    )
    return parser


def _compare(folder: Path, runs: int, files: int, options: argparse.Namespace) -> str:
    if options.output is None and not (options.quick or options.without or options.only):
        options.output = _RESULTS
    table = [row for row in rows(files) if not options.only or row.key in {*options.only.split(","), "stow"}]
    destination = Destination(folder)
    peers: list[Peer] = []
    if options.without != "pacs":
        peers.append(Pacs(folder / "pacs", destination.port))
    if options.without != "orthanc":
        peers.append(Orthanc(folder / "orthanc", destination.port))
    samples = {peer.name: {row.key: Samples() for row in table} for peer in peers}
    load_before = os.getloadavg()[0]
    try:
        for peer in peers:
            peer.start()
        material = Material(folder / "material", files)
        for peer in peers:
            load_background(peer, material)
        for run in range(runs):
            material.renew()
            _one_run(run, runs, table, peers, material, samples)
        subjects = [_subject(peer, samples[peer.name]) for peer in peers]
    finally:
        for peer in peers:
            peer.stop()
        destination.stop()
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    blank = Subject("–", "–", {row.key: Samples() for row in table}, 0.0, 0)
    ours, other = [*subjects, blank][:2]
    notes = (
        *_NOTES,
        f"Clients: {dcmtk_version()}, http.client.",
        # The bench itself adds about one or two; more than the cores means that others were at work.
        f"Load average of the machine: {load_before:.1f} before, {os.getloadavg()[0]:.1f} after.",
    )
    return markdown(table, ours, other, runs=runs, date=date, notes=notes)


def _one_run(
    run: int,
    runs: int,
    table: Sequence[Row],
    peers: Sequence[Peer],
    material: Material,
    samples: dict[str, dict[str, Samples]],
) -> None:
    for row in table:
        ordered = peers if run % 2 == 0 else list(reversed(peers))
        for peer in ordered:
            assert peer.usage is not None
            mine = samples[peer.name][row.key]
            os.sync()  # the write-back of one server's files must not fall into the other's time
            cpu_s = peer.usage.cpu_s()
            try:
                seconds = row.run(peer, material)
            except (AssertionError, OSError, LookupError, ValueError) as err:
                # A row that a server cannot do is a result too; the others go on.
                mine.failure = str(err).splitlines()[0][:120]
                print(f"run {run + 1}/{runs} {row.key:15} {peer.name:8} FAILED {err}", file=sys.stderr, flush=True)
                continue
            mine.seconds.append(seconds)
            mine.cpu_s.append(peer.usage.cpu_s() - cpu_s)
            print(f"run {run + 1}/{runs} {row.key:15} {peer.name:8} {seconds:8.3f} s", file=sys.stderr, flush=True)


def _subject(peer: Peer, samples: dict[str, Samples]) -> Subject:
    assert peer.usage is not None
    return Subject(peer.name, peer.version(), samples, peer.usage.cpu_s(), peer.usage.peak_bytes)


if __name__ == "__main__":
    sys.exit(main())
