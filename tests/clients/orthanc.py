"""Debian's Orthanc with its DICOMweb plugin, which is a DICOMweb client as well."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from tests.server import dcmtk_environment, free_port

ORTHANC = Path("/usr/sbin/Orthanc")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_START_TIMEOUT_S = 60
_TIMEOUT_S = 120


class Orthanc:
    """One Orthanc in ``folder`` that knows one DICOMweb server, named "pacs".

    modalities: AE titles and ports of those who may talk DIMSE with it; it answers as ORTHANC on ``dimse_port``.
    """

    def __init__(self, folder: Path, dicomweb_url: str, modalities: Mapping[str, int] | None = None) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.dimse_port = free_port()
        self._modalities = modalities
        self._folder = folder
        self._server_url = dicomweb_url
        self._session = requests.Session()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "Name": "client",
            "StorageDirectory": str(self._folder / "data"),
            "IndexDirectory": str(self._folder / "data"),
            "Plugins": [str(PLUGIN)],
            "HttpPort": int(self.url.rpartition(":")[2]),
            "DicomServerEnabled": self._modalities is not None,
            "DicomAet": "ORTHANC",
            "DicomPort": self.dimse_port,
            "DicomModalities": {name: [name, "127.0.0.1", port] for name, port in (self._modalities or {}).items()},
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "RemoteAccessAllowed": False,
            "OverwriteInstances": True,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Servers": {"pacs": {"Url": self._server_url}}},
        }
        path = self._folder / "orthanc.json"
        path.write_text(json.dumps(settings, indent=1))
        with (self._folder / "orthanc.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(ORTHANC), "--verbose", str(path)],
                env=dcmtk_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                self._session.get(f"{self.url}/system", timeout=60).raise_for_status()
            except requests.RequestException:
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.05)
            else:
                return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._session.close()

    def log(self) -> str:
        return (self._folder / "orthanc.log").read_text(errors="replace")[-4000:]

    def upload(self, file: bytes) -> str | None:
        """Give it an instance directly; its own name for it, None when it will not have it."""
        answer = self._session.post(f"{self.url}/instances", data=file, timeout=_TIMEOUT_S)
        return str(answer.json()["ID"]) if answer.status_code == 200 else None

    def instances(self) -> list[str]:
        names: list[str] = self._session.get(f"{self.url}/instances", timeout=_TIMEOUT_S).json()
        return names

    def file(self, name: str) -> bytes:
        return self._session.get(f"{self.url}/instances/{name}/file", timeout=_TIMEOUT_S).content

    def ask_server(self, what: str, **body: Any) -> Any:
        """Make it do something with the server: qido, stow, retrieve, get. Raises AssertionError when it fails."""
        answer = self._session.post(f"{self.url}/dicom-web/servers/pacs/{what}", json=body, timeout=_TIMEOUT_S)
        assert answer.status_code == 200, f"{what}: {answer.status_code} {answer.text}\n{self.log()}"
        return answer.json() if answer.content else None
