"""Run the side-by-side benchmark and write its table, its raw figures and its plot."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from bench import disk, plot, rows_process, rows_read, rows_store
from bench.clients import storescu
from bench.material import Counts, Material
from bench.peers import Destination, Peer, dcmtk_version
from bench.report import markdown
from bench.results import OTHER, OURS, Line, Results, Samples, machine
from bench.rows import Row, Timing
from bench.subjects import KEYS, missing, subjects
from bench.warm import filled_page_cache

_OVER_MANY = {"qido-page", "qido-name"}  # rows that need the studies of the background
_OUTPUT = Path(__file__).with_name("RESULTS.md")
_NOTES = (
    "All archives run at the same time on the same machine, each with a data folder of its own; requests go to one at "
    "a time, in turns, with a sync of the disk between, and the order of the archives changes from run to run. All get "
    "the same files from the same clients. The first run of all rows warms up and is thrown away.",
    "The page cache is filled before the archives start, as it is on a server that has run for a day: a virtual "
    "machine has to ask its host for memory that was not in use, which costs more than storing an image does.",
    "TCP_NODELAY=1 in the environment of Orthanc and of DCMTK's tools: without it every exchange of theirs waits 40 ms "
    "for a delayed acknowledgement.",
    "Orthanc is tuned by its documentation: KeepAlive, TcpNoDelay, more threads, a larger storage cache, no "
    "compression, no MD5 of attachments, no saved jobs. Metadata stay `Full`: its faster modes leave attributes out.",
    "Durability: Orthanc fsyncs each file (SyncStorageArea) but not each commit of its SQLite index (WAL, "
    "`synchronous=NORMAL`: a power cut may take the last); pacs answers after fsync of the file and a "
    "`synchronous=FULL` commit, on MongoDB after a commit with `w: majority` and journal.",
    "The disk alone: the files of the row, written and fsynced by as many processes as it has senders (STOW-RS and "
    "import: by one, all at its end), without archive, index and client. A bar beyond it is out of reach here.",
    "Searches and metadata: each archive answers with its own default attributes; the number of rows is checked. "
    "C-FIND asks for SOP Class UID too, which Orthanc of this age reads from the files; a row shows it without. The "
    "page over few studies was measured before the others were stored. Frames, rendered "
    "and thumbnails: each request is for an instance that was stored a while ago and that nobody has read yet, so no "
    'answer comes from a cache of the archive; the rows "again" show what its cache brings.',
    "Import: `pacs import FOLDER` beside the running server, its whole process with its CPU time; Orthanc: POST to "
    "/instances over four kept connections, without the client's CPU time.",
    "Times of DCMTK's tools include starting the tool. Short requests are means of several over one kept connection.",
    "Memory: anonymous pages of the process tree (shared ones divided among its processes) and mapped files once.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.redraw:
        _write(Results.read(options.redraw), options.redraw.with_name("RESULTS.md"))
        return 0
    if lacking := missing(set(options.subjects)):
        print(f"not installed: {', '.join(lacking)}; scripts/bench installs what it can", file=sys.stderr)
        return 2
    is_whole = not (options.quick or options.only) and options.subjects == list(KEYS)
    output = options.output or (_OUTPUT if is_whole else None)
    folder = Path(tempfile.mkdtemp(prefix="pacs-bench-", dir=options.folder))
    try:
        with nullcontext() if options.quick else filled_page_cache(folder):
            results = _compare(folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(markdown(results))
    if output:
        _write(results, output)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs that count (default 5)")
    parser.add_argument("--quick", action="store_true", help="one run with few files: does it work at all?")
    parser.add_argument("--only", default="", help="comma-separated keys of rows")
    parser.add_argument(
        "--subjects", type=_subjects, default=list(KEYS), help=f"comma-separated (default: {','.join(KEYS)})"
    )
    parser.add_argument("--folder", type=Path, help="where data folders are made (default: the temporary folder)")
    parser.add_argument(
        "--output",
        type=Path,
        help="table to write, with results.json and results.png beside it (default: bench/RESULTS.md if whole)",
    )
    parser.add_argument("--redraw", type=Path, metavar="JSON", help="measure nothing: table and plot of these figures")
    return parser


def _subjects(text: str) -> list[str]:
    wanted = text.split(",")
    if unknown := set(wanted) - set(KEYS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not of {', '.join(KEYS)}")
    return [key for key in KEYS if key in wanted]


def _table(counts: Counts, only: str) -> list[Row]:
    """In the order in which they run: what the first store is read by the others."""
    table = [
        *rows_read.early_rows(counts),
        *rows_store.rows(counts),
        *rows_read.rows(counts),
        rows_store.import_row(counts),
        *rows_process.rows(),
    ]
    if not only:
        return table
    wanted = set(only.split(","))
    if unknown := wanted - {row.key for row in table}:
        raise SystemExit(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(row.key for row in table)}")
    return [row for row in table if row.key in wanted]


def _compare(folder: Path, options: argparse.Namespace) -> Results:
    counts = Counts.quick() if options.quick else Counts()
    runs = 1 if options.quick else options.runs
    # A run to warm up, which does not count; --quick has no figures that matter.
    passes = [0, *range(1, runs + 1)] if not options.quick else [1]
    table = _table(counts, options.only)
    began = time.monotonic()
    load_before = os.getloadavg()[0]
    print("making files", file=sys.stderr, flush=True)
    material = Material(folder / "material", counts)
    destination = Destination(folder)
    try:
        with subjects(options.subjects, folder, destination.port) as peers:
            results = Results(
                date=datetime.now(UTC).strftime("%Y-%m-%d"),
                runs=runs,
                machine=machine(),
                lines=[Line(**{name: getattr(row, name) for name in Line.__dataclass_fields__}) for row in table],
                names={peer.key: peer.name for peer in peers},
                versions={peer.key: peer.version() for peer in peers},
                samples={peer.key: {row.key: Samples() for row in table} for peer in peers},
            )
            _load(peers, material.few)
            for number in passes:
                _one_run(number, runs, [row for row in table if row.is_early], peers, material, results)
            if _OVER_MANY & {row.key for row in table}:
                _load(peers, material.background)
            for number in passes:
                material.renew()
                for peer in peers:
                    peer.begin_run()
                _one_run(
                    number, runs, [row for row in table if not (row.is_early or row.is_last)], peers, material, results
                )
                _disk_run(number, runs, table, folder / f"disk-{number}", material, results)
            _one_run(runs, runs, [row for row in table if row.is_last], peers, material, results)
            for peer in peers:
                results.cpu_s[peer.key] = peer.cpu_s()
            own = [note for peer in peers for note in peer.notes()]
    finally:
        destination.stop()
    results.notes = [
        *_NOTES,
        *own,
        # The bench itself adds about two; more than that means that others were at work.
        f"Clients: plain sockets for HTTP, {dcmtk_version()}. {(time.monotonic() - began) / 60:.0f} minutes in all. "
        f"Load average of the machine: {load_before:.1f} before, {os.getloadavg()[0]:.1f} after.",
    ]
    return results


def _load(peers: Sequence[Peer], folders: Sequence[Path]) -> None:
    """Studies that stay in the archive, so that a search has something to leave out."""
    for peer in peers:
        if peer.has_web:
            print(
                f"{peer.key}: storing {sum(len(list(folder.iterdir())) for folder in folders)} studies", file=sys.stderr
            )
            storescu(peer, *folders)


def _one_run(
    number: int, runs: int, table: Sequence[Row], peers: Sequence[Peer], material: Material, results: Results
) -> None:
    for row in table:
        for peer in peers if number % 2 == 0 else reversed(peers):
            mine = results.samples[peer.key][row.key]
            if reason := row.why_not(peer):
                mine.failure = reason
                continue
            word = f"run {number}/{runs} {row.key:15} {peer.key:8}"
            try:
                timing, cpu_s = _measured(row, peer, material)
            except (AssertionError, OSError, LookupError, ValueError, RuntimeError) as err:
                # A row that an archive cannot do is a result too; the others go on.
                mine.failure = f"failed: {(str(err) or repr(err)).splitlines()[0][:120]}"
                print(f"{word} FAILED {err}\n{peer.log_tail()}", file=sys.stderr, flush=True)
                continue
            print(f"{word} {timing.value:10.4f} {'MB' if row.in_mb else 's'}", file=sys.stderr, flush=True)
            if number:
                mine.values.append(timing.value)
                mine.cpu_s.append(cpu_s)


def _disk_run(number: int, runs: int, table: Sequence[Row], folder: Path, material: Material, results: Results) -> None:
    for key, write in disk.rows(table).items():
        os.sync()
        seconds = write(material, folder / key)
        print(f"run {number}/{runs} {key:15} {'disk':8} {seconds:10.4f} s", file=sys.stderr, flush=True)
        if number:
            results.disk.setdefault(key, Samples()).values.append(seconds)


def _measured(row: Row, peer: Peer, material: Material) -> tuple[Timing, float]:
    """One value, and the CPU seconds behind it."""
    if row.before:
        row.before(peer, material)
    os.sync()  # the write-back of one archive's files must not fall into another's time
    before = peer.cpu_s()
    found = row.run(peer, material)
    timing = found if isinstance(found, Timing) else Timing(found)
    return timing, (peer.cpu_s() - before + timing.cpu_s) / row.repeats


def _write(results: Results, table: Path) -> None:
    """Figures first: what was measured must not be lost to a fault of the plot."""
    picture = table.with_name("results.png")
    has_ratios = OTHER in results.names and OURS in results.names
    table.parent.mkdir(parents=True, exist_ok=True)
    results.write(table.with_name("results.json"))
    table.write_text(markdown(results, picture.name if has_ratios else ""))
    if has_ratios:
        plot.ratios(results, picture)


if __name__ == "__main__":
    sys.exit(main())
