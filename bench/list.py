"""What a study list asks of an index of 100,000 studies: how long pages, words, orders and counts take.

    python -m bench.list --engine sqlite --output

Fills an index with studies of one instance each (``bench.headers``), a few in a hundred with labels, and measures
``Index.search`` in this process, over parameters that differ each time.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import median, quantiles

import orjson

from bench.headers import Population, received_at
from bench.million import _Mongo, _Sqlite
from bench.puts import cpu_s
from pacs.dicom.matching import Wildcard
from pacs.dicom.model import Level, Scope
from pacs.index.base import Fields, Index, Order, Query
from pacs.index.listing import LABELS
from pacs.index.work import RecordWrite

_OUTPUT = Path(__file__).with_name("LIST.md")
_GROUP = 128
_DATE, _NAME, _ID = "00080020", "00100010", "00100020"
_TAGS = frozenset({"00080061", "00201206", "00201208", "00081030", "0020000D"})
_PAGE = Query(Level.STUDY, {}, fields=Fields(frozenset({Level.PATIENT, Level.STUDY}), _TAGS), limit=100)
_LABELS = ("teaching", "trial:x", "urgent")
_LETTERS = 6


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.list", description=__doc__)
    parser.add_argument("--engine", choices=("sqlite", "mongo"), default="sqlite")
    parser.add_argument("--mongo", help="URI of a replica set; without it one is started")
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=60, help="parameters of each search (default 60)")
    parser.add_argument("--seed", type=int, default=1462)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="data folder that stays; filled if it is empty")
    parser.add_argument("--output", action="store_true", help="write the table to bench/LIST.md, in the engine's part")
    options = parser.parse_args(arguments)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="pacs-list-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            engine = _Sqlite(folder) if options.engine == "sqlite" else _Mongo(options.mongo, folder, stack)
            index = stack.enter_context(closing(engine.open()))
            pid = engine.server_pid() if isinstance(engine, _Mongo) else 0
            table = [*_filled(index, options.seed, options.studies), "", *_measured(index, options, pid)]
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    text = "\n".join((f"## {engine.name}", "", *table)) + "\n"
    print(text)
    if options.output:
        _write(engine.name, text)
    return 0


def _filled(index: Index, seed: int, studies: int) -> Iterator[str]:
    there = index.counts().studies
    population = Population(seed, studies)
    rates = []
    with ThreadPoolExecutor(4) as threads:
        for begin in range(there, studies, 2048):
            numbers = range(begin, min(begin + 2048, studies))
            records = [population.first(number, received_at(number)) for number in numbers]
            groups = [records[at : at + _GROUP] for at in range(0, len(records), _GROUP)]
            began = time.perf_counter()
            list(threads.map(index.put, groups))
            rates.append(len(records) / (time.perf_counter() - began))
            labelled = [record.header.target.study_uid for record in records[::20]]
            index.work.write_records(
                [
                    RecordWrite(LABELS, uid, orjson.dumps(sorted(_LABELS[: 1 + at % len(_LABELS)])))
                    for at, uid in enumerate(labelled)
                ]
            )
    if rates:
        first, last = median(rates[:5]), median(rates[-5:])
        yield f"New studies of one instance each put: {first:,.0f} a second at first, {last:,.0f} at the end."


def _measured(index: Index, options: argparse.Namespace, pid: int) -> Iterator[str]:
    yield f"{index.counts().studies:,} studies; ms, {options.queries} searches each."
    yield ""
    yield "| | median | p95 | longest | p95 of this process's CPU | mean of mongod's |"
    yield "|---|---|---|---|---|---|"
    for title, queries in _searches(options):
        times, busy, server_s = [], [], cpu_s(pid)
        for query in queries:
            began, cpu_began = time.perf_counter(), time.process_time()
            index.search(query)
            times.append((time.perf_counter() - began) * 1e3)
            busy.append((time.process_time() - cpu_began) * 1e3)
        p95, cpu = (quantiles(one, n=20)[-1] for one in (times, busy))
        server = f"{(cpu_s(pid) - server_s) / len(queries) * 1e3:.1f}" if pid else ""
        yield f"| {title} | {median(times):.1f} | {p95:.1f} | {max(times):.1f} | {cpu:.1f} | {server} |"
    for title, call in (("Labels of all studies", lambda: index.label_counts()),):
        yield f"| {title} | {_timed(call):.1f} | | | | |"


def _timed(call: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1e3)
    return median(times)


def _searches(options: argparse.Namespace) -> Iterator[tuple[str, list[Query]]]:
    random, population = Random(options.seed), Population(options.seed, options.studies)
    number = options.queries
    plans = [population.plan(random.randrange(options.studies)) for _ in range(number)]
    surnames = [plan.patient_name.partition("^")[0] for plan in plans]
    by_date = Order(_DATE, is_descending=True)
    yield "First page, in the order of storage", [_PAGE] * number
    for tag, name in ((_DATE, "StudyDate"), (_NAME, "PatientName"), (_ID, "PatientID")):
        yield f"First page by {name}", [replace(_PAGE, order=Order(tag, at % 2 > 0)) for at in range(number)]
        deep = [replace(_PAGE, order=Order(tag, at % 2 > 0), offset=options.studies // 2) for at in range(number)]
        yield f"Offset {options.studies // 2:,} by {name}", deep
    for tag, name in (("00201208", "NumberOfStudyRelatedInstances"), ("00081030", "StudyDescription")):
        yield f"First page by {name}", [replace(_PAGE, order=Order(tag)) for _ in range(number)]
    for letters in range(1, _LETTERS + 1):
        texts = [replace(_PAGE, text=name[:letters]) for name in surnames]
        yield f"{letters} letters of a name", texts
        yield f"{letters} letters of a name, by StudyDate", [replace(one, order=by_date) for one in texts]
    commons = ["ct", "m", "1", "2", "20", "ct 20", "mr ab", "us 2019", "2015", "c m"]
    common = [replace(_PAGE, text=commons[at % len(commons)]) for at in range(number)]
    yield "Common words", common
    yield "Common words, by StudyDate", [replace(one, order=by_date) for one in common]
    yield "Common words, by PatientName", [replace(one, order=Order(_NAME)) for one in common]
    yield "Common words, counted", [replace(one, limit=1, count=True) for one in common]
    ids = [replace(_PAGE, text=plan.patient_id, order=by_date, count=True) for plan in plans]
    yield "A Patient ID, by StudyDate, counted", ids
    filters = [replace(_PAGE, keys={(_NAME,): Wildcard(f"*{name[:3]}*")}) for name in surnames]
    yield "Filter of the name column", filters
    yield "Filter of the name column, by StudyDate", [replace(one, order=by_date) for one in filters]
    scopes = [Scope(modalities=frozenset({("CT", "MR", "US")[at % 3]})) for at in range(number)]
    yield "Scope of a modality, by StudyDate", [replace(_PAGE, scope=one, order=by_date) for one in scopes]
    yield "Scope of a modality, counted", [replace(_PAGE, scope=one, limit=1, count=True) for one in scopes]
    labels = [frozenset({_LABELS[at % len(_LABELS)]}) for at in range(number)]
    yield (
        "Studies with a label, by StudyDate, counted",
        [replace(_PAGE, labels=one, order=by_date, count=True) for one in labels],
    )


def _write(name: str, text: str) -> None:
    before = _OUTPUT.read_text() if _OUTPUT.exists() else "# Lists of 100,000 studies\n"
    title, *parts = before.split("\n## ")
    kept = [f"## {part.rstrip()}\n" for part in parts if not part.startswith(f"{name}\n")]
    _OUTPUT.write_text("\n".join((f"{title.rstrip()}\n", *sorted((*kept, text)))))


if __name__ == "__main__":
    raise SystemExit(main())
