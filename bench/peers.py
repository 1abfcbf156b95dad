"""The archives that are compared, each started on free loopback ports over a folder of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

PROJECT = Path(__file__).resolve().parent.parent
DESTINATION = "STORESCP"  # AE title of the storescp that C-MOVE sends to
ORTHANC = Path("/usr/sbin/Orthanc")
ORTHANC_PLUGINS = Path("/usr/share/orthanc/plugins")
_START_TIMEOUT_S = 60.0


class Peer(ABC):
    """One running archive.

    dicomweb_url, dimse_port, ae_title: where it listens. usage: CPU and memory of its process tree.
    """

    name: str
    ae_title: str

    def __init__(self, folder: Path, destination_port: int) -> None:
        self.folder = folder
        self.dimse_port = free_port()
        self.http_port = free_port()
        self.dicomweb_url = f"http://127.0.0.1:{self.http_port}/dicom-web"
        self._destination_port = destination_port
        self._process: subprocess.Popen[bytes] | None = None
        self.usage: Usage | None = None
        folder.mkdir(parents=True)

    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def _prepare(self) -> tuple[list[str], Mapping[str, str]]:
        """Write what configuration it needs; command line and environment to start it with."""

    def start(self) -> Self:
        command, environment = self._prepare()
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
        self.usage = Usage(self._process.pid)
        return self

    def stop(self) -> None:
        if self.usage is not None:
            self.usage.stop()
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
            time.sleep(0.1)
        log = (self.folder / "server.log").read_text(errors="replace")
        self.stop()
        raise RuntimeError(f"{self.name} did not start:\n{log[-3000:]}")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.dimse_port), 1).close()
            with urllib.request.urlopen(f"{self.dicomweb_url}/studies?limit=1", timeout=5):
                return True
        except urllib.error.HTTPError:
            return False
        except OSError:
            return False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self.stop()


class Pacs(Peer):
    """This project, with its default settings."""

    name = "pacs"
    ae_title = "DCMQRSCP"

    def version(self) -> str:
        import pacs

        python = ".".join(map(str, sys.version_info[:3]))
        return f"pacs {pacs.__version__} (CPython {python})"

    def _prepare(self) -> tuple[list[str], Mapping[str, str]]:
        peers = self.folder / "ae.properties"
        peers.write_text(f"{DESTINATION}=127.0.0.1:{self._destination_port}\n")
        environment = {
            **_plain_environment(),
            "PYTHONPATH": str(PROJECT),
            "PACS_HOME": str(self.folder),
            "DICOM_STORE_ROOTPATH": str(self.folder / "data"),
            "DIMSE_AE_TITLE": self.ae_title,
            "DIMSE_HOSTNAME": "127.0.0.1",
            "DIMSE_PORT": str(self.dimse_port),
            "DIMSE_AE_CONFIG": str(peers),
            "SERVER_HOST": "127.0.0.1",
            "SERVER_PORT": str(self.http_port),
        }
        return [sys.executable, "-m", "pacs", "serve"], environment


class Orthanc(Peer):
    """Debian's Orthanc with its DICOMweb plugin: defaults, but for what lets the bench in at all."""

    name = "Orthanc"
    ae_title = "ORTHANC"

    def version(self) -> str:
        line = _first_line([str(ORTHANC), "--version"])
        number = re.search(r"[\d.]+\d", line)
        plugin = next(iter(ORTHANC_PLUGINS.glob("libOrthancDicomWeb.so*"))).resolve().name
        return f"Orthanc {number[0] if number else line} ({plugin.removeprefix('lib')})"

    def _prepare(self) -> tuple[list[str], Mapping[str, str]]:
        settings = {
            "Name": "bench",
            "StorageDirectory": str(self.folder / "data"),
            "IndexDirectory": str(self.folder / "data"),
            "Plugins": [str(ORTHANC_PLUGINS / "libOrthancDicomWeb.so")],
            "HttpPort": self.http_port,
            "DicomPort": self.dimse_port,
            "DicomAet": self.ae_title,
            "RemoteAccessAllowed": False,
            # Without these the calling tools would have to be registered one by one.
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {"destination": [DESTINATION, "127.0.0.1", self._destination_port]},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(settings, indent=1))
        return [str(ORTHANC), str(path)], _plain_environment()


class Usage:
    """CPU seconds and highest resident memory of a process and its children, sampled ten times a second."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._peak_bytes = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    @property
    def peak_bytes(self) -> int:
        return self._peak_bytes

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

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stopped.wait(0.1):
            resident = 0
            for process in self._tree():
                try:
                    resident += process.memory_info().rss
                except psutil.Error:
                    continue
            self._peak_bytes = max(self._peak_bytes, resident)

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return []


class Destination:
    """A DCMTK storescp that takes what C-MOVE sends and throws it away."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._process = subprocess.Popen(
            ["/usr/bin/storescp", "--fork", "--ignore", "-pm", "+xa", "-aet", DESTINATION, str(self.port)],
            env=_plain_environment(),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


def missing_tools() -> list[str]:
    """What the bench needs of Debian and does not find."""
    tools = [f"/usr/bin/{tool}" for tool in ("storescu", "storescp", "findscu", "movescu", "getscu")]
    needed = [Path(tool) for tool in tools] + [ORTHANC, ORTHANC_PLUGINS / "libOrthancDicomWeb.so"]
    return [path.name for path in needed if not path.exists()]


def dcmtk_version() -> str:
    line = _first_line(["/usr/bin/storescu", "--version"])
    number = re.search(r"v([\d.]+)", line)
    return f"DCMTK {number[1] if number else line}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _plain_environment() -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    # TCP_NODELAY: DCMTK (in Orthanc too) otherwise waits 40 ms for a delayed ACK at every exchange.
    return {**{name: os.environ[name] for name in kept if name in os.environ}, "TCP_NODELAY": "1"}


def _first_line(command: list[str]) -> str:
    executable = shutil.which(command[0])
    assert executable is not None
    run = subprocess.run([executable, *command[1:]], capture_output=True, text=True, check=False)
    return (run.stdout + run.stderr).strip().splitlines()[0]
