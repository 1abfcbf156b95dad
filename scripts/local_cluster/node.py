"""One `pacs serve` of a cluster."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.local_cluster.process import Process, StartFailed

PROJECT = Path(__file__).resolve().parent.parent.parent
_READY_MARK = "Stop with"  # in the last line that `pacs serve` prints when it is ready
_START_S = 60.0


@dataclass(frozen=True)
class Address:
    http: int
    dimse: int


class Node:
    """address: its ports on loopback. env: settings, on top of this process's environment."""

    def __init__(self, name: str, folder: Path, address: Address, env: Mapping[str, str]) -> None:
        self.name = name
        self.address = address
        self._folder = folder
        self._env = {
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "PYTHONUNBUFFERED": "1",
            "SERVER_PORT": str(address.http),
            "DIMSE_PORT": str(address.dimse),
            **env,
        }
        self.process: Process | None = None

    def start(self) -> None:
        """Returns when it serves. Raises StartFailed with its log."""
        command = [sys.executable, "-m", "pacs", "serve"]
        self.process = process = Process(command, self._folder / f"{self.name}.log", env=self._env, folder=PROJECT)
        deadline = time.monotonic() + _START_S
        while _READY_MARK not in process.said():
            if not process.is_running or time.monotonic() > deadline:
                process.kill()
                raise StartFailed(self.name, process)
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
