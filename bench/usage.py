"""CPU and memory of a server's processes."""

from __future__ import annotations

import threading
from pathlib import Path

import psutil

_PAUSE_S = 1.0  # reading the maps of a large process is no small thing


class Usage:
    """CPU seconds and memory of a process and its children, sampled once a second for the highest."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._peak_bytes = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    @property
    def peak_bytes(self) -> int:
        return max(self._peak_bytes, self.memory_bytes())

    def cpu_s(self) -> float:
        """User and system time so far, ended children included."""
        total = 0.0
        for process in self._tree():
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
            if process == self._root:
                total += times.children_user + times.children_system
        return total

    def memory_bytes(self) -> int:
        """Memory in RAM now, each page once: see ``_Memory``."""
        memory = [_Memory.of(process) for process in self._tree()]
        return sum(one.own for one in memory) + max((one.files for one in memory), default=0)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stopped.wait(_PAUSE_S):
            self._peak_bytes = max(self._peak_bytes, self.memory_bytes())

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return []


class _Memory:
    """own: bytes of the process's own, what forked processes share divided among them. files: of mapped files.

    Plain PSS would divide the pages of libraries among all processes of the machine that have them mapped, and so
    flatter whatever runs twice; here the files count in full, once for the tree.
    """

    def __init__(self, own: int, files: int) -> None:
        self.own, self.files = own, files

    @classmethod
    def of(cls, process: psutil.Process) -> _Memory:
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
            found = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines[1:])}
            return cls(found["Pss_Anon"] + found["Pss_Shmem"], found["Rss"] - found["Anonymous"])
        except (OSError, KeyError, ValueError, IndexError):
            pass
        try:
            return cls(process.memory_info().rss, 0)
        except psutil.Error:
            return cls(0, 0)
