"""The real server as a subprocess, for tests that speak to it over the wire.

``Server`` starts ``python -m pacs serve`` on free loopback ports over a folder of its own, and waits until it says
that it is ready. ``dcmtk`` runs one of DCMTK's tools by its full path: pynetdicom installs commands of the same names
in the venv.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import obstore
from obstore.store import from_url

from pacs import store_options
from scripts.local_cluster.process import free_port

PROJECT = Path(__file__).resolve().parent.parent
READY_MARK = "Stop with"  # last line of what `pacs serve` prints when it is ready
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


class Server:
    """One archive. folder: home of this server; its data lie in ``folder/data``, its log in ``folder/server.log``.

    env: further settings by their environment names. Ports stay the same over ``restart``.
    """

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str] | None = None,
        *,
        ae_title: str = "DCMQRSCP",
        args: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.ae_title = ae_title
        self.args = args
        self.dimse_port = free_port()
        self.http_port = free_port()
        self.http_url = f"http://127.0.0.1:{self.http_port}"
        self.dicomweb_url = f"{self.http_url}/dicom-web"
        self.peers_path = folder / "ae.properties"
        self.log_path = folder / "server.log"
        self.env = {
            **clean_environment(),
            "PACS_HOME": str(folder),
            "DICOM_STORE_ROOTPATH": str(self.data),
            "DIMSE_AE_TITLE": ae_title,
            "DIMSE_HOSTNAME": "127.0.0.1",
            "DIMSE_PORT": str(self.dimse_port),
            "DIMSE_AE_CONFIG": str(self.peers_path),
            "SERVER_HOST": "127.0.0.1",
            "SERVER_PORT": str(self.http_port),
            # One process, whose memory and descriptors a test can look at; test_workers has several.
            "SERVER_WORKERS": "1",
            **(env or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if not self.peers_path.exists():
            self.peers_path.write_text("# peers of this test\n")

    def start(self) -> Self:
        """Start and wait until ready. Raises AssertionError with the log when it does not come up."""
        assert self.process is None, "already started"
        begin = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pacs", "serve", *self.args],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # kill() takes its pixel workers with it
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while READY_MARK.encode() not in self.log_path.read_bytes()[begin:]:
            code = self.process.poll()
            if code is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"server not ready (exit code {code}):\n{self.log()[-4000:]}")
            time.sleep(0.02)
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None, "not running"
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> int:
        """SIGTERM, as a service manager does. Returns the exit code; nothing when it is not running."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"server did not stop on SIGTERM:\n{self.log()[-4000:]}") from None
        finally:
            self.process = None

    def kill(self) -> None:
        """SIGKILL to the server and its workers: a crash."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def rss_bytes(self) -> int:
        """Resident memory of the server process now (its workers left out)."""
        return _status_bytes(self.pid, "VmRSS")

    def peak_rss_bytes(self) -> int:
        """Highest resident memory of the server process so far."""
        return _status_bytes(self.pid, "VmHWM")

    def add_peer(self, ae_title: str, port: int, host: str = "127.0.0.1") -> None:
        """Register a C-MOVE destination in this server's ae.properties (it is re-read when it changes)."""
        with self.peers_path.open("a") as peers:
            peers.write(f"{ae_title}={host}:{port}\n")

    def pacs(self, *args: str, timeout_s: float = 120, input_text: str = "") -> subprocess.CompletedProcess[str]:
        """Run another pacs command with this server's settings; exit code and output are the caller's to check."""
        return subprocess.run(
            [sys.executable, "-m", "pacs", *args],
            cwd=self.folder,
            env=self.env,
            input=input_text,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def files(self) -> list[Path]:
        """DICOM files that lie in the store now; those being received, moved aside or copied are left out.

        Of an object store their keys.
        """
        if "DICOM_STORE_URL" in self.env:
            return sorted(Path(key) for key in self._objects() if key.endswith(".dcm"))
        paths = (path for path in self.data.rglob("*") if path.is_file())
        return sorted(path for path in paths if not self._is_set_aside(path) and is_part10(path))

    def _objects(self) -> list[str]:
        options = store_options.parse(self.env["DICOM_STORE_OPTIONS"])
        is_http = {"allow_http": options.pop("allow_http", "false") == "true"}
        store = from_url(self.env["DICOM_STORE_URL"], config=options, client_options=is_http)  # type: ignore[call-overload]
        return [entry["path"] for batch in obstore.list(store) for entry in batch]

    def _is_set_aside(self, path: Path) -> bool:
        return bool({"incoming", "orphans", "cache"} & set(path.relative_to(self.data).parts[:-1]))

    def __enter__(self) -> Self:
        return self if self.is_running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def dcmtk(tool: str, *args: str | Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run /usr/bin/<tool>; stdout and stderr are joined in ``stdout``, the exit code is the caller's to check."""
    return subprocess.run(
        [f"/usr/bin/{tool}", *map(str, args)],
        env=dcmtk_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )


def dcmtk_environment() -> dict[str, str]:
    """TCP_NODELAY: without it DCMTK waits 40 ms for a delayed ACK at every exchange."""
    return {**os.environ, "TCP_NODELAY": "1"}


def clean_environment() -> dict[str, str]:
    """What a child process needs of ours: no setting of the developer's shell reaches a server under test."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "SYSTEMROOT")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    return {**environment, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1", "COLUMNS": "100"}


def is_part10(path: Path) -> bool:
    """False for what is gone: a file that was being received, or one of an index at work."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except FileNotFoundError:
        return False


def _status_bytes(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {field} of process {pid}")
