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
import http.client
import shutil
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from random import Random
from statistics import median, quantiles
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from bench.growth import Growth, Search, Size, markdown, plot, read, write
from bench.headers import DAYS, FIRST_DAY, MEAN_INSTANCES, YEARS, Plan, Population, received_at
from pacs.dicom.model import InstanceRecord
from pacs.dimse import negotiation
from pacs.dimse.association import Association
from pacs.dimse.command import HAS_DATA_SET, Command, Field
from pacs.dimse.negotiation import Proposal, ProposedContext
from pacs.dimse.wire import Wire
from pacs.index.base import Index
from scripts.local_cluster.mongod import ReplicaSet, find_mongod
from tests.server import Server

_OUTPUT = Path(__file__).with_name("MILLION.md")
_STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_EXPLICIT = "1.2.840.10008.1.2.1"
_BATCH = 2048  # instances prepared before the clock runs
_RATE_WINDOW = 20  # batches that a rate is the median of
_LIMIT = 50
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


# --- searching ---


@dataclass(frozen=True)
class _Search:
    """asked: (what to send, least and most rows of the answer). is_growing: the answer grows with the archive."""

    key: str
    title: str
    asked: list[tuple[Any, int, int]]
    is_growing: bool = False


def _searches(population: Population, studies: int, count: int) -> list[_Search]:
    plans = [population.plan(number) for number in range(studies)]
    random = Random(f"searches/{studies}")
    some = [random.choice(plans) for _ in range(count)]
    return [
        _Search("patient", "QIDO studies of one patient", [_studies(PatientID=plan.patient_id) for plan in some]),
        _Search("dates", f"QIDO date range of about 100 studies, page of {_LIMIT}", list(_dates(random, plans, count))),
        _Search(
            "year",
            "QIDO date range of a year, page of 100",
            [_studies(100, StudyDate=_range(random.randrange(DAYS - 365), 365)) for _ in range(count)],
            is_growing=True,
        ),
        _Search("prefix", "QIDO name, AB*, 10 to 50 studies", list(_names(random, plans, count, is_prefix=True))),
        _Search("infix", "QIDO name, *ABC*, 1 to 50 studies", list(_names(random, plans, count, is_prefix=False))),
        _Search(
            "series",
            "QIDO series of a study",
            [(f"/studies/{plan.study_uid}/series", 1, 100) for plan in _alike(population, plans, random, count)],
        ),
        _Search(
            "images",
            "C-FIND images of a study",
            [(plan.study_uid, plan.instances, plan.instances) for plan in _alike(population, plans, random, count)],
        ),
    ]


def _studies(limit: int = 100, least: int = 0, most: int = 10**6, **keys: str) -> tuple[str, int, int]:
    return f"/studies?{urlencode({**keys, 'limit': limit}, quote_via=quote)}", least, min(most, limit)


def _range(first: int, days: int) -> str:
    begin = FIRST_DAY + timedelta(days=first)
    return f"{begin:%Y%m%d}-{begin + timedelta(days=days - 1):%Y%m%d}"


def _dates(random: Random, plans: list[Plan], count: int) -> Iterator[tuple[str, int, int]]:
    days = min(DAYS - 1, max(1, round(100 * DAYS / len(plans))))
    for _ in range(count):
        yield _studies(_LIMIT, StudyDate=_range(random.randrange(DAYS - days), days))


def _names(random: Random, plans: list[Plan], count: int, *, is_prefix: bool) -> Iterator[tuple[str, int, int]]:
    """Parts of names that as many studies have at every size."""
    names = [plan.patient_name.partition("^")[0] for plan in plans]
    found = 0
    seen: dict[str, int] = {}
    tried = 0
    while found < count:
        tried += 1
        name = random.choice(names)
        if is_prefix:
            part = name[: random.randrange(1, len(name) + 1)]
        else:
            start = random.randrange(0, max(1, len(name) - 2))
            part = name[start : start + random.choice((2, 3, 4))]
        if not part.isascii():
            continue
        if part not in seen:
            seen[part] = sum(one.startswith(part) if is_prefix else part in one for one in names)
        least = 10 if is_prefix and tried < 20 * count else 1
        if least <= seen[part] <= 50:
            found += 1
            yield _studies(100, PatientName=f"{part}*" if is_prefix else f"*{part}*", least=seen[part])


