"""What a server tells about itself when it is asked for its metrics, beside what it counts (``pacs.metrics``)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pacs import __version__
from pacs.archive import Archive
from pacs.errors import PacsError
from pacs.metrics import Board, Kind, Labels, Meter, Sample, Sampling

Readings = Mapping[tuple[str, Labels], Callable[[], float]]


def sampling(meter: Meter, archive: Archive, servers: Readings) -> Sampling:
    """What this process alone knows. servers: gauges of its servers."""
    pool, index, retrieve, blobs = (archive.pool, archive.index, archive.retrieve, archive.blobs)
    gauges: Readings = {
        ("pacs_pixel_calls", (("state", "running"),)): lambda: pool.load()[0],
        ("pacs_pixel_calls", (("state", "waiting"),)): lambda: pool.load()[1],
        ("pacs_index_writes_waiting", ()): index.load,
        **servers,
    }
    counts: dict[tuple[str, Labels], Callable[[], float]] = {
        ("pacs_cache_uses", (("cache", "frames"), ("result", "hit"))): lambda: retrieve.made_uses()[0],
        ("pacs_cache_uses", (("cache", "frames"), ("result", "miss"))): lambda: retrieve.made_uses()[1],
    }
    if hasattr(blobs, "hits") and hasattr(blobs, "misses"):  # of an object store
        counts["pacs_cache_uses", (("cache", "objects"), ("result", "hit"))] = lambda: blobs.hits
        counts["pacs_cache_uses", (("cache", "objects"), ("result", "miss"))] = lambda: blobs.misses
    return Sampling(meter, gauges, counts)


def measures(board: Board, archive: Archive, reserve_bytes: int) -> list[Sample]:
    """All there is to tell now. May block. reserve_bytes: that have to stay free on the disk.

    What an index that is away would have told is left out, and ``pacs_up`` is 0.
    """
    samples = [*board.samples(), *_processes(board), _info()]
    try:
        samples += [*_archive(archive, reserve_bytes), _gauge("pacs_up", 1)]
    except PacsError:
        samples.append(_gauge("pacs_up", 0))
    return samples


def _archive(archive: Archive, reserve_bytes: int) -> Iterator[Sample]:
    counts = archive.index.counts()
    for level in ("patients", "studies", "series", "instances"):
        yield _gauge("pacs_stored", getattr(counts, level), ("level", level))
    yield _gauge("pacs_stored_bytes", counts.size_bytes)
    size_bytes = archive.index.size_bytes()
    if size_bytes is not None:
        yield _gauge("pacs_index_bytes", size_bytes)
    free_bytes = archive.blobs.free_bytes()
    if free_bytes is not None:
        yield _gauge("pacs_disk_free_bytes", free_bytes)
    yield _gauge("pacs_disk_reserve_bytes", reserve_bytes)
    for (kind, state), number in archive.index.work.count_jobs().items():
        yield _gauge("pacs_jobs", number, ("kind", kind), ("state", state.name.lower()))


def _processes(board: Board) -> Iterator[Sample]:
    """Of Linux, where one process can see another's."""
    ticks, page_bytes = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for number, pid in board.processes().items():
        labels: Labels = (("worker", str(number)),)
        with suppress(OSError, ValueError, IndexError):
            # The name of the program, in brackets, may hold anything.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            seconds = (int(fields[11]) + int(fields[12])) / ticks
            yield Sample(Kind.COUNTER, "pacs_process_cpu_seconds", labels, (seconds,))
            resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page_bytes
            yield Sample(Kind.GAUGE, "pacs_process_resident_memory_bytes", labels, (resident,))
            threads = int(fields[17])
            yield Sample(Kind.GAUGE, "pacs_process_threads", labels, (threads,))


def _info() -> Sample:
    python = ".".join(map(str, sys.version_info[:3]))
    return _gauge("pacs_build_info", 1, ("version", __version__), ("python", python))


def _gauge(name: str, value: float, *labels: tuple[str, str]) -> Sample:
    return Sample(Kind.GAUGE, name, labels, (value,))
