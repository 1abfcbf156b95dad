"""Rows of the server as a process: its start, and its memory."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.material import Material
from bench.peers import Peer
from bench.rows import Row, Timing

_IDLE_S = 2.0


def rows() -> list[Row]:
    return [
        Row("start", "start to ready, empty data folder", run=_start, limit=2),
        Row("idle", "memory, idle after the start", run=_idle, limit=150, in_mb=True),
        Row("after", "memory after the whole bench", run=_after, limit=290, in_mb=True, is_last=True),
        Row("peak", "memory, the highest", run=_peak, in_mb=True, is_last=True),
    ]


def _start(peer: Peer, material: Material) -> Timing:
    with _twin(peer) as twin:
        return Timing(twin.ready_s, twin.usage.cpu_s())


def _idle(peer: Peer, material: Material) -> float:
    with _twin(peer) as twin:
        time.sleep(_IDLE_S)
        return twin.usage.memory_bytes() / 1e6


def _after(peer: Peer, material: Material) -> float:
    return peer.usage.memory_bytes() / 1e6


def _peak(peer: Peer, material: Material) -> float:
    return peer.usage.peak_bytes / 1e6


@contextmanager
def _twin(peer: Peer) -> Iterator[Peer]:
    folder = peer.folder.with_name(f"{peer.folder.name}_twin")
    try:
        with peer.twin(folder) as twin:
            yield twin
    finally:
        shutil.rmtree(folder, ignore_errors=True)