def _alike(population: Population, plans: list[Plan], random: Random, count: int) -> list[Plan]:
    """Studies with as many instances at every size: those of the first ones."""
    by_size: dict[int, list[Plan]] = {}
    for plan in plans:
        by_size.setdefault(plan.instances, []).append(plan)
    wanted = Random("sizes")
    return [
        random.choice(by_size[population.plan(wanted.randrange(min(100, len(plans)))).instances]) for _ in range(count)
    ]


class _Web:
    """QIDO-RS over one kept connection."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=120)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, path: str) -> int:
        """Rows of the answer."""
        self._connection.request("GET", f"/dicom-web{path}", headers={"Accept": "application/dicom+json"})
        response = self._connection.getresponse()
        answer = response.read()
        assert response.status in (200, 204), f"{path}: {response.status} {answer[:300]!r}"
        # Every row has one Retrieve URL.
        return answer.count(b'"00081190"')

    def close(self) -> None:
        self._connection.close()


class _Dimse:
    """C-FIND of images over one association; answers are counted, not parsed."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.dimse_port), 30)
        wire = Wire(self._socket, 60)
        proposed = (ProposedContext(1, _STUDY_FIND, (_EXPLICIT,)),)
        wire.send(negotiation.request(Proposal(server.ae_title, "MILLION", proposed, 131072, {})))
        _, length = wire.header()
        accepted = negotiation.parse_accept(bytes((2, 0)) + length.to_bytes(4, "big") + wire.payload(length), proposed)
        self._association = Association(wire, accepted, 131072)
        self._message_id = 0

    def ask(self, study_uid: str) -> int:
        self._message_id = self._message_id % 60000 + 1
        command = Command(
            field=Field.C_FIND,
            sop_class_uid=_STUDY_FIND,
            message_id=self._message_id,
            priority=0,
            data_set_type=HAS_DATA_SET,
        )
        self._association.send(1, command, _identifier(study_uid))
        rows = 0
        while True:
            message = self._association.response(self._message_id)
            if not message.command.has_data_set:
                assert message.command.status == 0, message.command
                return rows
            message.data_set()
            rows += 1

    def close(self) -> None:
        self._socket.close()


def _identifier(study_uid: str) -> bytes:
    def element(tag: tuple[int, int], vr: str, value: str) -> bytes:
        data = value.encode() + (b"" if len(value) % 2 == 0 else b"\0" if vr == "UI" else b" ")
        group, number = tag
        return (
            group.to_bytes(2, "little")
            + number.to_bytes(2, "little")
            + vr.encode()
            + len(data).to_bytes(2, "little")
            + data
        )

    return (
        element((0x0008, 0x0016), "UI", "")
        + element((0x0008, 0x0018), "UI", "")
        + element((0x0008, 0x0052), "CS", "IMAGE")
        + element((0x0020, 0x000D), "UI", study_uid)
        + element((0x0020, 0x000E), "UI", "")
        + element((0x0020, 0x0013), "IS", "")
    )


def _measure(server: Server, searches: Sequence[_Search]) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds of each search: of the first time, and of the second."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    with closing(_Web(server)) as web, closing(_Dimse(server)) as dimse:
        for _ in range(50):
            web.ask("/studies?limit=1")  # the server itself is warm before anything counts
        for search in searches:
            ask: Callable[[Any], int] = dimse.ask if search.key == "images" else web.ask
            passes = []
            for _ in range(2):
                seconds = []
                for asked, least, most in search.asked:
                    began = time.perf_counter()
                    rows = ask(asked)
                    seconds.append(time.perf_counter() - began)
                    assert least <= rows <= most, f"{search.key} {asked}: {rows} rows, not {least} to {most}"
                passes.append(seconds)
            found[search.key] = (passes[0], passes[1])
    return found


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
            found = _searches(population, filler.studies, options.queries)
            size = Size(
                filler.instances,
                filler.studies,
                rate=median(rates),
                slowest=min(rates),
                cpu_us=median(cpu_us),
                bytes_each=engine.size_bytes() / filler.instances,
            )
            with Server(folder, engine.environment) as server:
                seconds = _measure(server, found)
            for search in found:
                turns = seconds[search.key]
                size.searches[search.key] = Search(
                    search.title, search.is_growing, [median(turn) for turn in turns], [_p95(turn) for turn in turns]
                )
            growth.sizes.append(size)
            growth.about = (
                f"{datetime.now(UTC):%Y-%m-%d}. {size.studies:,} studies over {YEARS} years, CT, MR and US of three "
                f"vendors; {options.threads} senders, {options.group} instances a put. Searches through the real "
                f"server, {options.queries} different parameters each: median / 95th percentile in ms, the first time and "
                "once more. "
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
