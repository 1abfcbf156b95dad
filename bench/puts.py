"""What storing costs an index, beside what it cost another version of this program.

    git worktree add /tmp/before COMMIT
    python -m bench.puts --engine sqlite --against /tmp/before

CPU time of this process, and of mongod, for each ``Index.put`` of instances of a study that is there, of studies of a
hundred instances, and of studies of one; one instance a put, and 32. Both versions take turns, in processes of their
own with an index of their own, and the least of all rounds counts: what else the machine does only adds to it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

_HERE = Path(__file__).resolve().parent.parent
_SEED = 77
_GROUP = 32
# Title, instances of each study, whether the studies are there already, instances in all and instances a put.
_CASES = (
    ("Into a study that is there, one by one", 0, 1, 600),
    (f"Into a study that is there, {_GROUP} a put", 0, _GROUP, 3200),
    ("New studies of 100, one by one", 100, 1, 800),
    (f"New studies of 100, {_GROUP} a put", 100, _GROUP, 3200),
    ("New studies of one, one by one", 1, 1, 600),
    (f"New studies of one, {_GROUP} a put", 1, _GROUP, 3200),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.puts", description=__doc__)
    parser.add_argument("--engine", choices=("sqlite", "mongo"), default="sqlite")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another version's checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", metavar="URI", help=argparse.SUPPRESS)
    parser.add_argument("--pid", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure is not None:
        print(json.dumps(_measure(options.measure, options.pid)))
        return 0
    versions = [one for one in (options.against, _HERE) if one]
    best: list[dict[str, list[float]]] = [{} for _ in versions]
    with ExitStack() as stack:
        uri, pid = _server(options.engine, stack)
        for _ in range(options.rounds):
            for number, version in enumerate(versions):
                for title, found in _run(version, uri, pid).items():
                    known = best[number].setdefault(title, found)
                    best[number][title] = [min(one, other) for one, other in zip(known, found, strict=True)]
    print("\n".join(_table(best, with_server=options.engine == "mongo")))
    return 0


def _server(engine: str, stack: ExitStack) -> tuple[str, int]:
    if engine == "sqlite":
        return "", 0
    from scripts.local_cluster.mongod import ReplicaSet, find_mongod

    path = find_mongod()
    if path is None:
        raise SystemExit("no mongod that runs here")
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pacs-puts-"))
    mongo = stack.enter_context(ReplicaSet(path, Path(folder), cache_gb=1))
    with mongo.client(0) as client:
        return mongo.uri, int(client.admin.command("serverStatus")["pid"])


def _run(version: Path, uri: str, pid: int) -> dict[str, list[float]]:
    command = [sys.executable, __file__, "--measure", uri, "--pid", str(pid)]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(version)},
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def _table(best: Sequence[dict[str, list[float]]], *, with_server: bool) -> Iterator[str]:
    yield "| µs of CPU an instance |" + " before |" * (len(best) - 1) + " now | |"
    yield "|---|" + "---|" * (len(best) + 1)
    for title in best[-1]:
        sums = [sum(one[title]) for one in best]
        cells = [f"{sum(one[title]):.0f}" for one in best]
        if with_server:
            cells = [f"{sum(one[title]):.0f} ({one[title][1]:.0f} mongod)" for one in best]
        yield f"| {title} | {' | '.join(cells)} | {(sums[-1] / sums[0] - 1) * 100:+.1f} % |"


def _measure(uri: str, pid: int) -> dict[str, list[float]]:
    from pacs.index.base import Index

    found = {}
    with tempfile.TemporaryDirectory(prefix="pacs-puts-") as folder:
        index: Index
        if uri:
            from pacs.index.mongo import MongoIndex

            index = MongoIndex(uri, f"puts_{uuid4().hex[:8]}")
        else:
            from pacs.index.sqlite import SqliteIndex

            index = SqliteIndex(Path(folder) / "index.sqlite")
        with closing(index):
            first = 0
            for title, size, group, instances in _CASES:
                records, first = _records(first, size, instances)
                if size == 0:
                    index.put(records[:1])
                    del records[:1]
                groups = [records[at : at + group] for at in range(0, len(records), group)]
                own, server = time.process_time(), _cpu_s(pid)
                for one in groups:
                    index.put(one)
                spent = time.process_time() - own, _cpu_s(pid) - server
                found[title] = [seconds / len(records) * 1e6 for seconds in spent]
            if uri:
                index._client.drop_database(index._tables.meta.database.name)  # type: ignore[attr-defined]
    return found


def _records(first: int, size: int, instances: int) -> tuple[list, int]:  # type: ignore[type-arg]
    """Records of studies numbered from ``first`` on, and the number after the last; size 0: all of one series."""
    from bench.headers import Population, _Study, received_at

    population, records = Population(_SEED, 10**6), []
    while len(records) < instances:
        study = _Study(population, replace(population.plan(first), instances=size or instances))
        if size == 0:
            records = list(study._records(1, instances + 1, received_at(first)))
        else:
            records += [one for series in study.series(received_at(first)) for one in series]
        first += 1
    return records, first


def _cpu_s(pid: int) -> float:
    """Of another process; 0 for none."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    raise SystemExit(main())
