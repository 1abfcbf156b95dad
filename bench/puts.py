"""What storing costs an index, beside what it cost another version of this program.

    git worktree add /tmp/before COMMIT
    python -m bench.puts --engine sqlite --against /tmp/before

CPU time of this process, and of mongod, for each ``Index.put`` of instances of a study that is there, of studies of a
hundred instances, and of studies of one; one instance a put, and 32. Each version has a process and an index of its
own; they take turns after every few puts, so that what else the machine does slows both, and medians count.
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
from statistics import median
from uuid import uuid4

_HERE = Path(__file__).resolve().parent.parent
_SEED = 77
_GROUP = 32
# Title, instances of each study (0: all of one that is there), instances a put and instances a turn.
_CASES = (
    ("Into a study that is there, one by one", 0, 1, 20),
    (f"Into a study that is there, {_GROUP} a put", 0, _GROUP, 160),
    ("New studies of 100, one by one", 100, 1, 25),
    (f"New studies of 100, {_GROUP} a put", 100, _GROUP, 160),
    ("New studies of one, one by one", 1, 1, 20),
    (f"New studies of one, {_GROUP} a put", 1, _GROUP, 160),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.puts", description=__doc__)
    parser.add_argument("--engine", choices=("sqlite", "mongo"), default="sqlite")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another version's checkout")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--measure", metavar="URI", help=argparse.SUPPRESS)
    parser.add_argument("--pid", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure is not None:
        _measure(options.measure, options.pid, options.turns)
        return 0
    versions = [one for one in (options.against, _HERE) if one]
    with ExitStack() as stack:
        uri, pid = _server(options.engine, stack)
        children = [stack.enter_context(_child(version, uri, pid, options.turns)) for version in versions]
        print("\n".join(_head(len(children))), flush=True)
        for title, *_ in _CASES:
            spent: list[list[list[float]]] = [[] for _ in children]
            for turn in range(options.turns):
                for number in range(len(children))[:: 1 if turn % 2 else -1]:
                    spent[number].append(_turn(children[number]))
            print(_row(title, spent), flush=True)
    return 0


def _child(version: Path, uri: str, pid: int, turns: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--measure", uri, "--pid", str(pid), "--turns", str(turns)]
    environment = {**os.environ, "PYTHONPATH": str(version)}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _turn(child: subprocess.Popen[str]) -> list[float]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    found: list[float] = json.loads(child.stdout.readline())
    return found


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


def _head(versions: int) -> Iterator[str]:
    yield "| µs of CPU an instance |" + " before |" * (versions - 1) + " now | |"
    yield "|---|" + "---|" * (versions + 1)


def _row(title: str, spent: Sequence[Sequence[Sequence[float]]]) -> str:
    """spent: of each version, each turn's time of the process and of mongod."""
    medians = [[median(one) for one in zip(*turns, strict=True)] for turns in spent]
    sums = [sum(one) for one in medians]
    cells = [f"{own + server:.0f}" + (f" ({server:.0f} mongod)" if server else "") for own, server in medians]
    return f"| {title} | {' | '.join(cells)} | {(sums[-1] / sums[0] - 1) * 100:+.1f} % |"


def _measure(uri: str, pid: int, turns: int) -> None:
    """Put a turn's instances for each line that comes in."""
    from pacs.index.base import Index

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
            for _, size, group, instances in _CASES:
                records, first = _records(first, size, instances * turns)
                if size == 0:
                    index.put(records[:1])
                    del records[:1]
                for begin in range(0, instances * turns, instances):
                    sys.stdin.readline()
                    own, server = time.process_time(), cpu_s(pid)
                    for at in range(begin, begin + instances, group):
                        index.put(records[at : min(at + group, begin + instances)])
                    spent = time.process_time() - own, cpu_s(pid) - server
                    print(json.dumps([seconds / instances * 1e6 for seconds in spent]), flush=True)


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


def cpu_s(pid: int) -> float:
    """Of another process; 0 for none."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    raise SystemExit(main())
