"""The archives that are compared, each started on free loopback ports over a folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.usage import Usage

PROJECT = Path(__file__).resolve().parent.parent
DESTINATION = "STORESCP"  # AE title of the storescp that C-MOVE sends to
_START_TIMEOUT_S = 60.0
_POLL_S = 0.01


class Peer(ABC):
    """One running archive.

    key: its word on the command line; name: as printed. dicomweb_url, http_port, dimse_port, ae_title: where it
    listens. has_web: speaks HTTP too. ready_s: from start to the first answer. usage: of its process tree.
    holds: studies that it has, of those that rows share.
    """

    key: str
    name: str
    ae_title: str
    has_web = True

    def __init__(self, folder: Path, destination_port: int) -> None:
        self.folder = folder
        self.dimse_port = free_port()
        self.http_port = free_port()
        self.dicomweb_url = f"http://127.0.0.1:{self.http_port}/dicom-web"
        self.destination_port = destination_port
        self.holds: set[int] = set()
        self.ready_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._usage: Usage | None = None
        self._earlier_cpu_s = 0.0
        folder.mkdir(parents=True)

    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def prepare(self) -> tuple[list[str], Mapping[str, str]]:
        """Write what configuration it needs; command line and environment to start it with."""

    @abstractmethod
    def twin(self, folder: Path) -> Peer:
        """Another one like it, over an empty folder."""

    @property
    def usage(self) -> Usage:
        assert self._usage is not None, "not running"
        return self._usage

    def cpu_s(self) -> float:
        """User and system time so far of all that serves it, earlier starts included."""
        return self._earlier_cpu_s + self.usage.cpu_s()

    def begin_run(self) -> None:
        """Before every run; an archive that must be emptied does it here."""
        return

    def notes(self) -> list[str]:
        """What a reader of the table should know of it, after the runs."""
        return []

    def start(self) -> Self:
        command, environment = self.prepare()
        began = time.perf_counter()
        with (self.folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_ready()
        self.ready_s = time.perf_counter() - began
        self._usage = Usage(self._process.pid)
        return self

    def stop(self) -> None:
        if self._usage is not None:
            self._earlier_cpu_s += self._usage.cpu_s()
            self._usage.stop()
            self._usage = None
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            if self._answers():
                return
            time.sleep(_POLL_S)
        self.stop()
        raise RuntimeError(f"{self.name} did not start:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The end of what it has logged."""
        return (self.folder / "server.log").read_text(errors="replace")[-2000:]

    def _answers(self) -> bool:
        try:
            if self.has_web:
                with urllib.request.urlopen(f"{self.dicomweb_url}/studies?limit=1", timeout=5):
                    pass
            socket.create_connection(("127.0.0.1", self.dimse_port), 1).close()
        except (urllib.error.HTTPError, OSError):
            return False
        return True

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self.stop()


class Destination:
    """A DCMTK storescp that takes what C-MOVE sends and throws it away."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._process = subprocess.Popen(
            ["/usr/bin/storescp", "--fork", "--ignore", "-pm", "+xa", "-aet", DESTINATION, str(self.port)],
            env=plain_environment(),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


def dcmtk_version() -> str:
    line = first_line(["/usr/bin/storescu", "--version"])
    number = re.search(r"v([\d.]+)", line)
    return f"DCMTK {number[1] if number else line}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def plain_environment() -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    # TCP_NODELAY: DCMTK (in Orthanc too) otherwise waits 40 ms for a delayed ACK at every exchange.
    return {**{name: os.environ[name] for name in kept if name in os.environ}, "TCP_NODELAY": "1"}


def first_line(command: list[str]) -> str:
    executable = shutil.which(command[0])
    assert executable is not None
    run = subprocess.run([executable, *command[1:]], capture_output=True, text=True, check=False)
    return (run.stdout + run.stderr).strip().splitlines()[0]
