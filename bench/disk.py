"""What the disk takes by itself: the same files, written and made durable, without archive, index and client.

No archive that answers after its fsync is faster than this, so a bar beyond it cannot be met on the machine at hand.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

from bench.material import Material
from bench.rows import Row
from pacs.blobs.early_writing import start_writing

_fork = multiprocessing.get_context("fork")

Disk = Callable[[Material, Path], float]


def rows(table: Sequence[Row]) -> dict[str, Disk]:
    """By key of the row: seconds that the disk needs for its files, in a folder that does not exist yet."""
    found: dict[str, Disk] = {
        "store1": lambda material, folder: _one_by_one(folder, [material.ct.folder]),
        "store4": lambda material, folder: _one_by_one(folder, [quarter.folder for quarter in material.quarters]),
        "small": lambda material, folder: _one_by_one(folder, material.small),
        "stow": lambda material, folder: _together(folder, material.series.folder),
        "import": lambda material, folder: _together(folder, material.imported),
    }
    return {row.key: found[row.key] for row in table if row.key in found}


def _one_by_one(folder: Path, senders: Sequence[Path]) -> float:
    """As C-STORE needs it: each file is durable before its sender's next one comes; a process for each sender."""
    begin = _fork.Barrier(len(senders) + 1)
    processes = [
        _fork.Process(target=_write_each, args=(folder / str(number), sorted(sender.iterdir()), begin))
        for number, sender in enumerate(senders)
    ]
    for process in processes:
        process.start()
    begin.wait()
    began = time.perf_counter()
    for process in processes:
        process.join()
    seconds = time.perf_counter() - began
    assert all(process.exitcode == 0 for process in processes), "the disk could not be written"
    return seconds


def _write_each(folder: Path, sources: Sequence[Path], begin: Barrier) -> None:
    folder.mkdir(parents=True)
    begin.wait()
    for source in sources:
        file = _written(source, folder)
        os.fsync(file)
        os.close(file)


def _together(folder: Path, source: Path) -> float:
    """As one request, or an import, needs it: all are durable at its end."""
    folder.mkdir(parents=True)
    sources = sorted(source.iterdir())
    began = time.perf_counter()
    files = [_written(source, folder) for source in sources]
    for file in files:
        os.fsync(file)
        os.close(file)
    return time.perf_counter() - began


def _written(source: Path, folder: Path) -> int:
    file = os.open(folder / source.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    data = source.read_bytes()
    assert os.write(file, data) == len(data)
    start_writing(file)
    return file
