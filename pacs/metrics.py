"""Numbers that all processes of one server count together, in memory that they share.

The memory is mapped before the workers are forked and outlives each of them: a worker that is started again goes on
counting where the one before it stopped, and whichever of them is asked can tell the sum. Each process writes its own
part only, so that no lock is shared; a number is eight aligned bytes, which are written and read as one.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pacs.watching import Associated, Served

# Upper bounds, seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_PART_BYTES = 512 * 1024  # of which only what is written to takes memory
_HEAD = struct.Struct("=QQ")  # bytes in use, process id
_RECORD = struct.Struct("=II")  # bytes of the name, numbers

Labels = tuple[tuple[str, str], ...]


class Kind(StrEnum):
    COUNTER = "c"
    GAUGE = "g"
    HISTOGRAM = "h"


@dataclass(frozen=True, slots=True)
class Sample:
    """values: one number; of a histogram how many fell in each bucket, above the last one, and their sum."""

    kind: Kind
    name: str
    labels: Labels
    values: tuple[float, ...]


class Board:
    """The shared memory, made before any fork. workers: processes that write, numbered from 1."""

    def __init__(self, workers: int = 1) -> None:
        self._parts = [mmap.mmap(-1, _PART_BYTES) for _ in range(workers)]
        for part in self._parts:
            _HEAD.pack_into(part, 0, _HEAD.size, 0)

    def meter(self, number: int = 1) -> Meter:
        """What this process writes with, as worker ``number``. Gauges of one before it are 0 again."""
        return Meter(self._parts[number - 1])

    def samples(self) -> list[Sample]:
        """The sums over all processes."""
        found: dict[tuple[Kind, str, Labels], tuple[float, ...]] = {}
        for part in self._parts:
            for key, offset, length in _records(part):
                values = struct.unpack_from(f"={length}d", part, offset)
                so_far = found.get(key)
                found[key] = tuple(map(sum, zip(so_far, values, strict=True))) if so_far else values
        return [Sample(*key, values) for key, values in sorted(found.items())]

    def processes(self) -> dict[int, int]:
        """Process ids by worker number, of those that have begun."""
        heads = {number: _HEAD.unpack_from(part, 0)[1] for number, part in enumerate(self._parts, 1)}
        return {number: pid for number, pid in heads.items() if pid}


class Meter:
    """Counts, for one process; from any of its threads. What finds no room any more is not counted."""

    def __init__(self, part: mmap.mmap) -> None:
        self._part = part
        self._numbers = memoryview(part).cast("d")
        self._lock = threading.Lock()
        self._places: dict[tuple[Kind, str, Labels], int] = {}
        for key, offset, length in _records(part):
            self._places[key] = offset // 8
            if key[0] is Kind.GAUGE:
                struct.pack_into(f"={length}d", part, offset, *[0.0] * length)
        self._served: dict[tuple[str, str, str, bool], tuple[int, int, int, int]] = {}
        used, _ = _HEAD.unpack_from(part, 0)
        _HEAD.pack_into(part, 0, used, os.getpid())

    def count(self, name: str, amount: float = 1.0, labels: Labels = ()) -> None:
        with self._lock:
            self._numbers[self._place(Kind.COUNTER, name, labels, 1)] += amount

    def set(self, name: str, value: float, labels: Labels = ()) -> None:
        with self._lock:
            self._numbers[self._place(Kind.GAUGE, name, labels, 1)] = value

    def watch(self, event: Served | Associated) -> None:
        """A ``watching.Watch``."""
        if isinstance(event, Served):
            self._note(event)
        elif event.reason:
            self.count("pacs_associations", labels=(("outcome", "rejected"),))
        elif not event.is_end:
            self.count("pacs_associations", labels=(("outcome", "accepted"),))

    def _note(self, served: Served) -> None:
        kind = served.service, served.protocol, served.status, served.is_failure
        bucket = bisect_left(BUCKETS, served.seconds)
        numbers = self._numbers
        with self._lock:
            places = self._served.get(kind) or self._find(kind)
            requests, durations, received, sent = places
            numbers[requests] += 1
            numbers[durations + bucket] += 1
            numbers[durations + len(BUCKETS) + 1] += served.seconds
            numbers[received] += served.received_bytes
            numbers[sent] += served.sent_bytes

    def _find(self, kind: tuple[str, str, str, bool]) -> tuple[int, int, int, int]:
        service, protocol, status, is_failure = kind
        of_service = (("service", service), ("protocol", protocol))
        outcome = "failure" if is_failure else "success"
        places = (
            self._place(Kind.COUNTER, "pacs_requests", (*of_service, ("status", status), ("outcome", outcome)), 1),
            self._place(Kind.HISTOGRAM, "pacs_request_duration_seconds", of_service, len(BUCKETS) + 2),
            self._place(Kind.COUNTER, "pacs_received_bytes", of_service, 1),
            self._place(Kind.COUNTER, "pacs_sent_bytes", of_service, 1),
        )
        self._served[kind] = places
        return places

    def _place(self, kind: Kind, name: str, labels: Labels, length: int) -> int:
        """Where the numbers of a series begin; made when it is not there. The lock is held."""
        key = kind, name, labels
        place = self._places.get(key)
        if place is None:
            place = self._add(key, length)
            self._places[key] = place
        return place

    def _add(self, key: tuple[Kind, str, Labels], length: int) -> int:
        used, pid = _head(self._part)
        name = json.dumps(key).encode()
        offset = used + -(-(_RECORD.size + len(name)) // 8) * 8
        end = offset + length * 8
        if end > _PART_BYTES - (len(BUCKETS) + 2) * 8:
            return (_PART_BYTES - (len(BUCKETS) + 2) * 8) // 8  # the end, which nobody reads
        _RECORD.pack_into(self._part, used, len(name), length)
        self._part[used + _RECORD.size : used + _RECORD.size + len(name)] = name
        # Last, so that a reader never sees half a record.
        _HEAD.pack_into(self._part, 0, end, pid)
        return offset // 8


class Sampling:
    """Brings what parts of a process know of themselves onto the board, whenever ``sample`` is called.

    gauges: what is so now. counts: what only grows, from 0 when the process began.
    """

    def __init__(
        self,
        meter: Meter,
        gauges: Mapping[tuple[str, Labels], Callable[[], float]],
        counts: Mapping[tuple[str, Labels], Callable[[], float]],
    ) -> None:
        self._meter = meter
        self._gauges = gauges
        self._counts = counts
        self._counted: dict[tuple[str, Labels], float] = {}

    def sample(self) -> None:
        for (name, labels), value in self._gauges.items():
            self._meter.set(name, value(), labels)
        for key, value in self._counts.items():
            now = value()
            self._meter.count(key[0], now - self._counted.get(key, 0.0), key[1])
            self._counted[key] = now


def quantile(values: Sequence[float], fraction: float) -> float | None:
    """An estimate, seconds, from the numbers of a histogram: within its bucket as if spread evenly. None: no values."""
    counts = values[: len(BUCKETS) + 1]
    total = sum(counts)
    if not total:
        return None
    wanted, below = fraction * total, 0.0
    for upper, lower, count in zip(BUCKETS, (0.0, *BUCKETS), counts, strict=False):
        if below + count >= wanted and count:
            return lower + (upper - lower) * (wanted - below) / count
        below += count
    return BUCKETS[-1]


def _head(part: mmap.mmap) -> tuple[int, int]:
    """Bytes in use, process id."""
    used, pid = _HEAD.unpack_from(part, 0)
    return int(used), int(pid)


def _records(part: mmap.mmap) -> Iterator[tuple[tuple[Kind, str, Labels], int, int]]:
    """Key, where its numbers begin (bytes), and how many they are."""
    used, _ = _HEAD.unpack_from(part, 0)
    position = _HEAD.size
    while position < used:
        name_bytes, length = _RECORD.unpack_from(part, position)
        begin = position + _RECORD.size
        kind, name, labels = json.loads(part[begin : begin + name_bytes])
        offset = position + -(-(_RECORD.size + name_bytes) // 8) * 8
        yield ((Kind(kind), name, tuple((key, value) for key, value in labels)), offset, length)
        position = offset + length * 8
