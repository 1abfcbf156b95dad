"""A million instances in an index: how fast they go in, how much room they take, and what searches cost then.

    python -m bench.million --engine sqlite --instances 1000000

Fills an index with the headers of ``bench.headers`` (no files), and stops at each size to measure: the rate of
``Index.put`` over the last instances (making the headers is not part of it), bytes on disk, and searches by QIDO-RS and
C-FIND through the real server. Each search runs over 200 different parameters, then over the same ones again.
Parameters are chosen so that answers are as long at every size: it is the index that grows, not the answer.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from statistics import median, quantiles
from urllib.parse import urlsplit

from bench.growth import Growth, Search, Size, markdown, plot, read, write
from bench.headers import MEAN_INSTANCES, YEARS, Population, received_at
from bench.searches import measure, searches
from pacs.dicom.model import InstanceRecord
from pacs.index.base import Index
from scripts.local_cluster.mongod import ReplicaSet, find_mongod
from tests.server import Server

_OUTPUT = Path(__file__).with_name("MILLION.md")
_BATCH = 2048  # instances prepared before the clock runs
_RATE_WINDOW = 20  # batches that a rate is the median of
_SAY_S = 20  # between two words on how far it is


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.resume:
        options.resume.mkdir(parents=True, exist_ok=True)
    folder = options.resume or Path(tempfile.mkdtemp(prefix="pacs-million-", dir=options.folder))
    try:
        with ExitStack() as stack:
            engine = _Sqlite(folder) if options.engine == "sqlite" else _Mongo(options.mongo, folder, stack)
            growth = _run(engine, folder, options)
    finally:
        if options.keep or options.resume:
            _say(f"left in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(markdown(growth))
    if options.output:
        figures = options.output.with_name("growth.json")
        engines = {**read(figures), options.engine: growth}
        write(figures, engines)
        picture = options.output.with_name("growth.png")
        parts = ["# An index of a million instances", f"![Ingest and searches by size]({picture.name})"]
        options.output.write_text("\n\n".join([*parts, *(markdown(one).rstrip() for one in engines.values())]) + "\n")
        plot(engines, picture)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.million", description=__doc__)
    parser.add_argument("--engine", choices=("sqlite", "mongo"), default="sqlite")
    parser.add_argument("--mongo", help="URI of a replica set; without it one is started")
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=4, help="senders at a time (default 4)")
    parser.add_argument("--group", type=int, default=32, help="instances a put (default 32)")
    parser.add_argument("--queries", type=int, default=200, help="parameters of each search (default 200)")
    parser.add_argument("--seed", type=int, default=1462)
    parser.add_argument("--folder", type=Path, help="where the data folder is made (default: the temporary folder)")
    parser.add_argument(
        "--resume", type=Path, metavar="FOLDER", help="data folder that stays: a run that was cut off goes on from it"
    )
    parser.add_argument("--keep", action="store_true", help="leave the data folder there")
    parser.add_argument(
        "--output",
        type=Path,
        nargs="?",
        const=_OUTPUT,
        help="table to write, with growth.json and growth.png beside it; the other engine's part stays"
        " (without a name: bench/MILLION.md; default: none)",
    )
    return parser


# --- engines ---


class _Sqlite:
    name = "SQLite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.environment: dict[str, str] = {}

    def open(self) -> Index:
        from pacs.index.sqlite import SqliteIndex

        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        self._path = data / "index.sqlite"
        return SqliteIndex(self._path)

    def size_bytes(self) -> int:
        """The file, once the write-ahead log is folded in."""
        with closing(sqlite3.connect(self._path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self._path.stat().st_size


class _Mongo:
    name = "MongoDB"
    _DATABASE = "million"

    def __init__(self, uri: str | None, folder: Path, stack: ExitStack) -> None:
        if uri is None:
            path = find_mongod()
            if path is None:
                raise SystemExit("no mongod that runs here: give --mongo")
            mongo = ReplicaSet(path, folder / "mongod", cache_gb=4)
            # A set that is resumed listens where it did: its configuration names the port.
            port = folder / "mongod.port"
            if port.exists():
                mongo.ports[0] = int(port.read_text())
            port.write_text(str(mongo.ports[0]))
            uri = stack.enter_context(mongo).uri
        self._uri = uri
        parts = urlsplit(uri)
        self.environment = {
            "MONGODB_HOSTS": f'["{parts.hostname}"]',
            "MONGODB_PORTS": f"[{parts.port or 27017}]",
            "MONGODB_NAME": self._DATABASE,
            "MONGODB_OPTIONS": parts.query,
        }

    def open(self) -> Index:
        from pacs.index.mongo import MongoIndex  # type: ignore[import-not-found, unused-ignore]

        index: Index = MongoIndex(self._uri, self._DATABASE)
        return index

    def server_pid(self) -> int:
        import pymongo

        with pymongo.MongoClient(self._uri) as client:
            return int(client.admin.command("serverStatus")["pid"])

    def size_bytes(self) -> int:
        """Documents as they lie on disk, and indexes."""
        import pymongo

        with pymongo.MongoClient(self._uri) as client:
            client.admin.command("fsync")
            stats = client[self._DATABASE].command("dbStats")
        return int(stats["storageSize"] + stats["indexSize"])


# --- filling ---


class _Filler:
    """Puts studies one after the other, several senders at a time as several modalities would."""

    def __init__(self, index: Index, population: Population, threads: int, group: int) -> None:
        self._index = index
        self._population = population
        self._group = group
        self._threads = threads
        self.studies = 0
        self.instances = 0
        self.rates: list[float] = []  # instances a second, a batch each
        self.cpu_us: list[float] = []  # of this process, an instance
        self._ends: list[int] = []  # instances after each batch
        self._said = time.monotonic()

    def fill(self, instances: int) -> None:
        """Until the index has so many; small sizes by small batches, so that they have several."""
        batch = max(256, min(_BATCH, instances // 8))
        while self.instances < instances:
            self._batch(min(batch, instances - self.instances))
            self._ends.append(self.instances)
            if time.monotonic() - self._said > _SAY_S:
                self._said = time.monotonic()
                _say(f"  {self.instances:,} of {instances:,}, {self.rates[-1]:,.0f}/s")

    def window(self) -> tuple[list[float], list[float]]:
        """Rates and CPU times of the last batches, but of none that belongs to less than half the size."""
        count = sum(end > self.instances / 2 for end in self._ends[-_RATE_WINDOW:])
        return self.rates[-count:], self.cpu_us[-count:]

    def _batch(self, least: int) -> None:
        senders: list[list[list[InstanceRecord]]] = [[] for _ in range(self._threads)]
        count = 0
        while count < least:
            # A study comes over one association.
            mine = min(senders, key=lambda groups: sum(map(len, groups)))
            for series in self._population.records(self.studies, received_at(self.studies)):
                count += len(series)
                mine += [series[start : start + self._group] for start in range(0, len(series), self._group)]
            self.studies += 1
        failures: SimpleQueue[BaseException] = SimpleQueue()

        def send(groups: list[list[InstanceRecord]]) -> None:
            try:
                for group in groups:
                    self._index.put(group)
            except BaseException as error:  # noqa: BLE001 - raised below
                failures.put(error)

        for sender in senders:
            for group in sender:
                for record in group:
                    _ = record.header.json  # part of receiving, not of the index
        threads = [threading.Thread(target=send, args=(groups,)) for groups in senders]
        gc.collect()
        gc.freeze()  # the headers that wait here would cost every collection
        began, cpu_began = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.rates.append(count / (time.perf_counter() - began))
        self.cpu_us.append((time.process_time() - cpu_began) / count * 1e6)
        gc.unfreeze()
        if not failures.empty():
            raise failures.get()
        self.instances += count


# --- the run ---


def _run(engine: _Sqlite | _Mongo, folder: Path, options: argparse.Namespace) -> Growth:
    population = Population(options.seed, options.instances // MEAN_INSTANCES)
    state = folder / "growth.json"
    growth = read(state).get(options.engine, Growth(engine.name, ""))
    if not growth.sizes:
        with Server(folder, engine.environment):
            pass  # an index that is still empty gets to know the store, which will hold none of its files
    with closing(engine.open()) as index:
        filler = _Filler(index, population, options.threads, options.group)
        if growth.sizes:
            filler.studies, filler.instances = growth.sizes[-1].studies, growth.sizes[-1].instances
            _say(f"goes on after {filler.instances:,} instances")
        for instances in _stops(options.instances):
            if instances <= filler.instances:
                continue
            began = time.perf_counter()
            filler.fill(instances)
            rates, cpu_us = filler.window()
            found = searches(population, filler.studies, options.queries)
            size = Size(
                filler.instances,
                filler.studies,
                rate=median(rates),
                slowest=min(rates),
                cpu_us=median(cpu_us),
                bytes_each=engine.size_bytes() / filler.instances,
            )
            with Server(folder, engine.environment) as server:
                seconds = measure(server, found)
            for search in found:
                turns = seconds[search.key]
                size.searches[search.key] = Search(
                    search.title, search.is_growing, [median(turn) for turn in turns], [_p95(turn) for turn in turns]
                )
            growth.sizes.append(size)
            growth.about = (
                f"{datetime.now(UTC):%Y-%m-%d}. {size.studies:,} studies over {YEARS} years, CT, MR and US of three "
                f"vendors; {options.threads} senders, {options.group} instances a put. Searches through the real "
                f"server, {options.queries} different parameters each: median / 95th percentile in ms, the first time "
                "and once more. "
                "Bars: ingest against the best at a smaller size of 10,000 or more, p95 against the two smallest sizes."
            )
            write(state, {options.engine: growth})
            _say(
                f"{size.instances:,} instances: {size.rate:,.0f}/s, {size.cpu_us:.0f} us of CPU,"
                f" {size.bytes_each:,.0f} bytes each, in {time.perf_counter() - began:.0f} s; "
                + ", ".join(
                    f"{key} {search.p95_s[0] * 1e3:.1f}/{search.p95_s[1] * 1e3:.1f}"
                    for key, search in size.searches.items()
                )
            )
    return growth


def _stops(instances: int) -> list[int]:
    return [size for size in (1_000, 10_000, 100_000) if size < instances] + [instances]


def _p95(seconds: list[float]) -> float:
    return quantiles(seconds, n=20)[-1]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
