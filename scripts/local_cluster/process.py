"""A child process with a log file, and free ports."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# Below the ports that the system hands out by itself (from 32768 on), and each process in turn from a part of its own:
# nobody else is given a port between its choice and its use, nor while the server that it was chosen for is down.
_PART = 2_000
_BEGIN = 11_000 + os.getpid() % 10 * _PART
_TURN = random.randrange(_PART)
_PORTS = itertools.cycle([*range(_BEGIN + _TURN, _BEGIN + _PART), *range(_BEGIN, _BEGIN + _TURN)])


class Process:
    """One child in a process group of its own: Ctrl-C on the terminal reaches the one who started it only."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log_begin = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def said(self) -> str:
        """What it has logged since this start."""
        with self.log.open("rb") as file:
            file.seek(self.log_begin)
            return file.read().decode(errors="replace")

    def stop(self, grace_s: float = 40.0) -> None:
        """SIGTERM, then SIGKILL to it and its children when it does not end in time. Idempotent."""
        if self.is_running:
            self._process.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to it and its children: a crash. Idempotent."""
        if self.is_running:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class StartFailed(Exception):
    """Something did not come up; the message ends with its log."""

    def __init__(self, what: str, process: Process) -> None:
        super().__init__(f"{what} did not start; {process.log} ends with:\n{process.said()[-2000:]}")


def free_port() -> int:
    """A loopback port that nobody listens on now. Raises OSError when there is none."""
    for port in itertools.islice(_PORTS, _PART):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")
